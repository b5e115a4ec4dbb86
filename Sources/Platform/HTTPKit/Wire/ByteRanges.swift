/// Which bytes a client asks for: `Range` (RFC 9110 §14.1.2).
enum ByteRanges {
    /// How many ranges a request may have; one with more gets the whole (RFC 9110 §14.2).
    static let max = 16
    /// Ranges with no more bytes than these between them are sent as one: a part's head takes about as many
    /// (RFC 9110 §15.3.7.2).
    static let gap: Int64 = 80

    /// The part of a representation that is sent.
    enum Selection: Hashable, Sendable {
        /// All of it: 200.
        case whole
        /// These bytes, zero-based, not empty, and none of them twice: 206.
        case parts([Range<Int64>])
        /// None of the bytes asked for exist: 416.
        case unsatisfiable
    }

    /// Reads the field.
    ///
    /// Other units, malformed fields and too many ranges are ignored, as RFC 9110 §14.2 has it. So that nobody gets more by
    /// asking in pieces than by asking for all, ranges that overlap become one.
    ///
    /// - Parameters:
    ///   - field: The field's value.
    ///   - size: How many bytes there are.
    /// - Returns: What to send.
    static func selection(_ field: String, size: Int64) -> Selection {
        let prefix = "bytes="
        guard field.utf8.count > prefix.utf8.count, field.prefix(prefix.count).lowercased() == prefix else {
            return .whole
        }
        var parts: [Range<Int64>] = []
        var count = 0
        for spec in field.dropFirst(prefix.count).utf8.split(separator: UInt8(ascii: ","), maxSplits: 4 * Self.max) {
            let spec = Self.trimmed(spec)
            // RFC 9110 §5.6.1: empty elements of a list do not count.
            if spec.isEmpty { continue }
            count += 1
            guard count <= Self.max, let range = Self.range(spec, size: size) else { return .whole }
            if !range.isEmpty { Self.add(range, to: &parts) }
        }
        guard count > 0 else { return .whole }
        return parts.isEmpty ? .unsatisfiable : .parts(parts)
    }

    /// The bytes of `first-last`, `first-` or `-count`; none if they do not exist, `nil` if the text is malformed.
    private static func range(_ spec: Substring.UTF8View, size: Int64) -> Range<Int64>? {
        guard let dash = spec.firstIndex(of: UInt8(ascii: "-")) else { return nil }
        let first = spec[..<dash]
        let last = spec[spec.index(after: dash)...]
        if first.isEmpty {
            guard let count = Self.number(last) else { return nil }
            return Swift.max(0, size - count)..<size
        }
        guard let start = Self.number(first) else { return nil }
        if last.isEmpty { return Swift.min(start, size)..<size }
        guard let end = Self.number(last), end >= start else { return nil }
        return start < size ? start..<Swift.min(end, size - 1) + 1 : size..<size
    }

    /// Adds a range, at its place in the order of the request, or to those that it touches.
    private static func add(_ range: Range<Int64>, to parts: inout [Range<Int64>]) {
        var range = range
        var place = parts.endIndex
        // What grew may touch yet another, so the search begins anew.
        var index = parts.endIndex
        while index > parts.startIndex {
            index -= 1
            let part = parts[index]
            guard range.lowerBound <= part.upperBound + Self.gap, part.lowerBound <= range.upperBound + Self.gap else {
                continue
            }
            range = Swift.min(part.lowerBound, range.lowerBound)..<Swift.max(part.upperBound, range.upperBound)
            parts.remove(at: index)
            place = Swift.min(place, index)
            index = parts.endIndex
        }
        parts.insert(range, at: place)
    }

    private static func trimmed(_ text: Substring.UTF8View) -> Substring.UTF8View {
        func isSpace(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        var text = text.drop(while: isSpace)
        while let last = text.last, isSpace(last) { text.removeLast() }
        return text
    }

    /// A number of digits only; one that does not fit counts as the greatest.
    private static func number(_ digits: Substring.UTF8View) -> Int64? {
        guard !digits.isEmpty, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
            return nil
        }
        return Int64(Substring(digits)) ?? .max
    }
}
