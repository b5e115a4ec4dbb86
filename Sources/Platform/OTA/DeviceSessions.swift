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

    private struct State {
        var nextID: UInt64 = 0
        var handlers: [UUID: [(id: UInt64, handler: Handler)]] = [:]
    }

    private let state = Mutex(State())

    /// Makes a registry without listeners.
    public init() {}

    /// Adds a listener for a device.
    ///
    /// End it with ``unsubscribe(_:)``.
    public func subscribe(_ device: UUID, _ handler: @escaping Handler) -> Subscription {
        self.state.withLock { state in
            state.nextID += 1
            state.handlers[device, default: []].append((state.nextID, handler))
            return Subscription(device: device, id: state.nextID)
        }
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
    /// - Returns: How many there were.
    @discardableResult
    public func notify(_ device: UUID, _ notification: DeviceNotification) -> Int {
        let handlers = self.state.withLock { $0.handlers[device] ?? [] }
        for entry in handlers { entry.handler(notification) }
        return handlers.count
    }
}
