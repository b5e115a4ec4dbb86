public import NodeKit
public import OTA

/// An authenticator before that of a domain, for which the store is away when a device comes with the token `away`.
public struct AwayAuthenticator: DeviceAuthenticator {
    /// The token that cannot be looked up; also as the user name of MQTT.
    public static let token = "away"

    private let authenticator: any DeviceAuthenticator

    /// Puts itself before the authenticator of a domain.
    public init(before domain: TestDomain) { self.authenticator = domain.store }

    private static func check(_ token: String?) throws {
        if token == Self.token { throw NodeError(.unavailable, "the store is away") }
    }

    /// Asks the domain, unless the store is away.
    public func device(accessToken: String) async throws -> Originator? {
        try Self.check(accessToken)
        return try await self.authenticator.device(accessToken: accessToken)
    }

    /// Asks the domain, unless the store is away.
    public func device(clientId: String, userName: String?, password: String?) async throws -> Originator? {
        try Self.check(userName)
        return try await self.authenticator.device(clientId: clientId, userName: userName, password: password)
    }

    /// Asks the domain.
    public func device(_ id: DeviceId) async throws -> Originator? { try await self.authenticator.device(id) }

    /// Asks the domain.
    public func device(certificate: [UInt8]) async throws -> Originator? {
        try await self.authenticator.device(certificate: certificate)
    }

    /// Asks the domain.
    public func transport(of device: Originator) async throws -> ProfileTransport {
        try await self.authenticator.transport(of: device)
    }

    /// Asks the domain.
    public func known(accessToken: String) -> Cached<(device: Originator, transport: ProfileTransport)> {
        self.authenticator.known(accessToken: accessToken)
    }
}
