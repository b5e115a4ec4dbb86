/// What every node type has, whether messages start or pass there: its description and the way to make one.
///
/// A node is made when a chain is planned and lives as long as a chain with the same identifier, type and attributes is
/// running; a reload that changes none of these keeps it.
public protocol ChainNode: Sendable {
    /// Everything the host, the chain checker, `windlass nodes` and the reference page need to know. The only declaration.
    static var descriptor: NodeDescriptor { get }

    /// Reads the configuration; opens nothing and starts nothing.
    ///
    /// - Throws: ``NodeError`` if values that are fine each do not fit together, or a service is missing.
    init(configuration: Configuration, services: NodeServices) throws
}

/// A node that messages pass.
public protocol Node: ChainNode {
    /// Says where a message goes. Called for many messages at once, on the event loop that received the bytes, which it
    /// must not block.
    ///
    /// - Throws: Anything; the message then leaves by ``Relation/failure`` with the error's text as `error` in its metadata.
    func process(_ message: Message) async throws -> Emission
}

/// A node where messages start.
///
/// Such as a listener, a timer, a queue. A node may be both, as one that holds messages back is.
public protocol IngressNode: ChainNode {
    /// Works until its task is cancelled, then ends what is under way within the host's time limit and returns.
    ///
    /// Called once. Call ``Outlet/ready(_:)`` when messages can come, which ends the start-up of this node; throw before
    /// that if it cannot start. An error thrown after it is logged and the node is started again after a pause.
    func run(_ outlet: any Outlet) async throws
}

/// Where an ingress node hands its messages to the chain.
///
/// It stays valid across reloads: the chain behind it changes.
public protocol Outlet: Sendable {
    /// Sends a message along the links of the node's `Success` relation, and returns when the chain is done with it.
    ///
    /// Runs on the caller's executor, so call it in a task whose executor is the connection's event loop.
    func send(_ message: Message) async -> Outcome

    /// Sends a message along the links of a relation, and returns when the chain is done with it.
    func send(_ message: Message, by relation: Relation) async -> Outcome

    /// Sends a message along the links of a relation, as far as no node has to wait.
    ///
    /// Spares the task that ``send(_:by:)`` needs, where most messages have nothing to wait for.
    ///
    /// - Returns: What came of the message; or the rest of its way, to be called once, where ``send(_:by:)`` might be called.
    func begin(_ message: consuming Message, by relation: Relation) -> Step<Outcome, Suspension<Outcome>>

    /// Tells the host that the node works and, for a listener, where.
    func ready(_ listeners: [Listener])
}

extension Outlet {
    /// Goes no way at once.
    public func begin(_ message: consuming Message, by relation: Relation) -> Step<Outcome, Suspension<Outcome>> {
        let message = message
        return .suspended(Suspension { await self.send(message, by: relation) })
    }

    /// Sends a message along the links of the node's `Success` relation, and returns when the chain is done with it.
    public func send(_ message: Message) async -> Outcome { await self.send(message, by: .success) }
}

/// An address that a node accepts connections or datagrams on.
public struct Listener: Sendable, Hashable, CustomStringConvertible {
    /// The scheme, such as `http`, `mqtt` or `coap`.
    public var scheme: String
    /// The address it is bound to.
    public var host: String
    /// The port it is bound to, 1…65535.
    public var port: Int

    /// Makes an address.
    public init(scheme: String, host: String, port: Int) {
        self.scheme = scheme
        self.host = host
        self.port = port
    }

    /// The address as a URL without path, such as `http://127.0.0.1:8080`.
    public var description: String {
        "\(self.scheme)://\(self.host.contains(":") ? "[\(self.host)]" : self.host):\(self.port)"
    }
}

/// Where a message goes from a node.
public struct Emission: Sendable {
    /// What ``routes`` tells, with the usual single route at hand without a list.
    package enum Content: Sendable {
        case one(Message, Relation)
        case storing(Message, Relation, PendingWrite)
        case several([(message: Message, relation: Relation)])
        case later(Later)
    }

    package let content: Content

    /// Each message with the relation it leaves by, in order.
    public var routes: [(message: Message, relation: Relation)] {
        switch self.content {
        case .one(let message, let relation), .storing(let message, let relation, _): [(message, relation)]
        case .several(let routes): routes
        case .later: []
        }
    }

    /// What the node said, if it is not time yet.
    public var later: Later? {
        guard case .later(let later) = self.content else { return nil }
        return later
    }

    /// What the node began to store and leaves for the host to wait for.
    public var pendingWrite: PendingWrite? {
        guard case .storing(_, _, let write) = self.content else { return nil }
        return write
    }

    /// One message by one relation.
    public static func route(_ message: consuming Message, to relation: Relation) -> Emission {
        Emission(content: .one(message, relation))
    }

    /// One message by one relation, while what the node stores is still on its way to the disk.
    ///
    /// The peer gets its answer once that is stored; if it cannot be stored, the message fails. Should the chain file link this
    /// node's `Failure`, or the next node need to see what is stored (``NodeDescriptor/overtakesWrites``), the host waits before
    /// the message goes on, so that nothing in the chain can tell the difference.
    public static func route(
        _ message: consuming Message,
        to relation: Relation,
        storing write: PendingWrite
    ) -> Emission {
        Emission(content: .storing(message, relation, write))
    }

    /// Several messages, or one by several relations.
    public static func routes(_ routes: [(message: Message, relation: Relation)]) -> Emission {
        Emission(content: .several(routes))
    }

    /// It is not time yet: the message goes back to the queue that let it go, and comes again.
    ///
    /// A node that says so declares it (``NodeDescriptor/Traits/saysLater``). Where no queue lies before it, the message fails with
    /// ``NodeError/Code/unavailable``.
    public static func later(_ later: Later) -> Emission { Emission(content: .later(later)) }

    /// The message ends here, well: it was taken in and stored, or is of no further interest.
    public static var end: Emission { Emission(content: .several([])) }
}

/// The label on a link.
public struct Relation: RawRepresentable, Hashable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// The label as a chain file writes it.
    public let rawValue: String
    /// Makes a label.
    public init(rawValue: String) { self.rawValue = rawValue }
    /// Makes a label from a literal.
    public init(stringLiteral value: String) { self.rawValue = value }
    /// The label as a chain file writes it.
    public var description: String { self.rawValue }

    /// Whether both have the same bytes: a label may be what a device reported.
    public static func == (a: Self, b: Self) -> Bool { a.rawValue.exact == b.rawValue.exact }
    /// Hashes the bytes.
    public func hash(into hasher: inout Hasher) { hasher.combine(self.rawValue.exact) }

    /// The node did its work.
    public static let success: Self = "Success"
    /// The node could not do its work.
    ///
    /// Without a link, the message fails.
    public static let failure: Self = "Failure"
    /// The condition holds.
    public static let `true`: Self = "True"
    /// The condition does not hold.
    public static let `false`: Self = "False"
    /// A newer message has made this one pointless.
    ///
    /// Whoever let it go need not wait before the next one.
    public static let superseded: Self = "Superseded"
    /// None of the links of a node with open relations fits.
    public static let other: Self = "Other"
}
