import FoundationEssentials
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import OTANodes

@Suite struct ProvisionNodeTests {
    /// Answers with one result, and remembers what it was asked.
    private final class FakeProvisioning: DeviceProvisioningService {
        let requests = Mutex<[ProvisionRequest]>([])
        let result: Result<ProvisionResult, NodeError>

        init(_ result: Result<ProvisionResult, NodeError> = .success(.notFound)) { self.result = result }

        func provision(_ request: ProvisionRequest) async throws -> ProvisionResult {
            self.requests.withLock { $0.append(request) }
            return try self.result.get()
        }
    }

    private static let body: JSON.Object = [
        "deviceName": "pump", "provisionDeviceKey": "k", "provisionDeviceSecret": "s3cret",
    ]

    private func node(_ provisioning: FakeProvisioning) throws -> ProvisionNode {
        try ProvisionNode.make(
            services: .testing { $0.register(provisioning, as: (any DeviceProvisioningService).self) }
        )
    }

    private func message(_ members: JSON.Object = [:]) -> Message {
        var body = Self.body
        for member in members.members { body[member.name] = member.value }
        return Message(
            originator: .unknown(name: body["deviceName"]?.text ?? ""),
            type: .provisionRequest,
            metadata: [MessageKey.transport: "http"],
            data: .json(.object(body)),
            timestamp: Timestamp(milliseconds: 1000)
        )
    }

    @Test(
        "answers with the credentials word for word as ThingsBoard",
        arguments: [
            (
                .accessToken, "T", nil,
                #"{"credentialsValue":"T","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}"#
            ),
            (
                .mqttBasic, "digest", #"{"clientId":"c","userName":"u","password":"p"}"#,
                #"{"credentialsValue":{"clientId":"c","userName":"u","password":"p"},"credentialsType":"MQTT_BASIC","status":"SUCCESS"}"#
            ),
            (
                .x509Certificate, "digest", "PEM",
                #"{"credentialsValue":"PEM","credentialsType":"X509_CERTIFICATE","status":"SUCCESS"}"#
            ),
        ] as [(DeviceCredentials.Kind, String, String?, String)]
    )
    func success(kind: DeviceCredentials.Kind, id: String, value: String?, answer: String) async throws {
        let credentials = DeviceCredentials(
            deviceId: DeviceId(Originator.device.id),
            kind: kind,
            credentialsId: id,
            credentialsValue: value
        )
        let provisioning = FakeProvisioning(.success(.provisioned(.device, credentials)))
        let (message, relation) = try await self.node(provisioning).process(self.message()).only
        #expect(relation == .success)
        #expect(message.json?.description == answer)
        #expect(message.type == .provisionSuccess)
        #expect(message.originator == .device)
        #expect(message.metadata["provisionStatus"] == "SUCCESS")
        #expect(message.metadata["transport"] == "http")
    }

    @Test(
        "refuses word for word as ThingsBoard",
        arguments: [
            (true, #"{"errorMsg":"Failed to provision device!","status":"FAILURE"}"#),
            (false, #"{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}"#),
        ]
    )
    func refusal(isKnown: Bool, answer: String) async throws {
        let provisioning = FakeProvisioning(.success(isKnown ? .refused("there is one", .device) : .notFound))
        let (message, relation) = try await self.node(provisioning).process(self.message()).only
        #expect(relation == "Refused")
        #expect(message.json?.description == answer)
        #expect(message.type == .provisionFailure)
        #expect(message.originator == (isKnown ? .device : .unknown(name: "pump")))
        #expect(message.metadata["provisionStatus"] == (isKnown ? "FAILURE" : "NOT_FOUND"))
        #expect(message.metadata["reason"] != nil)
    }

    @Test func `hands on no secret`() async throws {
        let provisioning = FakeProvisioning()
        let secrets: JSON.Object = ["token": "s3cret", "password": "s3cret", "hash": "s3cret", "username": "u"]
        let message = try await self.node(provisioning).process(self.message(secrets)).only.message
        #expect(message.data == .json(["deviceName": "pump", "provisionDeviceKey": "k", "username": "u"]))
        #expect(!"\(message)".contains("s3cret"))
    }

    @Test(
        "reads the credentials that a device brings",
        arguments: [
            ([:], nil), (["credentialsType": "MQTT_BASIC"], nil), (["token": ""], nil), (["token": nil], nil),
            (["token": "t"], .accessToken("t")), (["credentialsType": "ACCESS_TOKEN", "token": 7], .accessToken("7")),
            (["credentialsType": "ACCESS_TOKEN", "username": "u"], .accessToken("")),
            (
                ["credentialsType": "MQTT_BASIC", "clientId": "c", "username": "u", "password": "p"],
                .mqttBasic(clientId: "c", userName: "u", password: "p")
            ),
            (
                ["credentialsType": "MQTT_BASIC", "clientId": "c"],
                .mqttBasic(clientId: "c", userName: nil, password: nil)
            ),
            (["credentialsType": "X509_CERTIFICATE", "hash": "h"], .x509Certificate("h")),
        ] as [(JSON.Object, ProvisionRequest.Credentials?)]
    )
    func credentials(members: JSON.Object, expected: ProvisionRequest.Credentials?) async throws {
        let provisioning = FakeProvisioning()
        _ = try await self.node(provisioning).process(self.message(members))
        let request = ProvisionRequest(
            deviceName: "pump",
            deviceKey: "k",
            deviceSecret: "s3cret",
            credentials: expected
        )
        #expect(provisioning.requests.withLock { $0 } == [request])
    }

    @Test(
        arguments: [(["gateway": true], true), (["gateway": "true"], true), (["gateway": false], false), ([:], false)]
            as [(JSON.Object, Bool)]
    )
    func `a gateway says so`(members: JSON.Object, isGateway: Bool) async throws {
        let provisioning = FakeProvisioning()
        _ = try await self.node(provisioning).process(self.message(members))
        #expect(provisioning.requests.withLock { $0.map(\.isGateway) } == [isGateway])
    }

    @Test(
        "a request that is incomplete is the device's fault, and nothing is looked up",
        arguments: [
            ["provisionDeviceKey": nil], ["provisionDeviceSecret": nil], ["provisionDeviceKey": []],
            ["deviceName": ["s3cret"]], ["credentialsType": "LWM2M_CREDENTIALS"], ["credentialsType": "s3cret"],
        ] as [JSON.Object]
    )
    func incomplete(members: JSON.Object) async throws {
        let provisioning = FakeProvisioning()
        let error = try await #require(throws: NodeError.self) {
            try await self.node(provisioning).process(self.message(members))
        }
        #expect(error.code == .badRequest)
        #expect(!error.description.contains("s3cret"))
        #expect(provisioning.requests.withLock { $0 }.isEmpty)
    }

    @Test func `takes nothing but requests to be provisioned`() async throws {
        let node = try self.node(FakeProvisioning())
        for message in [Message.of(.postTelemetryRequest, [:], .object(Self.body)), .of(.provisionRequest, [:], [1])] {
            await #expect(throws: NodeError.self) { try await node.process(message) }
        }
    }

    @Test func `fails if the store does`() async throws {
        let node = try self.node(FakeProvisioning(.failure(NodeError(.unavailable, "busy"))))
        let error = await #expect(throws: NodeError.self) { try await node.process(self.message()) }
        #expect(error?.code == .unavailable)
    }
}
