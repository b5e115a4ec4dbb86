/// What devices prove with who they are.
public protocol DeviceCredentialsService: Sendable {
    /// The credentials of a device.
    func findCredentials(of id: DeviceId) async throws -> DeviceCredentials?
    /// Replaces the credentials of a device.
    func saveCredentials(_ credentials: DeviceCredentials) async throws -> DeviceCredentials
}
