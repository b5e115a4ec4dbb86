public import NodeKit

/// Lets a message wait as long as a condition holds: asks again later, and says why.
///
/// Use it for devices that must not be updated now: the battery is low, the device is in use, its site is closed. The node sends the
/// message back to the queue before it, such as a `throttle`, which tries it again later and lets other messages go meanwhile. That
/// is no failure; the queue stores the code and the reason, for whoever asks why the device was not notified.
///
/// | Relation  | When                                 |
/// |-----------|--------------------------------------|
/// | `Success` | The condition does not hold.         |
/// | `Failure` | It cannot be evaluated.              |
public struct HoldNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "hold",
        summary: "Lets a message wait, in the queue before it, as long as a condition holds.",
        relations: [
            RelationDescriptor(.success, "The condition does not hold."),
            RelationDescriptor(.failure, "The condition cannot be evaluated."),
        ],
        attributes: [
            .condition("test", summary: "An XPath 1.0 expression, such as \"starts-with($deviceName, 'lab-')\"."),
            .duration(
                "retry-seconds",
                .seconds,
                default: 600,
                in: 1...31_536_000,
                summary: "When to ask again."
            ),
            .string(
                "code",
                default: "held",
                summary: "What metrics count such messages by, the same for all of them: maintenance, battery …"
            ),
            .string(
                "reason",
                default: "a condition of the chain holds it back",
                summary: "Why, for people; {name} stands for a variable's value, {{ and }} for a brace."
            ),
        ],
        overtakesWrites: true,
        traits: .saysLater
    )

    private let condition: any Condition
    private let pause: Duration
    private let code: String
    private let reason: LogTemplate
    private let now: @Sendable () -> Timestamp

    /// Reads the configuration; opens nothing and starts nothing.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if a brace of the reason has no partner.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.condition = configuration.condition("test")
        self.pause = configuration.duration("retry-seconds")
        self.code = configuration.string("code")
        self.reason = try LogTemplate(configuration.string("reason"))
        self.now = services.now
    }

    /// Lets the message go on, or says later.
    public func decide(_ message: consuming Message) throws -> Emission {
        guard try self.condition.holds(for: message) else { return .route(message, to: .success) }
        let later = Later(until: self.now().adding(self.pause), code: self.code, reason: self.reason.text(for: message))
        return .later(later)
    }
}
