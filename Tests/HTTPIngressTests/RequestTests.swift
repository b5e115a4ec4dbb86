import NodeKit
import OTA
import Testing

@Suite(.timeLimit(.minutes(5))) struct RequestTests {
    @Test("attributes are read through the chain, with the names that were asked for")
    func readAttributes() async throws {
        try await withServer(answer: { _ in .completed(.json(["shared": ["fw_title": "t"]])) }) { server in
            let response = try await server.get("/api/v1/A1/attributes?sharedKeys=fw_title&sharedKeys=x&clientKeys=a,b")
            #expect(response.status == 200)
            #expect(response.text == #"{"shared":{"fw_title":"t"}}"#)
            #expect(response["Content-Type"] == "application/json")
            let message = try #require(server.messages.first)
            #expect(message.type == .getAttributesRequest)
            #expect(message.originator == TestDevices.device)
            #expect(message.metadata.string("sharedKeys") == "fw_title,x")
            #expect(message.metadata.string("clientKeys") == "a,b")
            #expect(message.metadata.string("transport") == "http")
        }
    }

    @Test("what a device posts reaches the chain as JSON, and no reply means that all is well")
    func posts() async throws {
        try await withServer { server in
            for (path, body) in [
                ("telemetry", #"{"fw_state":"UPDATED"}"#), ("telemetry", "[]"),
                ("telemetry", #"[{"ts":1,"values":{"a":1}}]"#),
                ("attributes", "{}"), ("rpc/7", #"[1,"x"]"#),
            ] {
                let response = try await server.post("/api/v1/A1/\(path)", body)
                #expect(response.status == 200)
                #expect(response["Content-Length"] == "0")
            }
            #expect(
                server.messages.map(\.type) == [
                    .postTelemetryRequest, .postTelemetryRequest, .postTelemetryRequest, .postAttributesRequest,
                    .toServerRPCResponse,
                ]
            )
            #expect(server.messages[0].data == .json(["fw_state": "UPDATED"]))
            #expect(server.messages[4].data == .json([1, "x"]))
            #expect(server.messages[4].metadata.integer("requestId") == 7)
        }
    }

    @Test("a call of the server is answered with what the chain replies")
    func call() async throws {
        try await withServer(answer: { .completed(.json(["got": .string($0.metadata.string("method") ?? "")])) }) {
            server in
            let response = try await server.post("/api/v1/A1/rpc", #"{"method":"now","params":{"a":1}}"#)
            #expect(response.text == #"{"got":"now"}"#)
            #expect(server.messages[0].data == .json(["a": 1]))
            #expect(try await server.post("/api/v1/A1/rpc", #"{"method":"now"}"#).status == 200)
            #expect(server.messages[1].data == .json(.null))
        }
    }

    @Test(
        "a body that is no fit JSON is a bad request in ThingsBoard's form, and reaches no chain",
        arguments: [
            ("attributes", "{"), ("attributes", "[]"), ("attributes", "1"), ("telemetry", "{\"a\":}"),
            ("telemetry", "1"),
            ("telemetry", "[1]"), ("telemetry", ""), ("attributes", ""), ("rpc/1", "x"), ("rpc", "{}"), ("rpc", "[]"),
            ("rpc", #"{"method":1}"#), ("telemetry", String(repeating: "[", count: 40)),
        ]
    )
    func badBodies(path: String, body: String) async throws {
        try await withServer { server in
            let response = try await server.post("/api/v1/A1/\(path)", body)
            #expect(response.status == 400)
            let error = try JSON(parsing: response.body)
            #expect(error["status"] == 400)
            #expect(error["errorCode"] == 31)
            #expect(error["message"]?.string?.isEmpty == false)
            #expect(error["timestamp"]?.integer ?? 0 > 0)
            #expect(server.messages.isEmpty)
        }
    }

    @Test(
        "U+0000 in a body or a parameter is a bad request that names the field, and reaches no chain",
        .bug(id: "D1.3"),
        arguments: [
            ("POST A1/telemetry", #"{"v":"a\u0000b"}"#, "v"), ("POST A1/telemetry", "{\"v\":\"a\u{0}b\"}", "v"),
            ("POST A1/telemetry", #"[{"ts":1,"values":{"a":{"b":"\u0000"}}}]"#, "[0].values.a.b"),
            ("POST A1/attributes", #"{"a\u0000":1}"#, #"a\u0000"#),
            ("POST A1/rpc", #"{"method":"m","params":"\u0000"}"#, "params"),
            ("POST A1/rpc/1", #"{"r":["\u0000"]}"#, "r[0]"), ("POST A1/claim", #"{"secretKey":"\u0000"}"#, "secretKey"),
            ("POST provision", #"{"deviceName":"\u0000"}"#, "deviceName"),
            ("GET A1/attributes?sharedKeys=a%00", "", "sharedKeys"),
            ("GET A1/attributes?clientKeys=%00b", "", "clientKeys"),
            ("GET A1/firmware?title=t%00&version=v", "", "title"),
            ("GET A1/software?title=t&version=v%00", "", "version"),
            ("GET A1%00/attributes", "", "path"),
        ]
    )
    func nullCharacter(line: String, body: String, field: String) async throws {
        try await withServer { server in
            let parts = line.split(separator: " ")
            let path = "/api/v1/\(parts[1])"
            let response = parts[0] == "POST" ? try await server.post(path, body) : try await server.get(path)
            #expect(response.status == 400)
            if !path.contains("/firmware"), !path.contains("/software") {
                let message = try JSON(parsing: response.body)["message"]
                #expect(message == .string("'\(field)' must not have the character U+0000 in it"))
            }
            #expect(server.messages.isEmpty)
        }
    }

    @Test("a path whose escapes are not UTF-8 is a bad request, not another text", .bug(id: "D1.2"))
    func notUTF8() async throws {
        try await withServer { server async throws in
            for token in ["A1%FF", "%FF", "A1%C3", "%ED%A0%80"] {
                #expect(try await server.post("/api/v1/\(token)/telemetry", "{}").status == 400)
            }
            #expect(server.messages.isEmpty)
        }
    }

    @Test(
        "an unknown token gets 401 without a body",
        arguments: [
            "GET /api/v1/no/attributes", "GET /api/v1/no/firmware?title=t&version=v", "GET /api/v1/no/rpc",
            "HEAD /api/v1/no/attributes",
        ]
    )
    func unknownToken(line: String) async throws {
        try await withServer { server in
            let response = try await server.exchange("\(line) HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(response.status == 401)
            #expect(response["Content-Length"] == "0")
            #expect(server.messages.isEmpty)
        }
    }

    @Test("a token may hold escapes")
    func escapedToken() async throws {
        try await withServer { server async throws in
            #expect(try await server.post("/api/v1/A%201%C3%BC/telemetry", "{}").status == 200)
            #expect(server.messages.map(\.originator) == [TestDevices.escaped])
        }
    }

    @Test("a path that does not exist gets 404, a method that it does not have 405 with those it has")
    func noSuchThing() async throws {
        try await withServer { server in
            let missing = try await server.get("/api/v1/A1/nothing")
            #expect(missing.status == 404)
            #expect(try JSON(parsing: missing.body)["message"] == "Not Found")
            let wrong = try await server.post("/api/v1/A1/firmware", "")
            #expect(wrong.status == 405)
            #expect(wrong["Allow"] == "GET, HEAD")
            #expect(server.messages.isEmpty)
        }
    }

    @Test(
        "what the chain says becomes the status of its code",
        arguments: [
            (.badRequest, 400), (.unauthorized, 401), (.forbidden, 403), (.notFound, 404), (.conflict, 409),
            (.tooLarge, 413),
            (.tooManyRequests, 429), (.storageFull, 507), (.unavailable, 503), (.timedOut, 504), (.internalError, 500),
            ("of-a-plugin", 500),
        ] as [(NodeError.Code, Int)]
    )
    func codes(code: NodeError.Code, status: Int) async throws {
        let error = NodeError(code, "a reason that is told")
        for outcome in [Outcome.failed(error), .completed(.refused(error))] {
            try await withServer(answer: { _ in outcome }) { server in
                let response = try await server.post("/api/v1/A1/telemetry", "{}")
                #expect(response.status == status)
                #expect(response.text.contains(error.message) == ![401, 500, 507].contains(status))
            }
        }
    }

    @Test("a store that is away while a device is authenticated gets 503")
    func authenticatorFails() async throws {
        try await withServer { server in
            let response = try await server.get("/api/v1/away/attributes")
            #expect(response.status == 503)
        }
    }

    @Test("HEAD of attributes has the length of GET and no body")
    func headOfAttributes() async throws {
        try await withServer(answer: { _ in .completed(.json(["a": 1])) }) { server in
            let client = try await server.connect()
            for _ in 0..<2 {
                try await client.send("HEAD /api/v1/A1/attributes HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try await client.response(isHead: true)
                #expect(response["Content-Length"] == "7")
            }
            try await client.close()
        }
    }

    @Test("a request that nothing in the chain answers gets 404")
    func unanswered() async throws {
        try await withServer { server in
            #expect(try await server.post("/api/v1/A1/rpc", #"{"method":"m"}"#).status == 404)
            let download = try await server.get("/api/v1/A1/firmware?title=t&version=v")
            #expect(download.status == 404)
            #expect(download["Content-Length"] == "0")
        }
    }

    @Test("an error of the host itself is not told to a device")
    func hostError() async throws {
        try await withServer(answer: { _ in .failed(NodeError(.internalError, "secret")) }) { server in
            let response = try await server.get("/api/v1/A1/attributes")
            #expect(response.status == 500)
            #expect(!response.text.contains("secret"))
        }
    }
}
