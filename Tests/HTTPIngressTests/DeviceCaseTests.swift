import DeviceCases
import NodeKit
import OTA
import Testing

@testable import HTTPIngress

@Suite(.timeLimit(.minutes(5))) struct DeviceCaseTests {
    @Test("a request becomes the same message, or the same fault, as over every transport", arguments: DeviceCase.all)
    func table(row: DeviceCase) async throws {
        try await withServer(answer: { _ in row.outcome }) { server in
            let response = try await server.exchange(Self.request(row.request))
            let message = server.messages.first
            #expect(server.messages.count == (row.message == nil ? 0 : 1))
            if let message, let expected = row.message {
                #expect(expected.matches(message, from: TestDevices.device, over: "http"), "\(message)")
            }
            switch row.answer {
            case .empty:
                #expect(response.status == 200 && response.text.isEmpty)
            case .json(let value):
                #expect(response.status == 200)
                #expect(try JSON(parsing: response.body) == value)
            case .fault(let code, let sentence):
                #expect(response.status == Self.statuses[code])
                // Of a download that the chain refuses, ThingsBoard tells no more.
                if case .package = row.request, row.message != nil, code == .notFound {
                    #expect(response.text.isEmpty)
                } else {
                    #expect(try JSON(parsing: response.body)["message"]?.string == sentence)
                }
            }
        }
    }

    private static let statuses: [NodeError.Code: Int] = [
        .badRequest: 400, .notFound: 404, .conflict: 409, .internalError: 500, .unavailable: 503, .storageFull: 507,
    ]

    private static func request(_ request: DeviceCase.Request) -> String {
        func get(_ path: String, _ query: [(name: String, value: String?)]) -> String {
            let query = query.compactMap { name, value in value.map { "\(name)=\(Self.escaped($0))" } }
            return "GET \(path)?\(query.joined(separator: "&")) HTTP/1.1\r\nHost: h\r\n\r\n"
        }
        func post(_ path: String, _ body: String) -> String {
            "POST \(path) HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        }
        return switch request {
        case .telemetry(let body): post("/api/v1/A1/telemetry", body)
        case .attributes(let body): post("/api/v1/A1/attributes", body)
        case .attributeRequest(let client, let shared):
            get("/api/v1/A1/attributes", [("clientKeys", client), ("sharedKeys", shared)])
        case .serverCall(let body): post("/api/v1/A1/rpc", body)
        case .callAnswer(let id, let body): post("/api/v1/A1/rpc/\(id)", body)
        case .claim(let body): post("/api/v1/A1/claim", body)
        case .provisioning(let body): post("/api/v1/provision", body)
        case .package(let type, let chunk, let size):
            get(
                "/api/v1/A1/\(type == .firmware ? "firmware" : "software")",
                [("title", "t"), ("version", "v"), ("chunk", chunk), ("size", size)]
            )
        }
    }

    private static func escaped(_ text: String) -> String {
        text.utf8.map { byte in
            let hexadecimal = String(byte, radix: 16)
            return "%" + (hexadecimal.count == 1 ? "0" : "") + hexadecimal
        }.joined()
    }
}
