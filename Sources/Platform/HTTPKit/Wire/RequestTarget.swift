/// What a request is for: the path and the query of its target in origin form (RFC 9112 §3.2.1).
///
/// Its bytes are where they came in, and valid only during the call that it is passed to.
public struct RequestTarget {
    /// The path with its escapes; begins with a slash.
    public let path: HeadBytes
    /// What follows the question mark, with its escapes and without a fragment; empty if there is none.
    public let query: HeadBytes

    /// Takes a target apart; `nil` for one that names nothing that is served.
    ///
    /// - Parameter target: A target in origin form, or in absolute form, of which the host does not count here
    ///   (RFC 9112 §3.2.2).
    public init?(_ target: HeadBytes) {
        guard let origin = Self.originForm(target) else { return nil }
        let pathEnd = origin.firstIndex { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") } ?? origin.count
        self.path = origin.part(0..<pathEnd)
        guard pathEnd < origin.count, origin[pathEnd] == UInt8(ascii: "?") else {
            self.query = origin.part(pathEnd..<pathEnd)
            return
        }
        let queryEnd = origin.first(UInt8(ascii: "#"), from: pathEnd + 1) ?? origin.count
        self.query = origin.part(pathEnd + 1..<queryEnd)
    }

    private static func originForm(_ target: HeadBytes) -> HeadBytes? {
        if target.first == UInt8(ascii: "/") { return target }
        for scheme in ["http://", "https://"] as [StaticString] where target.count > scheme.utf8CodeUnitCount {
            let start = scheme.utf8CodeUnitCount
            guard target.part(0..<start).equalsIgnoringCase(scheme) else { continue }
            return target.first(UInt8(ascii: "/"), from: start).map { target.part($0..<target.count) }
        }
        return nil
    }

    /// The parts of the path between slashes, from the first slash on; some may be empty.
    public var segments: PathSegments { PathSegments(rest: self.path.part(min(1, self.path.count)..<self.path.count)) }

    /// The parameters of the query, in order.
    public var parameters: QueryParameters { QueryParameters(rest: self.query) }
}

/// The parts of a path between slashes, with their escapes, including empty ones.
public struct PathSegments {
    private var rest: HeadBytes?

    init(rest: HeadBytes) { self.rest = rest }

    /// The next part; `nil` after the last.
    public mutating func next() -> HeadBytes? {
        guard let rest = self.rest else { return nil }
        guard let slash = rest.first(UInt8(ascii: "/")) else {
            self.rest = nil
            return rest
        }
        self.rest = rest.part(slash + 1..<rest.count)
        return rest.part(0..<slash)
    }
}

/// The parameters of a query (`name=value&…`), with their escapes.
public struct QueryParameters {
    private var rest: HeadBytes

    init(rest: HeadBytes) { self.rest = rest }

    /// The next parameter, with an empty value if it has none; `nil` after the last.
    public mutating func next() -> (name: HeadBytes, value: HeadBytes)? {
        while !self.rest.isEmpty {
            let end = self.rest.first(UInt8(ascii: "&")) ?? self.rest.count
            let pair = self.rest.part(0..<end)
            self.rest = self.rest.part(min(end + 1, self.rest.count)..<self.rest.count)
            guard !pair.isEmpty else { continue }
            guard let sign = pair.first(UInt8(ascii: "=")) else { return (pair, pair.part(pair.count..<pair.count)) }
            return (pair.part(0..<sign), pair.part(sign + 1..<pair.count))
        }
        return nil
    }
}

extension HeadBytes {
    /// A segment of a path without its escapes.
    ///
    /// - Returns: The text.
    /// - Throws: ``Rejection/badRequest(_:)`` for what could be taken for another path by whatever reads it next: dot
    ///   segments, slashes and control characters that hide in escapes.
    public func pathText() throws(Rejection) -> String {
        let text = try PercentCoding.decode(self, plusIsSpace: false, of: "path")
        guard text != ".", text != ".." else { throw .badRequest("the path has a dot segment") }
        for byte in text.utf8
        where byte < 0x20 || byte == 0x7F || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "\\") {
            throw .badRequest("the path has an escaped slash, backslash or control character")
        }
        return text
    }

    /// The value of a parameter without its escapes, in which `+` is a space.
    ///
    /// - Parameter name: The parameter's name, for errors.
    /// - Returns: The text.
    /// - Throws: ``Rejection/badRequest(_:)`` for an escape that is cut off, is not hexadecimal, or gives no UTF-8 or U+0000.
    public func parameterText(of name: String) throws(Rejection) -> String {
        try PercentCoding.decode(self, plusIsSpace: true, of: name)
    }
}
