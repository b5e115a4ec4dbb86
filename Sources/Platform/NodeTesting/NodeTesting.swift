import Logging
import NIOPosix
public import NodeKit
import Synchronization
import Waiting

extension ChainNode {
    /// Makes a node as the host would, of attribute texts as a chain file has them.
    ///
    /// - Parameters:
    ///   - attributes: Name and text of each attribute that is given; the others take their defaults.
    ///   - conditions: The compiled form of each condition, by attribute name; no XPath is read here.
    ///   - services: What the host lends; see ``NodeServices/testing(_:node:clock:now:)``.
    /// - Returns: The node.
    /// - Throws: ``NodeError`` for an attribute that is unknown, missing or has a bad value, and what the node throws.
    public static func make(
        _ attributes: [String: String] = [:],
        conditions: [String: any Condition] = [:],
        services: NodeServices = .testing()
    ) throws -> Self {
        var values: [String: ConfigurationValue] = [:]
        for name in attributes.keys where !Self.descriptor.attributes.contains(where: { $0.name == name }) {
            throw NodeError("unknown-attribute", "'\(Self.descriptor.type)' has no attribute '\(name)'")
        }
        for attribute in Self.descriptor.attributes {
            if let condition = conditions[attribute.name] {
                values[attribute.name] = .condition(condition)
            } else if attribute.isOptional, attributes[attribute.name]?.isEmpty == true {
                continue
            } else if let text = attributes[attribute.name] ?? attribute.defaultText {
                values[attribute.name] = try attribute.parse(text)
            } else if !attribute.isOptional {
                throw NodeError(
                    "missing-attribute",
                    "'\(Self.descriptor.type)' needs the attribute '\(attribute.name)'"
                )
            }
        }
        return try Self(configuration: Configuration(values), services: services)
    }
}

extension NodeServices {
    /// Services for a test of a node that needs nothing of the domain; see ``TestDomain`` for the others.
    ///
    /// - Parameters:
    ///   - register: Adds services, of which there are none otherwise.
    ///   - node: The node's identifier in its chain.
    ///   - clock: The clock for waiting.
    ///   - now: The time of day.
    /// - Returns: The services of the node.
    public static func testing(
        _ register: (inout ServiceRegistry) -> Void = { _ in },
        node: String = "node",
        clock: any Clock<Duration> = ContinuousClock(),
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) -> NodeServices {
        var registry = ServiceRegistry()
        register(&registry)
        return NodeServices(
            chain: "test",
            node: node,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
            clock: clock,
            now: now,
            registry: registry
        )
    }
}

/// A condition that is a closure.
public struct ClosureCondition: Condition {
    private let body: @Sendable (Message) throws -> Bool

    /// Makes a condition of a closure.
    public init(_ body: @escaping @Sendable (Message) throws -> Bool) { self.body = body }

    /// Asks the closure.
    public func holds(for message: Message) throws -> Bool { try self.body(message) }
}

/// An outlet that answers by a closure and remembers what was sent.
public final class TestOutlet: Outlet {
    private let messages = Mutex<[(message: Message, relation: Relation)]>([])
    private let start = OneShot<[Listener]>()
    private let answer: @Sendable (Message) async -> Outcome
    private let answerAtOnce: (@Sendable (Message) -> Outcome)?

    /// Makes an outlet that stands for a chain whose nodes wait.
    public init(_ answer: @escaping @Sendable (Message) async -> Outcome = { _ in .completed(nil) }) {
        self.answer = answer
        self.answerAtOnce = nil
    }

    /// Makes an outlet that stands for a chain none of whose nodes has to wait.
    public init(atOnce answer: @escaping @Sendable (Message) -> Outcome) {
        self.answer = answer
        self.answerAtOnce = answer
    }

    /// Remembers the message and asks the closure, at once if it can tell at once.
    public func begin(_ message: consuming Message, by relation: Relation) -> Step<Outcome, Suspension<Outcome>> {
        let message = message
        guard let answerAtOnce else {
            return .suspended(Suspension { await self.send(message, by: relation) })
        }
        self.messages.withLock { $0.append((message, relation)) }
        return .now(answerAtOnce(message))
    }

    /// Remembers the message and asks the closure.
    public func send(_ message: Message, by relation: Relation) async -> Outcome {
        self.messages.withLock { $0.append((message, relation)) }
        return await self.answer(message)
    }

    /// Remembers the addresses and wakes whoever waits in ``listeners()``.
    public func ready(_ listeners: [Listener]) { self.start.finish(listeners) }

    /// What was sent so far, in order.
    public var sent: [(message: Message, relation: Relation)] { self.messages.withLock { $0 } }

    /// Waits until the node is ready, and returns the addresses that it listens on.
    public func listeners() async -> [Listener] { await self.start.value() }
}
