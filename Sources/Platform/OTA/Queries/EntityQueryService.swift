/// Finds devices by what they are and by what was last said about them.
public protocol EntityQueryService: Sendable {
    /// A page of devices, with the values that the query wants.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the query passes a limit or names a field that devices do
    ///   not have.
    func findEntities(_ query: EntityQuery) async throws -> Page<EntityRow>
    /// How many devices fulfil the query; what it says about order, page and answered values does not matter, unless it
    /// searches for a text.
    func countEntities(_ query: EntityQuery) async throws -> Int
    /// The devices that fulfil the query, in order of identifier and later than `after`, at most `limit`; what it says about order
    /// and page does not matter.
    func entities(matching query: EntityQuery, after: DeviceId?, limit: Int) async throws -> [DeviceId]
}
