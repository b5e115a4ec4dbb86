import FoundationEssentials
import IngressKit
import NIOCore
import NodeKit
import OTA

/// Who observes which resource of which device, and what each is to be told next (RFC 7641).
///
/// Every notification is confirmable, so that a peer that is gone is found. At most one is under way to an observer; what
/// happens meanwhile waits: attributes are merged, so that the newest value of each is told, calls queue.
struct Observers {
    /// How many there may be, and when they hear from us.
    struct Limits: Hashable, Sendable {
        /// Observers of all devices.
        var countMax = 20_000
        /// Observers of one device; a further one ends the oldest.
        var perDeviceMax = 4
        /// Calls that wait for one observer; further ones are dropped.
        var waitingCallsMax = 16
        /// How long an observer hears nothing, at most, before it is asked whether it is there: up to 24 hours
        /// (RFC 7641 §4.5).
        var refresh = TimeAmount.hours(12)

        /// How often we look for those who have heard nothing for long.
        var refreshCheck: TimeAmount { .nanoseconds(max(1, self.refresh.nanoseconds / 16)) }

        /// How long, in seconds, a client may trust what it was told: until the next notification must have arrived.
        var maxAge: UInt32 {
            UInt32(clamping: (self.refresh + Exchanges.exchangeLifetime).nanoseconds / 1_000_000_000)
        }
    }

    /// What can be observed.
    enum Resource: Hashable, Sendable {
        case attributes
        case rpc

        /// Whether who observes it is told of this.
        func concerns(_ event: DeviceNotification) -> Bool {
            switch (self, event) {
            case (.attributes, .attributesUpdated), (.attributes, .attributesDeleted), (.rpc, .rpcRequest): true
            case (_, .credentialsRevoked): true
            default: false
            }
        }
    }

    /// What identifies an observation (RFC 7641 §4.1).
    struct Key: Hashable, Sendable {
        var peer: Endpoint
        var token: CoAPMessage.Token
    }

    typealias ID = UInt64

    /// What an observer is told.
    enum Content: Hashable, Sendable {
        /// Shared attributes with their new values.
        case updated(JSON.Object)
        /// Names of shared attributes that are gone.
        case deleted([String])
        /// A method to call.
        case call(JSON)
        /// Nothing: is it still there?
        case refresh
    }

    /// A notification to send now.
    struct Notification: Hashable, Sendable {
        var id: ID
        var key: Key
        var device: UUID
        var resource: Resource
        /// The value of its Observe option.
        var sequence: UInt32
        /// The size exponent of the blocks that the observer asked for, if it did.
        var exponent: UInt8?
        var content: Content
    }

    /// An observer, as it is when it ends.
    struct Observer: Sendable {
        var id: ID
        var key: Key
        var device: UUID
        var resource: Resource
        /// Its place among the listeners of the device.
        var subscription: DeviceSessions.Subscription?
        fileprivate var exponent: UInt8?
        fileprivate var sequence: UInt32 = 0
        /// Whether it can be told something now: it is not being registered and nothing is under way to it.
        fileprivate var isReady = false
        fileprivate var updated: JSON.Object = [:]
        fileprivate var deleted: [String] = []
        fileprivate var calls: [JSON] = []
        fileprivate var lastTold: NIODeadline
    }

    /// A new observation, and those that it ends.
    struct Registration: Sendable {
        var id: ID
        /// The same observation, registered before.
        var replaced: Observer?
        /// Others that must go; they are told.
        var ended: [Observer] = []
    }

    /// Observe options are numbers of 24 bits (RFC 7641 §2).
    static let sequenceMask: UInt32 = 0xFF_FFFF

    private let limits: Limits
    private var observers: [ID: Observer] = [:]
    private var byKey: [Key: ID] = [:]
    private var byDevice: [UUID: [ID]] = [:]
    private var nextCheck: NIODeadline?
    private var lastID: ID = 0

    init(limits: Limits) { self.limits = limits }

    /// How many observers there are.
    var count: Int { self.observers.count }

    /// Adds an observer, which is told nothing before ``started(_:now:)``.
    ///
    /// - Returns: `nil` if there are too many observers.
    mutating func register(
        _ key: Key,
        device: UUID,
        resource: Resource,
        exponent: UInt8?,
        now: NIODeadline
    ) -> Registration? {
        let replaced = self.remove(key)
        guard self.observers.count < self.limits.countMax else {
            // What was there before stays as it was.
            if let replaced { self.insert(replaced) }
            return nil
        }
        self.lastID += 1
        var registration = Registration(id: self.lastID, replaced: replaced)
        var observer = Observer(
            id: self.lastID,
            key: key,
            device: device,
            resource: resource,
            exponent: exponent,
            lastTold: now
        )
        if let replaced {
            // RFC 7641 §4.4: the same observation goes on counting.
            observer.sequence = (replaced.sequence + 1) & Self.sequenceMask
            if replaced.device == device, replaced.resource == resource { observer.calls = replaced.calls }
        }
        for id in self.byDevice[device] ?? [] {
            guard let other = self.observers[id] else { continue }
            let isSuperseded = other.key.peer == key.peer && other.resource == resource
            if isSuperseded || (self.byDevice[device]?.count ?? 0) >= self.limits.perDeviceMax {
                if let other = self.remove(id) { registration.ended.append(other) }
            }
        }
        self.insert(observer)
        return registration
    }

