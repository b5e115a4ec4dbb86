import DeviceCases
import NIOCore
import NodeKit
import OTA
import Testing

@testable import CoAPIngress

@Suite(.timeLimit(.minutes(5))) struct DeviceCaseTests {
    @Test("a request becomes the same message, or the same fault, as over every transport", arguments: DeviceCase.all)
    func table(row: DeviceCase) async throws {
        try await TestNode.run(answer: { _ in row.outcome }) { node in
            let (method, uri, body) = Self.request(row.request)
            let answer = try await node.peer().ask(method, uri, body)
            let message = node.outlet.sent.first?.message
            #expect(node.outlet.sent.count == (row.message == nil ? 0 : 1))
            if let message, let expected = row.message {
                #expect(expected.matches(message, from: TestDevices.first, over: "coap"), "\(message)")
            }
            switch row.answer {
            case .empty:
                #expect(answer.code == .created && answer.payload.readableBytes == 0)
            case .json(let value):
                let isPosted =
                    switch row.request {
                    case .provisioning: true
                    default: false
                    }
                // ThingsBoard answers 4.04 if there is no attribute.
                #expect(answer.code == (value == [:] ? .notFound : isPosted ? .created : .content))
                #expect(try JSON(parsing: answer.payload) == value)
            case .fault(let code, let sentence):
                #expect(answer.code == Self.codes[code])
                #expect(answer.payload.text == sentence)
            }
        }
    }

    private static let codes: [NodeError.Code: CoAPCode] = [
        .badRequest: .badRequest, .notFound: .notFound, .conflict: .conflict, .unavailable: .serviceUnavailable,
        .internalError: .internalServerError, .storageFull: .internalServerError,
    ]

    private static func request(_ request: DeviceCase.Request) -> (CoAPCode, String, String?) {
        func query(_ arguments: [(name: String, value: String?)]) -> String {
            arguments.compactMap { name, value in value.map { "\(name)=\($0)" } }.joined(separator: "&")
        }
        return switch request {
        case .telemetry(let body): (.post, "/api/v1/T1/telemetry", body)
        case .attributes(let body): (.post, "/api/v1/T1/attributes", body)
        case .attributeRequest(let client, let shared):
            (.get, "/api/v1/T1/attributes?" + query([("clientKeys", client), ("sharedKeys", shared)]), nil)
        case .serverCall(let body): (.post, "/api/v1/T1/rpc", body)
        case .callAnswer(let id, let body): (.post, "/api/v1/T1/rpc/\(id)", body)
        case .claim(let body): (.post, "/api/v1/T1/claim", body)
        case .provisioning(let body): (.post, "/api/v1/provision", body)
        case .package(let type, let chunk, let size):
            (
                .get,
                "/\(type.prefix)/T1?" + query([("title", "t"), ("version", "v"), ("chunk", chunk), ("size", size)]),
                nil
            )
        }
    }
}
