public import NodeKit

/// Tells who a device is by what it presents.
///
/// Kept in memory: cheap enough to call for every request.
public protocol DeviceAuthenticator: Sendable {
    /// The device with this access token; `nil` if there is none.
    func device(accessToken: String) async throws -> Originator?
    /// The device with these MQTT credentials, in ThingsBoard's order: MQTT basic by client identifier and user name, then
    /// an access token in place of the user name; `nil` if there is none.
    func device(clientId: String, userName: String?, password: String?) async throws -> Originator?
    /// The device with this identifier, as whoever follows a link that the host signed for it; `nil` if there is none any more.
    func device(_ id: DeviceId) async throws -> Originator?
    /// The device that has exactly this certificate, in DER form, as credentials; `nil` if there is none.
    ///
    /// That the peer has its private key is the caller's to make sure.
    func device(certificate: [UInt8]) async throws -> Originator?
    /// How the profile of a device lets it connect; ``ProfileTransport/any`` if there is no such device.
    func transport(of device: Originator) async throws -> ProfileTransport
    /// What ``device(accessToken:)`` and ``transport(of:)`` say, if both are in memory; for who asks for each of many small
    /// requests.
    func known(accessToken: String) -> Cached<(device: Originator, transport: ProfileTransport)>
}

extension DeviceAuthenticator {
    /// Knows no device by its identifier.
    public func device(_ id: DeviceId) async throws -> Originator? { nil }

    /// Knows no device by a certificate.
    public func device(certificate: [UInt8]) async throws -> Originator? { nil }

    /// Lets devices connect as they like.
    public func transport(of device: Originator) async throws -> ProfileTransport { .any }

    /// Has nothing in memory.
    public func known(accessToken: String) -> Cached<(device: Originator, transport: ProfileTransport)> { .unknown }
}
