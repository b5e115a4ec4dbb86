import NodeKit

/// A JSON value with places for variables in its texts.
///
/// A text that is a variable and nothing else, `"{name}"`, becomes the variable's value with its type, and `null` if the message does
/// not have it. The value is read once and filled by value, so nothing that a device says can end a text or add a member.
indirect enum JSONTemplate {
    case constant(JSON)
    case variable(String)
    case text(TextTemplate)
    case array([JSONTemplate])
    case object([(name: String, value: JSONTemplate)])

    /// Reads a template.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if the text is no JSON, or a brace in a text has no partner.
    init(parsing text: String) throws(NodeError) {
        let value: JSON
        do {
            value = try JSON(parsing: text)
        } catch {
            throw NodeError("bad-value", "'json' is \(error)", cause: error)
        }
        try self.init(value)
    }

    private init(_ value: JSON) throws(NodeError) {
        switch value {
        case .null, .bool, .integer, .double: self = .constant(value)
        case .string(let text):
            let template = try TextTemplate(text)
            if let constant = template.constantText {
                self = .constant(.string(constant))
            } else {
                self = template.onlyVariable.map(Self.variable) ?? .text(template)
            }
        case .array(let elements):
            var templates: [JSONTemplate] = []
            for element in elements { templates.append(try JSONTemplate(element)) }
            self = .array(templates)
        case .object(let object):
            var members: [(name: String, value: JSONTemplate)] = []
            for member in object.members { members.append((member.name, try JSONTemplate(member.value))) }
            self = .object(members)
        }
    }

    /// The value for a message.
    func value(for message: Message) -> JSON {
        switch self {
        case .constant(let value): value
        case .variable(let name): message.value(forVariable: name) ?? .null
        case .text(let template): .string(template.text(for: message) { $0 })
        case .array(let elements): .array(elements.map { $0.value(for: message) })
        case .object(let members): .object(JSON.Object(members.map { ($0.name, $0.value.value(for: message)) }))
        }
    }
}
