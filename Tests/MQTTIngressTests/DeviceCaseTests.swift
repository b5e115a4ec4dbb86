import DeviceCases
import IngressKit
import NodeKit
import OTA
import Testing

@testable import MQTTIngress

@Suite(.timeLimit(.minutes(5))) struct DeviceCaseTests {
    @Test("a request becomes the same message, or the same fault, as over every transport", arguments: DeviceCase.all)
    func table(row: DeviceCase) async throws {
        try await TestServer.run(answer: { _ in row.outcome }) { server in
            let (topic, payload) = try Self.request(row.request)
            let name =
                switch row.request {
                case .provisioning: "provision"
                default: TestServer.token
                }
            let client = try await server.connected(.v5, token: name)
            client.publish(topic, payload)
            let first = try await client.next()
            // What answers a request comes behind its acknowledgement.
            switch (row.answer, row.request) {
            case (.empty, _):
                #expect(first == .puback(AcknowledgementPacket(packetId: 1)))
            case (.json(let value), _):
                #expect(first == .puback(AcknowledgementPacket(packetId: 1)))
                let answer = try await client.message()
                #expect(answer.topic == Self.response(to: row.request))
                #expect(try JSON(parsing: answer.payload) == value)
            case (.fault(let code, let sentence), .package(let type, _, _)):
                let text = code == .notFound ? "NOT_FOUND" : "FAILURE: \(sentence)"
                #expect(first == .puback(AcknowledgementPacket(packetId: 1)))
                #expect(try await client.text() == "v2/\(type.prefix)/error \(text)")
            case (.fault(_, let sentence), .serverCall) where row.message != nil:
                #expect(first == .puback(AcknowledgementPacket(packetId: 1)))
                let error: JSON = ["error": .string(sentence)]
                #expect(try JSON(parsing: try await client.message().payload) == error)
            case (.fault(let code, let sentence), _):
                var reason = ReasonCode(code)
                if case .callAnswer(let id, _) = row.request, DeviceProtocol.number(id.utf8) == nil {
                    reason = .topicNameInvalid
                }
                // Of a fault of the host's own the reason says all.
                let words: Properties = code == .internalError ? [] : .reason(sentence)
                let expected = AcknowledgementPacket(packetId: 1, reason: reason, properties: words)
                #expect(first == .puback(expected))
            }
            let message = server.sent.first?.message
            #expect(server.sent.count == (row.message == nil ? 0 : 1))
            if let message, let expected = row.message {
                #expect(expected.matches(message, from: TestServer.device, over: "mqtt"), "\(message)")
            }
        }
    }

    private static func request(_ request: DeviceCase.Request) throws -> (topic: String, payload: String) {
        switch request {
        case .telemetry(let body): return ("v1/devices/me/telemetry", body)
        case .attributes(let body): return ("v1/devices/me/attributes", body)
        case .attributeRequest(let client, let shared):
            var keys: JSON.Object = [:]
            keys["clientKeys"] = client.map(JSON.string)
            keys["sharedKeys"] = shared.map(JSON.string)
            return ("v1/devices/me/attributes/request/0", JSON.object(keys).description)
        case .serverCall(let body): return ("v1/devices/me/rpc/request/0", body)
        case .callAnswer(let id, let body): return ("v1/devices/me/rpc/response/\(id)", body)
        case .claim(let body): return ("v1/devices/me/claim", body)
        case .provisioning(let body): return ("/provision/request", body)
        case .package(let type, let chunk, let size): return ("v2/\(type.prefix)/request/1/chunk/\(chunk)", size)
        }
    }

    private static func response(to request: DeviceCase.Request) -> String {
        switch request {
        case .attributeRequest: "v1/devices/me/attributes/response/0"
        case .serverCall: "v1/devices/me/rpc/response/0"
        case .provisioning: "/provision/response"
        default: ""
        }
    }
}
