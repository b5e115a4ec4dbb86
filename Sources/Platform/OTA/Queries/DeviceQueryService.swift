public import NodeKit

/// Finds devices by a query in ThingsBoard's form.
public protocol DeviceQueryService: Sendable {
    /// The devices that `entityFilter`, `keyFilters` and `keyFiltersOperation` of a query select.
    ///
    /// - Parameters:
    ///   - query: An object as for `POST /api/entitiesQuery/count`.
    ///   - tenant: Whose devices.
    ///   - after: Only devices whose identifier is greater than this, in the order of their bytes.
    ///   - limit: The most devices.
    /// - Returns: Devices in order of identifier.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the query cannot be understood.
    func devices(matching query: JSON.Object, of tenant: TenantId, after: DeviceId?, limit: Int) async throws
        -> [DeviceId]
}
