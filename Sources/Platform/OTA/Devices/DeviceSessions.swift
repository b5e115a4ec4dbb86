public import FoundationEssentials
public import NodeKit
import Synchronization

/// Something that a connected device is to be told.
public enum DeviceNotification: Sendable, Hashable {
    /// Shared attributes that changed, with their new values.
    case attributesUpdated(JSON.Object)
    /// Shared attributes that were removed.
    case attributesDeleted([String])
    /// A call of a method of the device.
    case rpcRequest(id: Int, method: String, params: JSON)
    /// The device was removed or its credentials changed: end its sessions.
    case credentialsRevoked
}

/// Who listens on behalf of connected devices.
///
/// Ingress nodes subscribe; services and nodes notify. One for each host.
public final class DeviceSessions: Sendable {
    /// Called with each notification, on the notifier's thread: hand it to the connection's event loop and return.
    public typealias Handler = @Sendable (DeviceNotification) -> Void

    /// A handler's place among the listeners of a device.
    public struct Subscription: Sendable, Hashable {
        /// The device.
        public let device: UUID
        fileprivate let id: UInt64
    }

    /// A notification that waits for a listener.
    struct Held: Sendable {
        fileprivate let device: UUID
        fileprivate let id: UInt64
        fileprivate let notification: DeviceNotification
        fileprivate let onTaken: @Sendable () -> Void
    }

    /// What makes a listener a session.
    private struct Session {
        /// What the peer calls itself; `nil` if it has no name.
        var name: ExactText?
        var replaced: @Sendable () -> Void
    }

    private struct Listener {
        var id: UInt64
        /// Returns whether it took the notification.
        var handler: @Sendable (DeviceNotification) -> Bool
        /// Returns when it has sent what it took; `nil` if it takes part in no such wait.
        var flushed: (@Sendable () async -> Void)?
        var session: Session?
    }

    private struct State {
        var nextID: UInt64 = 0
        var listeners: [UUID: [Listener]] = [:]
        var held: [UUID: [Held]] = [:]
        var watchers: [DeviceArrivals] = []

        mutating func add(
            _ handler: @escaping @Sendable (DeviceNotification) -> Bool,
            flushed: (@Sendable () async -> Void)?,
            of device: UUID,
            session: Session?
        ) -> Subscription {
            self.nextID += 1
            self.listeners[device, default: []].append(
                Listener(id: self.nextID, handler: handler, flushed: flushed, session: session)
            )
            return Subscription(device: device, id: self.nextID)
        }
    }

    private let state = Mutex(State())

    /// Makes a registry without listeners.
    public init() {}

    /// How many devices have a listener.
    public var deviceCount: Int { self.state.withLock { $0.listeners.count } }

    /// Adds a listener for a device that takes every notification.
    ///
    /// End it with ``unsubscribe(_:)``.
    public func subscribe(_ device: UUID, _ handler: @escaping Handler) -> Subscription {
        self.subscribeSelectively(device) { notification in
            handler(notification)
            return true
        }
    }

    /// Adds a listener for a device that takes some notifications, such as calls but not attributes.
    ///
    /// It may be called with calls that wait for such a listener before this method returns. End it with ``unsubscribe(_:)``.
    ///
    /// - Parameters:
    ///   - device: The device.
    ///   - isOfferedHeld: Whether it is asked at once about what waits; if not, do so by ``offerHeld(to:interests:)``.
    ///   - interests: What it takes, for those who wait for such a listener.
    ///   - flushed: Returns when what it took before is sent; see ``flushed(_:)``.
    ///   - handler: Called as a ``Handler``; returns whether it took the notification, and so will tell the device.
    /// - Returns: The listener's place.
    public func subscribeSelectively(
        _ device: UUID,
        isOfferedHeld: Bool = true,
        interests: DeviceInterests = [],
        flushed: (@Sendable () async -> Void)? = nil,
        _ handler: @escaping @Sendable (DeviceNotification) -> Bool
    ) -> Subscription {
        let (subscription, held) = self.state.withLock { state in
            (
                state.add(handler, flushed: flushed, of: device, session: nil),
                isOfferedHeld ? state.held[device] ?? [] : []
            )
        }
        self.offer(held, to: handler)
        self.arrived(device, interests)
        return subscription
    }

