import Logging
public import NodeKit

/// Writes a line to the log for each message.
///
/// The line holds what its template asks for and who the message is about, never the message's data unless asked.
///
/// | Relation  | When                |
/// |-----------|---------------------|
/// | `Success` | Always.             |
public struct LogNode: ImmediateNode {
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
    public func decide(_ message: Message) throws -> Emission {
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

/// A line for the log with places for variables.
struct LogTemplate {
    /// The most characters of a variable's value that join a line.
    static let valueLengthMax = 256

    private let template: TextTemplate

    /// Reads a template.
    ///
    /// - Throws: ``NodeError`` as ``TextTemplate``.
    init(_ template: String) throws(NodeError) { self.template = try TextTemplate(template) }

    /// The line for a message; a variable that it does not have is left out.
    func text(for message: Message) -> String { self.template.text(for: message) { Self.printable($0) } }

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
