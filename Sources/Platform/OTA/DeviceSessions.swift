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

    private struct State {
        var nextID: UInt64 = 0
        var handlers: [UUID: [(id: UInt64, handler: @Sendable (DeviceNotification) -> Bool)]] = [:]
        var held: [UUID: [Held]] = [:]
    }

    private let state = Mutex(State())

    /// Makes a registry without listeners.
    public init() {}

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
    ///   - handler: Called as a ``Handler``; returns whether it took the notification, and so will tell the device.
    /// - Returns: The listener's place.
    public func subscribeSelectively(
        _ device: UUID,
        _ handler: @escaping @Sendable (DeviceNotification) -> Bool
    ) -> Subscription {
        let (subscription, held) = self.state.withLock { state in
            state.nextID += 1
            state.handlers[device, default: []].append((state.nextID, handler))
            return (Subscription(device: device, id: state.nextID), state.held[device] ?? [])
        }
        for entry in held where handler(entry.notification) && self.withdraw(entry) { entry.onTaken() }
        return subscription
    }

    /// Removes a listener.
    ///
    /// It may still be called by a notification that is under way.
    public func unsubscribe(_ subscription: Subscription) {
        self.state.withLock { state in
            state.handlers[subscription.device]?.removeAll { $0.id == subscription.id }
            if state.handlers[subscription.device]?.isEmpty == true { state.handlers[subscription.device] = nil }
        }
    }

    /// Tells all listeners of a device, in the order in which they came.
    ///
    /// - Returns: How many took it.
    @discardableResult
    public func notify(_ device: UUID, _ notification: DeviceNotification) -> Int {
        let handlers = self.state.withLock { $0.handlers[device] ?? [] }
        return handlers.count { $0.handler(notification) }
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
            return (held, state.handlers[device] ?? [])
        }
        // A listener that came between the two steps above was not asked yet, and one that was asked refuses again.
        guard newer.contains(where: { $0.handler(notification) }), self.withdraw(held) else { return held }
        return nil
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