    /// Adds a listener that is a session: a connection on which the device itself is, of which there may be only so many,
    /// over all ingress nodes that call this.
    ///
    /// The session with the same name, and the oldest beyond `sessionsMax`, listen no more from here on. End it with
    /// ``unsubscribe(_:)``.
    ///
    /// - Parameters:
    ///   - device: The device.
    ///   - name: What the peer calls itself, such as an MQTT client identifier; `nil` if it has no name.
    ///   - sessionsMax: How many sessions the device may have, this one included; at least 1.
    ///   - replaced: Called once, on the thread of the session that takes the place of this one.
    ///   - flushed: Returns when what it took before is sent; see ``flushed(_:)``.
    ///   - handler: Called with each notification; returns whether it took it, and so will tell the device.
    /// - Returns: The listener's place.
    public func beginSession(
        _ device: UUID,
        name: String?,
        sessionsMax: Int,
        replaced: @escaping @Sendable () -> Void,
        flushed: (@Sendable () async -> Void)? = nil,
        _ handler: @escaping @Sendable (DeviceNotification) -> Bool
    ) -> Subscription {
        let name = name.exact
        let (subscription, ended, held) = self.state.withLock { state in
            let sessions = (state.listeners[device] ?? []).filter { $0.session != nil }
            let namesakes = sessions.filter { name != nil && $0.session?.name == name }
            let others = sessions.filter { name == nil || $0.session?.name != name }
            let ended = namesakes + others.prefix(max(0, others.count - sessionsMax + 1))
            let ids = Set(ended.map(\.id))
            state.listeners[device]?.removeAll { ids.contains($0.id) }
            let session = Session(name: name, replaced: replaced)
            return (state.add(handler, flushed: flushed, of: device, session: session), ended, state.held[device] ?? [])
        }
        for listener in ended { listener.session?.replaced() }
        self.offer(held, to: handler)
        return subscription
    }

    /// Whether a device has a listener now.
    public func hasListener(of device: UUID) -> Bool { self.state.withLock { $0.listeners[device] != nil } }

    /// How many sessions a device has now.
    public func sessionCount(of device: UUID) -> Int {
        self.state.withLock { state in (state.listeners[device] ?? []).count { $0.session != nil } }
    }

    /// Removes a listener.
    ///
    /// It may still be called by a notification that is under way.
    public func unsubscribe(_ subscription: Subscription) {
        self.state.withLock { state in
            state.listeners[subscription.device]?.removeAll { $0.id == subscription.id }
            if state.listeners[subscription.device]?.isEmpty == true { state.listeners[subscription.device] = nil }
        }
    }

    /// Tells all listeners of a device, in the order in which they came.
    ///
    /// - Returns: How many took it.
    @discardableResult
    public func notify(_ device: UUID, _ notification: DeviceNotification) -> Int {
        let (listeners, watchers) = self.state.withLock { ($0.listeners[device] ?? [], $0.watchers) }
        if case .attributesUpdated(let values) = notification,
            OtaPackageType.allCases.contains(where: { values["\($0.prefix)_title"] != nil })
        {
            // The push of a package: if no listener takes it, the next reply that offers the package counts.
            for watcher in watchers where watcher.interests.contains(.attributes) { watcher.unsettle(device) }
        }
        return listeners.count { $0.handler(notification) }
    }

    /// Returns when the listeners of a device have sent what they took, as far as they can say.
    ///
    /// A listener takes a notification before it sends it. If the host is killed in between, the notification is lost; so whoever notes
    /// for good that a device was notified waits for this first.
    public func flushed(_ device: UUID) async {
        let listeners = self.state.withLock { $0.listeners[device] ?? [] }
        for listener in listeners { await listener.flushed?() }
    }

