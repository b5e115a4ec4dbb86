public import NodeKit

/// The rules by which devices without credentials become devices of a profile, as in ThingsBoard.
public enum ProvisioningRules {
    /// Whether a request shows that it may have a device of a profile: the profile provisions by key, and the secret is right.
    public static func admits(_ request: ProvisionRequest, to profile: DeviceProfile) -> Bool {
        guard profile.provisioning.kind.needsKey, let secret = profile.provisioning.deviceSecret else { return false }
        return secret.isSameSecret(as: request.deviceSecret)
    }

    /// A device that has the name of a request already.
    public struct KnownDevice: Sendable {
        /// The device.
        public var device: Device
        /// The name of its profile.
        public var type: String
        /// Its credentials.
        public var credentials: DeviceCredentials?
        /// Its server attribute ``AttributeEntry/provisionStateKey``.
        public var state: JSON?

        /// Joins what is known.
        public init(device: Device, type: String, credentials: DeviceCredentials?, state: JSON?) {
            self.device = device
            self.type = type
            self.credentials = credentials
            self.state = state
        }
    }

    /// The answer to a request that was admitted.
    ///
    /// A profile makes new devices, or hands out the credentials of those that an administrator made for it, once.
    ///
    /// - Parameters:
    ///   - known: The device with the name that the request wants, if there is one.
    ///   - profile: The profile that admits the request.
    /// - Returns: The answer; `nil` if a device is to be made.
    public static func answer(about known: KnownDevice?, in profile: DeviceProfile) -> ProvisionResult? {
        let originator = known.map { Originator(id: $0.device.id.uuid, name: $0.device.name, type: $0.type) }
        guard profile.provisioning.kind != .allowCreateNewDevices else {
            return originator.map { .refused("a device with this name exists already", $0) }
        }
        guard let originator, let known, known.device.deviceProfileId == profile.id, let credentials = known.credentials
        else { return .refused("no device with this name was made for the profile", nil) }
        guard known.state != AttributeEntry.provisionedState else {
            return .refused("the device has its credentials already", originator)
        }
        return .provisioned(originator, credentials)
    }

    /// The device and the credentials that a request makes.
    ///
    /// - Parameters:
    ///   - request: The request.
    ///   - profile: The profile that admits it.
    ///   - now: When.
    ///   - random: Makes a text that nobody can guess.
    /// - Returns: Both, not saved yet.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if one of them breaks a rule.
    public static func created(
        for request: ProvisionRequest,
        in profile: DeviceProfile,
        at now: Timestamp,
        random: () -> String
    ) throws(NodeError) -> (device: Device, credentials: DeviceCredentials) {
        let device = Device(
            createdTime: now,
            tenantId: profile.tenantId,
            name: request.deviceName.isEmpty ? random() : request.deviceName,
            deviceProfileId: profile.id,
            additionalInfo: request.isGateway ? ["gateway": true] : nil
        )
        try DeviceRules.check(device)
        let wanted = request.credentials ?? .accessToken(random())
        return (device, try CredentialsRules.completed(wanted.credentials(of: device.id, at: now)))
    }

    /// The answer to a request that broke a rule of devices or credentials; `nil` if the error is another one.
    public static func refusal(by error: any Error) -> ProvisionResult? {
        guard let error = error as? NodeError, error.code == .badRequest else { return nil }
        return .refused(error.message, nil)
    }
}

extension ProvisionRequest.Credentials {
    fileprivate func credentials(of device: DeviceId, at now: Timestamp) -> DeviceCredentials {
        var credentials = DeviceCredentials(createdTime: now, deviceId: device, credentialsId: "")
        switch self {
        case .accessToken(let token): credentials.credentialsId = token
        case .mqttBasic(let clientId, let userName, let password):
            let members = [("clientId", clientId), ("userName", userName), ("password", password)]
            credentials.kind = .mqttBasic
            credentials.credentialsValue =
                JSON.object(JSON.Object(members.map { ($0.0, $0.1.map(JSON.string) ?? .null) })).description
        case .x509Certificate(let certificate):
            credentials.kind = .x509Certificate
            credentials.credentialsValue = certificate
        }
        return credentials
    }
}
