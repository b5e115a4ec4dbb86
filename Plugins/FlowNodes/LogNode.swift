import Logging
public import NodeKit

/// Writes a line to the log for each message.
///
/// The line holds what its template asks for and who the message is about, never the message's data unless asked.
///
/// | Relation  | When                |
/// |-----------|---------------------|
/// | `Success` | Always.             |
public struct LogNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "log",
        summary: "Writes a line to the log for each message.",
        relations: [RelationDescriptor(.success, "Always.")],
        attributes: [
            .string(
                "level",
                default: Logger.Level.info.rawValue,
                oneOf: Logger.Level.allCases.map(\.rawValue),
                summary: "How important the line is."
            ),
            .string(
                "message",
                default: "{type} of {deviceName}",
                summary: "The line; {name} stands for a variable's value, {{ and }} for a brace."
            ),
            .boolean("with-data", default: false, summary: "Whether the message's data joins the line."),
        ]
    )

    /// The most bytes of the message's data that join a line.
    static let dataLengthMax = 1024

    private let level: Logger.Level
    private let template: LogTemplate
    private let isWithData: Bool
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if a brace of the template has no partner.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.level = Logger.Level(rawValue: configuration.string("level")) ?? .info
        self.template = try LogTemplate(configuration.string("message"))
        self.isWithData = configuration.boolean("with-data")
        self.logger = services.logger
    }

    /// Writes the line, if the log takes lines of this level.
    public func process(_ message: Message) async throws -> Emission {
        if self.level >= self.logger.logLevel {
            var metadata: Logger.Metadata = ["device.name": "\(LogTemplate.printable(message.originator.name))"]
            if self.isWithData { metadata["message.data"] = "\(Self.text(of: message.data))" }
            self.logger.log(level: self.level, "\(self.template.text(for: message))", metadata: metadata)
        }
        return .route(message, to: .success)
    }

    private static func text(of data: MessageData) -> String {
        switch data {
        case .none: ""
        case .json(let value): LogTemplate.printable(value.description, lengthMax: self.dataLengthMax)
        case .bytes(let bytes): "\(bytes.readableBytes) bytes"
        }
    }
}

/// A text with places for variables.
struct LogTemplate {
    private enum Part {
        case text(String)
        case variable(String)
    }

    /// The most characters of a variable's value that join a line.
    static let valueLengthMax = 256

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
                self.parts.append(.text(text))
                self.parts.append(.variable(String(rest[..<end])))
                text = ""
                rest = rest[rest.index(after: end)...]
            case "}":
                throw NodeError("bad-value", "'}' closes nothing; write '}}' for a brace")
            default:
                text.append(character)
            }
        }
        self.parts.append(.text(text))
    }

    /// The line for a message; a variable that it does not have is left out.
    func text(for message: Message) -> String {
        var line = ""
        for part in self.parts {
            switch part {
            case .text(let text): line += text
            case .variable(let name):
                if let value = message.value(forVariable: name) { line += Self.printable(value.text) }
            }
        }
        return line
    }

    /// A text that may be a device's own word, short and on one line, so that it cannot pass for a line of its own.
    static func printable(_ text: String, lengthMax: Int = Self.valueLengthMax) -> String {
        var line = String.UnicodeScalarView()
        var count = 0
        for scalar in text.unicodeScalars {
            guard count < lengthMax else {
                line.append("…")
                break
            }
            count += 1
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: line.append("\u{FFFD}")
            default: line.append(scalar)
            }
        }
        return String(line)
    }
}