    /// Tells all listeners of a device, or, if none takes it, the first one that comes and does.
    ///
    /// - Parameters:
    ///   - device: The device.
    ///   - notification: What it is to be told.
    ///   - onTaken: Called when a listener that came later took it.
    /// - Returns: What to pass to ``withdraw(_:)`` in the end; `nil` if a listener took it.
    func notifyOrHold(
        _ device: UUID,
        _ notification: DeviceNotification,
        onTaken: @escaping @Sendable () -> Void
    ) -> Held? {
        guard self.notify(device, notification) == 0 else { return nil }
        let (held, newer) = self.state.withLock { state in
            state.nextID += 1
            let held = Held(device: device, id: state.nextID, notification: notification, onTaken: onTaken)
            state.held[device, default: []].append(held)
            return (held, state.listeners[device] ?? [])
        }
        // A listener that came between the two steps above was not asked yet, and one that was asked refuses again.
        guard newer.contains(where: { $0.handler(notification) }), self.withdraw(held) else { return held }
        return nil
    }

    /// Offers what waits for a listener to one that takes more than it did when it came, such as calls.
    ///
    /// - Parameters:
    ///   - subscription: The listener's place.
    ///   - interests: What it takes now and did not before.
    public func offerHeld(to subscription: Subscription, interests: DeviceInterests = []) {
        let (listener, held) = self.state.withLock { state in
            let listeners = state.listeners[subscription.device] ?? []
            return (listeners.first { $0.id == subscription.id }, state.held[subscription.device] ?? [])
        }
        if let listener { self.offer(held, to: listener.handler) }
        self.arrived(subscription.device, interests)
    }

    // MARK: Arrivals

    /// Begins to note for which devices listeners come that have any of these interests; end it with ``unwatch(_:)``.
    public func watchArrivals(interestedIn interests: DeviceInterests) -> DeviceArrivals {
        let arrivals = DeviceArrivals(interests: interests)
        self.state.withLock { $0.watchers.append(arrivals) }
        return arrivals
    }

    /// Ends what ``watchArrivals(interestedIn:)`` began.
    public func unwatch(_ arrivals: DeviceArrivals) {
        self.state.withLock { state in state.watchers.removeAll { $0 === arrivals } }
    }

    private func arrived(_ device: UUID, _ interests: DeviceInterests) {
        self.tellWatchers(of: device, DeviceNews(hasArrived: true), interests)
    }

    /// A reply to a device holds these shared attributes, which may offer it a package.
    ///
    /// Those who watch for devices that listen for attributes hear of it.
    public func replied(to device: UUID, _ sharedAttributes: JSON.Object) {
        var news = DeviceNews()
        for type in OtaPackageType.allCases { news.offers[type] = type.offer(in: sharedAttributes) }
        guard !news.offers.isEmpty else { return }
        self.tellWatchers(of: device, news, .attributes)
    }

    private func tellWatchers(of device: UUID, _ news: DeviceNews, _ interests: DeviceInterests) {
        guard !interests.isEmpty else { return }
        let watchers = self.state.withLock { $0.watchers }
        for watcher in watchers where !watcher.interests.isDisjoint(with: interests) { watcher.add(device, news) }
    }

    private func offer(_ held: [Held], to handler: @Sendable (DeviceNotification) -> Bool) {
        for entry in held where handler(entry.notification) && self.withdraw(entry) { entry.onTaken() }
    }

    /// Lets a notification wait no longer.
    ///
    /// - Returns: Whether it still waited.
    @discardableResult
    func withdraw(_ held: Held) -> Bool {
        self.state.withLock { state in
            guard let index = state.held[held.device]?.firstIndex(where: { $0.id == held.id }) else { return false }
            state.held[held.device]?.remove(at: index)
            if state.held[held.device]?.isEmpty == true { state.held[held.device] = nil }
            return true
        }
    }

    /// How many notifications wait for a listener.
    var heldCount: Int { self.state.withLock { $0.held.values.reduce(0) { $0 + $1.count } } }
}