    private mutating func insert(_ observer: Observer) {
        self.observers[observer.id] = observer
        self.byKey[observer.key] = observer.id
        self.byDevice[observer.device, default: []].append(observer.id)
        self.nextCheck = self.nextCheck ?? observer.lastTold + self.limits.refreshCheck
    }

    /// Remembers an observer's place among the listeners of its device.
    mutating func subscribed(_ id: ID, _ subscription: DeviceSessions.Subscription) {
        self.observers[id]?.subscription = subscription
    }

    /// The sequence number for the answer to the registration; `nil` if the observer is gone.
    func firstSequence(_ id: ID) -> UInt32? { self.observers[id]?.sequence }

    /// The answer to the registration has arrived, or counts as arrived.
    ///
    /// - Returns: What is to be sent now.
    mutating func started(_ id: ID, now: NIODeadline) -> Notification? { self.free(id, now: now) }

    /// A notification has been acknowledged.
    ///
    /// - Returns: What is to be sent now.
    mutating func acknowledged(_ id: ID, now: NIODeadline) -> Notification? { self.free(id, now: now) }

    private mutating func free(_ id: ID, now: NIODeadline) -> Notification? {
        self.observers[id]?.isReady = true
        return self.next(id, now: now)
    }

    /// Something happened to the device of an observer.
    ///
    /// - Returns: What is to be sent now.
    mutating func happened(_ id: ID, _ event: DeviceNotification, now: NIODeadline) -> Notification? {
        guard let resource = self.observers[id]?.resource else { return nil }
        switch (resource, event) {
        case (.attributes, .attributesUpdated(let values)):
            for (name, value) in values.members { self.observers[id]?.updated[name] = value }
            self.observers[id]?.deleted.removeAll { values[$0] != nil }
        case (.attributes, .attributesDeleted(let names)):
            for name in names {
                self.observers[id]?.updated[name] = nil
                let isKnown = self.observers[id]?.deleted.contains { $0.exact == name.exact } ?? true
                if !isKnown { self.observers[id]?.deleted.append(name) }
            }
        case (.rpc, .rpcRequest(let call, let method, let params)):
            guard self.observers[id].map({ $0.calls.count < self.limits.waitingCallsMax }) == true else { return nil }
            self.observers[id]?.calls.append(DeviceProtocol.call(id: call, method: method, params: params))
        default:
            return nil
        }
        return self.next(id, now: now)
    }

    /// Takes what is to be told next, if the observer can be told something.
    private mutating func next(_ id: ID, now: NIODeadline) -> Notification? {
        guard var observer = self.observers[id], observer.isReady else { return nil }
        let content: Content
        if !observer.deleted.isEmpty {
            // A push never mixes both; what is gone is told first.
            content = .deleted(observer.deleted)
            observer.deleted = []
        } else if !observer.updated.isEmpty {
            content = .updated(observer.updated)
            observer.updated = [:]
        } else if !observer.calls.isEmpty {
            content = .call(observer.calls.removeFirst())
        } else {
            return nil
        }
        return self.send(content, to: &observer, now: now)
    }

    private mutating func send(_ content: Content, to observer: inout Observer, now: NIODeadline) -> Notification {
        observer.isReady = false
        observer.sequence = (observer.sequence + 1) & Self.sequenceMask
        observer.lastTold = now
        self.observers[observer.id] = observer
        return Notification(
            id: observer.id,
            key: observer.key,
            device: observer.device,
            resource: observer.resource,
            sequence: observer.sequence,
            exponent: observer.exponent,
            content: content
        )
    }

    /// When ``due(_:)`` is to be asked next; `nil` if there are no observers.
    var nextDeadline: NIODeadline? { self.nextCheck }

    /// Asks those who will have heard nothing for too long by the next time whether they are there.
    mutating func due(_ now: NIODeadline) -> [Notification] {
        guard let nextCheck = self.nextCheck, nextCheck <= now else { return [] }
        self.nextCheck = self.observers.isEmpty ? nil : now + self.limits.refreshCheck
        var due: [Notification] = []
        for var observer in self.observers.values
        where observer.isReady && observer.lastTold + self.limits.refresh <= now + self.limits.refreshCheck {
            due.append(self.send(.refresh, to: &observer, now: now))
        }
        return due
    }

    /// The observation is over.
    @discardableResult
    mutating func remove(_ id: ID) -> Observer? {
        guard let observer = self.observers.removeValue(forKey: id) else { return nil }
        if self.byKey[observer.key] == id { self.byKey[observer.key] = nil }
        self.byDevice[observer.device]?.removeAll { $0 == id }
        if self.byDevice[observer.device]?.isEmpty == true { self.byDevice[observer.device] = nil }
        return observer
    }

    /// The observation of this peer with this token is over.
    @discardableResult
    mutating func remove(_ key: Key) -> Observer? { self.byKey[key].flatMap { self.remove($0) } }

    /// All observations are over.
    mutating func removeAll() -> [Observer] {
        let all = self.observers.values.sorted { $0.id < $1.id }
        self = Observers(limits: self.limits)
        return all
    }
}
