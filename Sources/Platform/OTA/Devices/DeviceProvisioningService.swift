/// Makes devices of those who know a profile's key and secret.
public protocol DeviceProvisioningService: Sendable {
    /// Provisions a device, or says why not.
    ///
    /// Of several requests for one name at the same time one succeeds.
    ///
    /// - Throws: ``NodeError`` if the store could not answer.
    func provision(_ request: ProvisionRequest) async throws -> ProvisionResult
}
