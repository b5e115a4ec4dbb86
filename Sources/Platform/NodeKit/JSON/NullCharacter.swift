/// A text of a peer has the character U+0000 in it, which is refused everywhere and by this one rule.
///
/// For SQLite, libxml2 and C such a text ends there, so what was stored or compared would be another one.
public struct NullCharacter: Error, Hashable, Sendable, CustomStringConvertible {
    /// The most Unicode scalars of a field's name that are shown.
    static let fieldLengthMax = 128

    /// The name of the field, as the peer knows it; U+0000 in the name itself is written `\u0000`.
    public private(set) var field: String

    /// Names the field that has the character in it.
    public init(in field: String) {
        let shown = field.utf8.contains(0) ? Self.escaped(field) : field
        self.field = String(shown.unicodeScalars.prefix(Self.fieldLengthMax))
    }

    /// Refuses a text that has the character in it.
    ///
    /// - Parameters:
    ///   - text: What a peer sent.
    ///   - field: The name of its field.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest``, caused by a ``NullCharacter``.
    public static func refuse(in text: String, _ field: @autoclosure () -> String) throws(NodeError) {
        if text.utf8.contains(0) { throw NullCharacter(in: field()).refusal }
    }

    /// The field is in a member of an object with this name, or in an element of an array.
    func within(_ outer: String) -> NullCharacter {
        let isJoined = self.field.isEmpty || self.field.hasPrefix("[")
        return NullCharacter(in: isJoined ? outer + self.field : "\(outer).\(self.field)")
    }

    /// The error that a node or an ingress answers.
    public var refusal: NodeError { NodeError(.badRequest, self.description, cause: self) }

    /// A sentence for the sender of the text.
    public var description: String { "'\(self.field)' must not have the character U+0000 in it" }

    private static func escaped(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            if scalar.value == 0 { escaped += "\\u0000" } else { escaped.unicodeScalars.append(scalar) }
        }
        return escaped
    }
}

extension NodeError {
    /// Text that a peer sent is not JSON, or has U+0000 in it.
    ///
    /// - Parameters:
    ///   - what: The text, as the beginning of a sentence, such as `the payload`.
    ///   - error: What is wrong with it.
    public init(unreadable what: String, _ error: JSONSyntaxError) {
        if let null = error.null {
            self = null.field.isEmpty ? NullCharacter(in: what).refusal : null.refusal
        } else {
            self.init(.badRequest, "\(what) is \(error)", cause: error)
        }
    }

    /// Whether a text was refused because of U+0000.
    public var isNullCharacter: Bool { self.cause is NullCharacter }
}
