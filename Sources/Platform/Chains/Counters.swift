import NIOCore
import Synchronization

/// How many messages went along one link.
public struct LinkCounter: Sendable, Hashable {
    /// The chain's name.
    public var chain: String
    /// The identifier of the node that the link leaves.
    public var from: String
    /// The link's relation.
    public var relation: String
    /// The identifier of the node that it leads to.
    public var to: String
    /// Messages since the host started.
    public var messages: UInt64
}

/// What became of the messages that reached one node.
public struct NodeCounter: Sendable, Hashable {
    /// The chain's name.
    public var chain: String
    /// The node's identifier.
    public var node: String
    /// Messages that the node was given since the host started, those that failed included.
    public var processed: UInt64
    /// Messages that the node threw an error for.
    public var failed: UInt64
    /// Messages that started at the node.
    public var started: UInt64 = 0
    /// Messages that started at the node and failed, with nothing in the chain to handle it.
    public var unhandled: UInt64 = 0
    /// How many of ``processed`` were timed: one in 16.
    public var timed: UInt64 = 0
    /// How long the node took for those that were timed, in seconds, with what it waited for.
    public var seconds: Double = 0
}

/// A number that many threads raise.
final class Counter: Sendable {
    private let count = Atomic<UInt64>(0)

    var value: UInt64 { self.count.load(ordering: .relaxed) }

    func increment() { self.count.wrappingAdd(1, ordering: .relaxed) }

    func add(_ number: UInt64) { self.count.wrappingAdd(number, ordering: .relaxed) }

    /// Raises the number and returns what it was before.
    func next() -> UInt64 { self.count.wrappingAdd(1, ordering: .relaxed).oldValue }
}

/// The counters of one node.
final class NodeCounters: Sendable {
    let processed = Counter()
    let failed = Counter()
    let started = Counter()
    let unhandled = Counter()
    let timed = Counter()
    let nanoseconds = Counter()

    /// A message is given to the node.
    ///
    /// - Returns: The time, if this one is timed: one in 16, as looking at the clock costs about as much as a small node.
    func begin() -> NIODeadline? { self.processed.next() & 15 == 0 ? .now() : nil }

    /// The node is done with a message.
    func end(_ start: NIODeadline?) {
        guard let start else { return }
        self.timed.increment()
        self.nanoseconds.add(UInt64(clamping: (.now() - start).nanoseconds))
    }
}

/// The counters of all links and nodes; a reload goes on with those of links and nodes that stay.
struct CounterTable: Sendable {
    struct LinkKey: Hashable {
        var chain: String
        var from: String
        var relation: String
        var to: String
    }

    private(set) var links: [(key: LinkKey, counter: Counter)] = []
    private(set) var nodes: [(key: NodeKey, counters: NodeCounters)] = []
    private var linkIndexes: [LinkKey: Int] = [:]
    private var nodeIndexes: [NodeKey: Int] = [:]

    /// The counter of a link, that of `previous` if it was there.
    mutating func link(_ key: LinkKey, previous: CounterTable) -> Counter {
        let counter = previous.linkIndexes[key].map { previous.links[$0].counter } ?? Counter()
        self.linkIndexes[key] = self.links.count
        self.links.append((key, counter))
        return counter
    }

    /// The counters of a node, those of `previous` if it was there.
    mutating func node(_ key: NodeKey, previous: CounterTable) -> NodeCounters {
        let counters = previous.nodeIndexes[key].map { previous.nodes[$0].counters } ?? NodeCounters()
        self.nodeIndexes[key] = self.nodes.count
        self.nodes.append((key, counters))
        return counters
    }
}

/// What names a node: its chain and its identifier there.
struct NodeKey: Hashable, Sendable {
    var chain: String
    var node: String
}
