import Synchronization

/// Numbers that nodes count about themselves, for whoever watches the host.
///
/// A node asks once, in its initializer or at the start of its run, and then counts; that costs one atomic addition. Names and
/// labels follow the conventions of Prometheus: a name begins with `windlass_` (or the plugin's name), says the unit, and ends
/// in `_total` if it only grows; labels tell few values apart, never devices.
public final class Metrics: Sendable {
    /// The most numbers there may be; what is asked for beyond is counted but not shown, so that memory stays bounded.
    public static let numbersMax = 10_000

    private struct Key: Hashable {
        var name: String
        var labels: [MetricSample.Label]
    }

    private struct Family {
        var kind: MetricFamily.Kind
        var summary: String
        var keys: [Key] = []
    }

    private struct State {
        var names: [String] = []
        var families: [String: Family] = [:]
        var numbers: [Key: MetricNumber] = [:]
    }

    private let state = Mutex(State())

    /// Makes a list without numbers.
    public init() {}

    /// A number that only grows, the same for the same name and labels.
    public func counter(_ name: String, _ summary: String, labels: [MetricSample.Label] = []) -> MetricNumber {
        self.number(.counter, name, summary, labels)
    }

    /// A number that grows and shrinks, the same for the same name and labels.
    public func gauge(_ name: String, _ summary: String, labels: [MetricSample.Label] = []) -> MetricNumber {
        self.number(.gauge, name, summary, labels)
    }

    /// All numbers as they are, in the order of the first asking.
    public func families() -> [MetricFamily] {
        self.state.withLock { state in
            state.names.compactMap { name in
                guard let family = state.families[name] else { return nil }
                let samples = family.keys.compactMap { key in
                    state.numbers[key].map { MetricSample(labels: key.labels, value: Double($0.value)) }
                }
                return MetricFamily(name, family.kind, family.summary, samples)
            }
        }
    }

    private func number(
        _ kind: MetricFamily.Kind,
        _ name: String,
        _ summary: String,
        _ labels: [MetricSample.Label]
    ) -> MetricNumber {
        let key = Key(name: name, labels: labels)
        return self.state.withLock { state in
            if let known = state.numbers[key] { return known }
            let number = MetricNumber()
            guard state.numbers.count < Self.numbersMax else { return number }
            if state.families[name] == nil {
                state.names.append(name)
                state.families[name] = Family(kind: kind, summary: summary)
            }
            state.families[name]?.keys.append(key)
            state.numbers[key] = number
            return number
        }
    }
}

/// A number that many threads change.
public final class MetricNumber: Sendable {
    private let number = Atomic<Int64>(0)

    /// Makes a number that is shown nowhere.
    public init() {}

    /// What it is now.
    public var value: Int64 { self.number.load(ordering: .relaxed) }

    /// Adds to it; a negative number only to one that may shrink.
    public func add(_ count: Int = 1) { self.number.wrappingAdd(Int64(count), ordering: .relaxed) }
}

/// Numbers of one name.
public struct MetricFamily: Sendable, Hashable {
    /// What kind of number it is.
    public enum Kind: String, Sendable {
        /// It only grows, from 0 at the start of the host.
        case counter
        /// It grows and shrinks.
        case gauge
        /// A sum and a count of what was measured.
        case summary
    }

    /// The name.
    public var name: String
    /// The kind.
    public var kind: Kind
    /// What it counts.
    public var summary: String
    /// The numbers.
    public var samples: [MetricSample]

    /// Joins numbers.
    public init(_ name: String, _ kind: Kind, _ summary: String, _ samples: [MetricSample]) {
        self.name = name
        self.kind = kind
        self.summary = summary
        self.samples = samples
    }
}

/// One number with what tells it from others of its name.
public struct MetricSample: Sendable, Hashable {
    /// A name and a value.
    public struct Label: Sendable, Hashable {
        /// The name, of letters and `_`.
        public var name: String
        /// The value, any text.
        public var value: String

        /// Joins name and value.
        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// What follows the family's name: `_sum` or `_count` of a summary, else nothing.
    public var suffix: String
    /// What tells it from others.
    public var labels: [Label]
    /// The number.
    public var value: Double

    /// Makes a number.
    public init(suffix: String = "", labels: [Label] = [], value: Double) {
        self.suffix = suffix
        self.labels = labels
        self.value = value
    }
}

extension NodeServices {
    /// Where the node's numbers are shown; nowhere if the host shows none.
    public var metrics: Metrics { (try? self.require(Metrics.self)) ?? Metrics() }
}
