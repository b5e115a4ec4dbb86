/// The order of versions, as `version-compare` in conditions has it.
///
/// Pieces between `.`, `-` and `_` are compared one by one: digits as numbers of any length, anything else as text. A number
/// is later than a text, so that `1.0-rc1` comes before `1.0`; missing numbers are zero, so that `1.0` equals `1.0.0`. A
/// leading `v` and build metadata after `+` do not count.
enum VersionOrder {
    /// -1 if `a` is earlier than `b`, 1 if it is later, 0 if neither.
    static func compare(_ a: String, _ b: String) -> Int {
        let a = self.pieces(a)
        let b = self.pieces(b)
        let zero = Substring("0").utf8
        for index in 0..<max(a.count, b.count) {
            let order = self.comparePieces(index < a.count ? a[index] : zero, index < b.count ? b[index] : zero)
            if order != 0 { return order }
        }
        return 0
    }

    private static func pieces(_ version: String) -> [Substring.UTF8View] {
        var text = version.prefix { $0 != "+" }
        if text.first == "v" || text.first == "V" { text = text.dropFirst() }
        return text.split(omittingEmptySubsequences: false) { $0 == "." || $0 == "-" || $0 == "_" }.map(\.utf8)
    }

    private static func comparePieces(_ a: Substring.UTF8View, _ b: Substring.UTF8View) -> Int {
        let isNumber = (self.isNumber(a), self.isNumber(b))
        guard isNumber == (true, true) else {
            if isNumber.0 != isNumber.1 { return isNumber.0 ? 1 : -1 }
            return a.lexicographicallyPrecedes(b) ? -1 : b.lexicographicallyPrecedes(a) ? 1 : 0
        }
        let a = a.drop { $0 == UInt8(ascii: "0") }
        let b = b.drop { $0 == UInt8(ascii: "0") }
        if a.count != b.count { return a.count < b.count ? -1 : 1 }
        return a.lexicographicallyPrecedes(b) ? -1 : b.lexicographicallyPrecedes(a) ? 1 : 0
    }

    private static func isNumber(_ piece: Substring.UTF8View) -> Bool {
        !piece.isEmpty && piece.allSatisfy { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
    }
}
