import NodeKit

/// A text with places for variables: `{name}` stands for a variable's value, `{{` and `}}` for a brace.
struct TextTemplate {
    private enum Part {
        case text(String)
        case variable(String)
    }

    private var parts: [Part] = []

    /// Reads a template.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if a brace has no partner or nothing between.
    init(_ template: String) throws(NodeError) {
        var text = ""
        var rest = template[...]
        while let character = rest.popFirst() {
            switch character {
            case "{" where rest.first == "{", "}" where rest.first == "}":
                text.append(character)
                rest.removeFirst()
            case "{":
                guard let end = rest.firstIndex(of: "}"), end > rest.startIndex else {
                    throw NodeError(
                        "bad-value",
                        "'{' must be followed by a variable's name and '}'; write '{{' for a brace"
                    )
                }
                self.add(text)
                self.parts.append(.variable(String(rest[..<end])))
                text = ""
                rest = rest[rest.index(after: end)...]
            case "}":
                throw NodeError("bad-value", "'}' closes nothing; write '}}' for a brace")
            default:
                text.append(character)
            }
        }
        self.add(text)
    }

    private mutating func add(_ text: String) {
        if !text.isEmpty { self.parts.append(.text(text)) }
    }

    /// The variable, if the template is one and nothing else.
    var onlyVariable: String? {
        guard self.parts.count == 1, case .variable(let name) = self.parts[0] else { return nil }
        return name
    }

    /// The text, if there is no variable in it.
    var constantText: String? {
        switch self.parts.first {
        case nil: return ""
        case .text(let text): return self.parts.count == 1 ? text : nil
        case .variable: return nil
        }
    }

    /// The text for a message, with values as `shown` makes them; a variable that the message does not have is left out.
    func text(for message: Message, _ shown: (String) -> String) -> String {
        var filled = ""
        for part in self.parts {
            switch part {
            case .text(let text): filled += text
            case .variable(let name):
                if let value = message.value(forVariable: name) { filled += shown(value.text) }
            }
        }
        return filled
    }
}
