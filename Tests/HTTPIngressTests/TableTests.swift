import NIOCore
import NodeKit
import OTA
import Testing

@testable import HTTPIngress

/// The tables of ThingsBoard's device API: what there is, and how each failure is told.
@Suite(.timeLimit(.minutes(5))) struct TableTests {
    private static func request(_ line: String, _ body: String? = nil, fields: String = "") -> String {
        let length = body.map { "Content-Length: \($0.utf8.count)\r\n" } ?? ""
        return "\(line) HTTP/1.1\r\nHost: h\r\n\(fields)\(length)\r\n\(body ?? "")"
    }

    /// A chain that answers everything as the shipped one would.
    private static func answer(_ message: Message) async -> Outcome {
        switch message.type {
        case .getAttributesRequest: .completed(.json(["shared": ["a": 1]]))
        case .toServerRPCRequest: .completed(.json(["result": 2]))
        case .claimRequest: .completed(.empty)
        case .provisionRequest: .completed(.json(["status": "SUCCESS"]))
        case .packageChunkRequest: serve(BufferContent(size: 3))(message)
        default: .completed(nil)
        }
    }

    // MARK: What there is

    struct Endpoint: Sendable, CustomTestStringConvertible {
        var line: String
        var body: String?
        var type: MessageType
        var data: MessageData = .none
        var text: String
        var testDescription: String { self.line }
    }

    @Test(
        "every endpoint sends its message and hands the answer on",
        arguments: [
            Endpoint(
                line: "GET /api/v1/A1/attributes?clientKeys=a,b&sharedKeys=c",
                type: .getAttributesRequest,
                text: #"{"shared":{"a":1}}"#
            ),
            Endpoint(
                line: "POST /api/v1/A1/attributes",
                body: #"{"a":1}"#,
                type: .postAttributesRequest,
                data: .json(["a": 1]),
                text: ""
            ),
            Endpoint(
                line: "POST /api/v1/A1/telemetry",
                body: #"[{"a":1},{"ts":5,"values":{"a":2}}]"#,
                type: .postTelemetryRequest,
                data: .json([["a": 1], ["ts": 5, "values": ["a": 2]]]),
                text: ""
            ),
            Endpoint(
                line: "POST /api/v1/A1/rpc/7",
                body: #"{"ok":true}"#,
                type: .toServerRPCResponse,
                data: .json(["ok": true]),
                text: ""
            ),
            Endpoint(
                line: "POST /api/v1/A1/rpc",
                body: #"{"method":"now","params":{"zone":"UTC"}}"#,
                type: .toServerRPCRequest,
                data: .json(["zone": "UTC"]),
                text: #"{"result":2}"#
            ),
            Endpoint(
                line: "POST /api/v1/A1/claim",
                body: #"{"secretKey":"s","durationMs":60000}"#,
                type: .claimRequest,
                data: .json(["secretKey": "s", "durationMs": 60_000]),
                text: ""
            ),
            Endpoint(line: "POST /api/v1/A1/claim", type: .claimRequest, data: .json([:]), text: ""),
            Endpoint(
                line: "POST /api/v1/provision",
                body: #"{"deviceName":"d","provisionDeviceKey":"k","provisionDeviceSecret":"s"}"#,
                type: .provisionRequest,
                data: .json(["deviceName": "d", "provisionDeviceKey": "k", "provisionDeviceSecret": "s"]),
                text: #"{"status":"SUCCESS"}"#
            ),
            Endpoint(
                line: "GET /api/v1/A1/firmware?title=t&version=v",
                type: .packageChunkRequest,
                text: "\0\u{1}\u{2}"
            ),
            Endpoint(
                line: "GET /api/v1/A1/software?title=t&version=v&chunk=1&size=2",
                type: .packageChunkRequest,
                text: "\u{2}"
            ),
        ]
    )
    func endpoints(endpoint: Endpoint) async throws {
        try await withServer(answer: Self.answer) { server in
            let response = try await server.exchange(Self.request(endpoint.line, endpoint.body))
            #expect(response.status == 200)
            #expect(response.text == endpoint.text)
            let message = try #require(server.messages.first)
            #expect(server.messages.count == 1)
            #expect(message.type == endpoint.type)
            #expect(message.data == endpoint.data)
            #expect(message.metadata.string(MessageKey.transport) == "http")
            let isDevice = endpoint.type != .provisionRequest
            #expect(message.originator == (isDevice ? TestDevices.device : .unknown(name: "d")))
        }
    }

    // MARK: Failures

    struct Failure: Sendable, CustomTestStringConvertible {
        var request: String
        var status: Int
        /// The body's text; `nil` for the error object of ThingsBoard.
        var text: String?
        var messages = 0
        var outcome: Outcome = .completed(nil)
        var testDescription: String { self.request }
    }

    @Test(
        "every failure is told as in ThingsBoard, but for 400 in place of 500 where the client is at fault",
        arguments: [
            // Unknown token.
            Failure(request: request("GET /api/v1/no/attributes"), status: 401, text: ""),
            Failure(request: request("POST /api/v1/no/telemetry", "{}"), status: 401, text: ""),
            Failure(request: request("POST /api/v1/no/claim"), status: 401, text: ""),
            Failure(request: request("GET /api/v1/no/firmware?title=t&version=v"), status: 401, text: ""),
            // A body of which no message can be made; DeviceCase has all kinds.
            Failure(request: request("POST /api/v1/A1/telemetry", "{"), status: 400),
            // Any other exception, and too many requests.
            Failure(
                request: request("POST /api/v1/A1/telemetry", "{}"),
                status: 500,
                messages: 1,
                outcome: .failed(NodeError(.internalError, "x"))
            ),
            Failure(
                request: request("POST /api/v1/A1/telemetry", "{}"),
                status: 429,
                messages: 1,
                outcome: .failed(NodeError(.tooManyRequests, "x"))
            ),
            // No request body at all.
            Failure(request: request("POST /api/v1/A1/telemetry"), status: 400),
            // Missing and malformed parameters.
            Failure(request: request("GET /api/v1/A1/firmware?version=v"), status: 400),
            Failure(request: request("GET /api/v1/A1/firmware?title=t"), status: 400),
            Failure(request: request("GET /api/v1/A1/attributes/updates?timeout=x"), status: 400),
            Failure(request: request("GET /api/v1/A1/rpc?timeout=-1"), status: 400),
            // The time of a long poll, and of a call, runs out.
            Failure(request: request("GET /api/v1/A1/attributes/updates?timeout=1"), status: 408, text: ""),
            Failure(request: request("GET /api/v1/A1/rpc?timeout=1"), status: 408, text: ""),
            Failure(
                request: request("POST /api/v1/A1/rpc", #"{"method":"m"}"#),
                status: 408,
                text: "",
                messages: 1,
                outcome: .failed(NodeError(.timedOut, "x"))
            ),
            // Bodies over the limit.
            Failure(
                request: request("POST /api/v1/A1/telemetry", fields: "Content-Length: 52428801\r\n"),
                status: 413,
                text: "\"Payload size exceeds the limit of 52428800 bytes\""
            ),
            Failure(
                request: request("POST /api/v1/A1/rpc/1", fields: "Content-Length: 65537\r\n"),
                status: 413,
                text: "\"Payload size exceeds the limit of 65536 bytes\""
            ),
            // No package, and another title or version.
            Failure(
                request: request("GET /api/v1/A1/firmware?title=t&version=v"),
                status: 404,
                text: "",
                messages: 1,
                outcome: .completed(.refused(NodeError(.notFound, "x")))
            ),
            Failure(
                request: request("GET /api/v1/A1/firmware?title=t&version=v"),
                status: 400,
                text: "",
                messages: 1,
                outcome: .completed(.refused(NodeError(.badRequest, "x")))
            ),
            // A negative chunk, which is 500 in ThingsBoard.
            Failure(request: request("GET /api/v1/A1/firmware?title=t&version=v&chunk=-1&size=1"), status: 400),
        ]
    )
    func failures(failure: Failure) async throws {
        try await withServer(answer: { _ in failure.outcome }) { server in
            let response = try await server.exchange(failure.request)
            #expect(response.status == failure.status)
            if let text = failure.text {
                #expect(response.text == text)
            } else {
                let error = try JSON(parsing: response.body)
                #expect(error["status"] == .integer(Int64(failure.status)))
                #expect(error["message"]?.string?.isEmpty == false)
                #expect(error["errorCode"]?.integer != nil)
                #expect(error["timestamp"]?.integer != nil)
            }
            #expect((response["Retry-After"] != nil) == (failure.status == 429))
            #expect(server.messages.count == failure.messages)
        }
    }

    @Test("a device that is deleted while it waits is told so", arguments: ["attributes/updates", "rpc"])
    func deleted(path: String) async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send(Self.request("GET /api/v1/A1/\(path)"))
            try await server.until { server.sessions.hasListener(of: TestDevices.device.id) }
            try await server.domain.store.deleteDevice(DeviceId(TestDevices.device.id))
            let response = try await client.response()
            #expect(response.status == 403)
            #expect(response.text == "Device was deleted!")
            try await client.close()
        }
    }
}
