/// What a client asks of a download beside its bytes: only if they changed, or only some of them (RFC 9110 §13, §14).
enum Conditions {
    /// The part of a representation that is sent.
    enum Selection: Hashable, Sendable {
        /// All of it: 200.
        case whole
        /// These bytes, zero-based and not empty: 206.
        case part(Range<Int64>)
        /// None of the bytes asked for exist: 416.
        case unsatisfiable
    }

    /// Whether the client has these bytes already: `If-None-Match` (RFC 9110 §13.1.2), compared weakly.
    static func isUnchanged(ifNoneMatch field: String?, entityTag: String?) -> Bool {
        guard let field, let entityTag else { return false }
        if field.utf8.elementsEqual("*".utf8) { return true }
        return field.split(separator: ",").contains { candidate in
            var candidate = candidate.drop { $0 == " " || $0 == "\t" }
            if candidate.hasPrefix("W/") { candidate = candidate.dropFirst(2) }
            while candidate.last == " " || candidate.last == "\t" { candidate.removeLast() }
            return candidate == entityTag
        }
    }

    /// What to send for `Range` and `If-Range`.
    ///
    /// Several ranges, other units and malformed fields are ignored, as RFC 9110 §14.2 allows.
    static func selection(range field: String?, ifRange: String?, entityTag: String?, size: Int64) -> Selection {
        guard let field else { return .whole }
        // RFC 9110 §13.1.5: a strong comparison; a date never matches, as no Last-Modified is sent.
        if let ifRange, ifRange != entityTag { return .whole }
        let prefix = "bytes="
        guard field.utf8.count > prefix.utf8.count, field.prefix(prefix.count).lowercased() == prefix else {
            return .whole
        }
        let spec = field.dropFirst(prefix.count).utf8
        guard let dash = spec.firstIndex(of: UInt8(ascii: "-")) else { return .whole }
        let first = spec[..<dash]
        let last = spec[spec.index(after: dash)...]
        if first.isEmpty {
            guard let count = Self.number(last) else { return .whole }
            guard count > 0, size > 0 else { return .unsatisfiable }
            return .part(max(0, size - count)..<size)
        }
        guard let start = Self.number(first) else { return .whole }
        if last.isEmpty { return start < size ? .part(start..<size) : .unsatisfiable }
        guard let end = Self.number(last), end >= start else { return .whole }
        return start < size ? .part(start..<(min(end, size - 1) + 1)) : .unsatisfiable
    }

    /// A number of digits only; one that does not fit counts as the greatest.
    private static func number(_ digits: Substring.UTF8View) -> Int64? {
        guard !digits.isEmpty, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
            return nil
        }
        return Int64(Substring(digits)) ?? .max
    }
}
