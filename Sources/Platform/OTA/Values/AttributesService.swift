public import NodeKit

/// Attributes of devices.
public protocol AttributesService: Sendable {
    /// Attributes of one scope, those named or all, sorted by key.
    func attributes(of device: DeviceId, scope: AttributeScope, keys: [String]?) async throws -> [AttributeEntry]

    /// Writes attributes; `null` values are left out. Shared ones are pushed to the device's sessions, in one notification,
    /// once stored.
    func saveAttributes(of device: DeviceId, scope: AttributeScope, _ values: JSON.Object, at: Timestamp) async throws

    /// Begins to write attributes as ``saveAttributes(of:scope:_:at:)`` does and returns at once.
    ///
    /// - Throws: ``NodeError`` if they can never be stored.
    func beginSavingAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at: Timestamp
    ) throws -> PendingWrite

    /// Removes attributes and returns the names of those that existed. Of shared ones the device's sessions are told once
    /// they are gone; if none existed, nothing is told.
    @discardableResult
    func deleteAttributes(of device: DeviceId, scope: AttributeScope, keys: [String]) async throws -> [String]

    /// The devices that have an attribute with this value, at most `limit`, in order of identifier and later than `after`.
    ///
    /// Looks at every device: for when a host starts, not for every message.
    func devices(
        withAttribute key: String,
        equalTo value: JSON,
        in scope: AttributeScope,
        after: DeviceId?,
        limit: Int
    ) async throws -> [Originator]
}

extension AttributesService {
    /// Writes attributes when they are waited for.
    public func beginSavingAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at time: Timestamp
    ) throws -> PendingWrite {
        PendingWrite { try await self.saveAttributes(of: device, scope: scope, values, at: time) }
    }
}
