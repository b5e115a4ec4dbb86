public import NodeKit
import OTA

/// Makes a device of somebody who knows the provisioning key and secret of a profile, in the words of ThingsBoard.
///
/// From here on the message is about the device that was made or found, of type `PROVISION_SUCCESS` or `PROVISION_FAILURE`, and
/// without what must stay secret. The reply has the credentials.
///
/// | Relation  | When                                                                                      |
/// |-----------|-------------------------------------------------------------------------------------------|
/// | `Success` | The device is provisioned; the reply has `status` `SUCCESS` and its credentials.          |
/// | `Refused` | Key and secret are unknown, or this device may not; `status` is `NOT_FOUND` or `FAILURE`. |
/// | `Failure` | The request is incomplete (`bad-request`), or the store could not answer.                 |
public struct ProvisionNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "provision",
        summary: "Makes a device of somebody who knows the provisioning key and secret of a profile.",
        relations: [
            RelationDescriptor(
                .success,
                "The device is provisioned (PROVISION_SUCCESS); the reply has its credentials."
            ),
            RelationDescriptor(
                "Refused",
                "Key and secret are unknown, or this device may not (PROVISION_FAILURE); the reply says so."
            ),
            RelationDescriptor(.failure, "The request is incomplete, or the store could not answer."),
        ],
        variables: [
            VariableDescriptor("provisionStatus", "SUCCESS, NOT_FOUND or FAILURE."),
            VariableDescriptor("reason", "Of a refused request: why, for the log; the device is not told."),
        ]
    )

    private let provisioning: any DeviceProvisioningService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.provisioning = try services.require((any DeviceProvisioningService).self)
    }

    /// Provisions the device and sets the reply.
    public func process(_ message: Message) async throws -> Emission {
        guard message.type == .provisionRequest, case .json(.object(let body)) = message.data else {
            throw NodeError(.badRequest, "provision takes a JSON object of type '\(MessageType.provisionRequest)'")
        }
        let members = ProvisionMembers(body)
        let request = try members.request()
        var message = message
        message.data = .json(.object(members.withoutSecrets))
        switch try await self.provisioning.provision(request) {
        case .provisioned(let device, let credentials):
            message.originator = device
            message.type = .provisionSuccess
            message.metadata["provisionStatus"] = "SUCCESS"
            return .route(message.replying(.json(Self.answer(credentials))), to: .success)
        case .notFound:
            return Self.refused(
                message,
                status: "NOT_FOUND",
                "Provision data was not found!",
                reason: "no profile that provisions devices has this key and secret"
            )
        case .refused(let reason, let device):
            if let device { message.originator = device }
            return Self.refused(message, status: "FAILURE", "Failed to provision device!", reason: reason)
        }
    }

    private static func answer(_ credentials: DeviceCredentials) -> JSON {
        let value: JSON =
            switch credentials.kind {
            case .accessToken: .string(credentials.credentialsId)
            case .x509Certificate: .string(credentials.credentialsValue ?? "")
            // Stored as the text of an object, answered as the object.
            case .mqttBasic: credentials.credentialsValue.flatMap { try? JSON(parsing: $0) } ?? .null
            }
        return [
            "credentialsValue": value,
            "credentialsType": .string(credentials.kind.rawValue),
            "status": "SUCCESS",
        ]
    }

    private static func refused(
        _ message: Message,
        status: String,
        _ sentence: String,
        reason: String
    ) -> Emission {
        var message = message
        message.type = .provisionFailure
        message.metadata["provisionStatus"] = .string(status)
        message.metadata["reason"] = .string(reason)
        let reply: JSON = ["errorMsg": .string(sentence), "status": .string(status)]
        return .route(message.replying(.json(reply)), to: "Refused")
    }
}

/// The members of a provision request.
private struct ProvisionMembers {
    private static let secrets = ["provisionDeviceSecret", "token", "password", "hash"]

    private let body: JSON.Object

    init(_ body: JSON.Object) { self.body = body }

    /// What nodes after this one may see, and write to a log.
    var withoutSecrets: JSON.Object {
        JSON.Object(self.body.members.lazy.filter { !Self.secrets.contains($0.name) }.map { ($0.name, $0.value) })
    }

    /// The request that the members make.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest``, without any value that was sent.
    func request() throws(NodeError) -> ProvisionRequest {
        guard let key = try self.text("provisionDeviceKey"), let secret = try self.text("provisionDeviceSecret") else {
            throw NodeError(
                .badRequest,
                "a request to be provisioned needs 'provisionDeviceKey' and 'provisionDeviceSecret'"
            )
        }
        return ProvisionRequest(
            deviceName: try self.text("deviceName") ?? "",
            deviceKey: key,
            deviceSecret: secret,
            credentials: try self.credentials(),
            isGateway: self.body["gateway"]?.text == "true"
        )
    }

    /// The credentials that the device wants; `nil` if it brings none, of whatever type.
    private func credentials() throws(NodeError) -> ProvisionRequest.Credentials? {
        let token = try self.textIfNotEmpty("token")
        let clientId = try self.textIfNotEmpty("clientId")
        let userName = try self.textIfNotEmpty("username")
        let password = try self.textIfNotEmpty("password")
        let certificate = try self.textIfNotEmpty("hash")
        let type = try self.text("credentialsType") ?? DeviceCredentials.Kind.accessToken.rawValue
        guard let kind = DeviceCredentials.Kind(rawValue: type) else {
            throw NodeError(
                .badRequest,
                "'credentialsType' must be ACCESS_TOKEN, MQTT_BASIC or X509_CERTIFICATE"
            )
        }
        guard [token, clientId, userName, password, certificate].contains(where: { $0 != nil }) else { return nil }
        switch kind {
        case .accessToken: return .accessToken(token ?? "")
        case .mqttBasic: return .mqttBasic(clientId: clientId, userName: userName, password: password)
        case .x509Certificate: return .x509Certificate(certificate ?? "")
        }
    }

    private func textIfNotEmpty(_ name: String) throws(NodeError) -> String? {
        try self.text(name).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// A member as text, numbers too, as ThingsBoard takes them; `nil` if it is absent or `null`.
    private func text(_ name: String) throws(NodeError) -> String? {
        switch self.body[name] {
        case nil, .null: return nil
        case .array, .object: throw NodeError(.badRequest, "'\(name)' must be a text")
        case let value?: return value.text
        }
    }
}
