import IngressKit
public import NodeKit

/// Holds messages back and lets one go on at a time, at a pace.
///
/// A message ends here, well, once it is stored, and starts again from here when its turn comes; a restart of the host does
/// not lose it. A lone message goes on at once: the pause comes after it. With no pause, messages go on as fast as the chain can
/// take them, those of different devices side by side.
///
/// A message that the chain could not handle *now* is tried again after a pause, and one of which a node said *later* when that says;
/// others go on meanwhile, in one order with what is tried again. The later messages of the same device wait behind it. One that can
/// never be handled is logged and removed. Of messages that are about the same, such as the assignments of one device, only the
/// newest is kept, in the place of the oldest. See ``QueueDrain``.
///
/// | Relation  | When                                                                   |
/// |-----------|------------------------------------------------------------------------|
/// | `Success` | It is the message's turn.                                              |
/// | `Failure` | The message could not be stored, or too many wait (`unavailable`).     |
public struct ThrottleNode: Node, IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "throttle",
        summary: "Holds messages back and lets one go on at a time, at a pace; they survive a restart.",
        relations: [
            RelationDescriptor(.success, "It is the message's turn."),
            RelationDescriptor(.failure, "The message could not be stored, or too many wait ('unavailable')."),
        ],
        attributes: [
            .duration(
                "interval-milliseconds",
                .milliseconds,
                default: 600,
                in: 0...86_400_000,
                summary: "From one message to the next; 0 for no pause."
            ),
            .integer(
                "waiting-max",
                default: 1_000_000,
                in: 1...100_000_000,
                unit: "messages",
                summary: "How many messages may wait."
            ),
            .integer(
                "in-flight-max",
                default: 32,
                in: 1...1024,
                unit: "messages",
                summary: "How many are under way side by side, with a pause, too."
            ),
        ],
        traits: .isQueue
    )

    private let countMax: Int
    private let queue: any MessageQueue
    private let drain: QueueDrain

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.countMax = Int(configuration.integer("waiting-max"))
        self.queue = try services.messageQueue()
        self.drain = QueueDrain(
            self.queue,
            interval: configuration.duration("interval-milliseconds"),
            inFlightMax: Int(configuration.integer("in-flight-max")),
            services: services
        )
    }

    /// Stores the message, which ends here.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/unavailable`` if too many wait, and what the store throws.
    public func process(_ message: Message) async throws -> Emission {
        try await self.queue.append(message, countMax: self.countMax)
        return .end
    }

    /// Lets messages go on until its task is cancelled.
    ///
    /// - Throws: What the store throws; what it still holds goes on the next time.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        try await self.drain.run(to: outlet)
    }
}
