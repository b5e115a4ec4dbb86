import NIOCore
import NodeKit
import Testing

@Suite(.timeLimit(.minutes(5))) struct FramingTests {
    @Test("a request may come byte by byte")
    func byteByByte() async throws {
        try await withServer { server in
            let client = try await server.connect()
            let request = "POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\n{\"a\":1}"
            for byte in request.utf8 { try await client.send(bytes: [byte]) }
            #expect(try await client.response().status == 200)
            #expect(server.messages.first?.data == .json(["a": 1]))
            try await client.close()
        }
    }

    @Test("requests sent in one go are answered one after the other, in order")
    func pipelining() async throws {
        try await withServer(answer: { message in
            // Later ones would overtake if they were handled at the same time.
            if message.metadata.string("sharedKeys") == "k0" { try? await Task.sleep(for: .milliseconds(50)) }
            return .completed(.json(.string(message.metadata.string("sharedKeys") ?? "")))
        }) { server in
            let client = try await server.connect()
            let count = 500
            let requests = (0..<count).map { "GET /api/v1/A1/attributes?sharedKeys=k\($0) HTTP/1.1\r\nHost: h\r\n\r\n" }
            try await client.send(requests.joined())
            for index in 0..<count { #expect(try await client.response().text == "\"k\(index)\"") }
            #expect(server.messages.map { $0.metadata.string("sharedKeys") } == (0..<count).map { "k\($0)" })
            try await client.close()
        }
    }

    @Test("requests that are refused and served may alternate in one go")
    func mixedPipeline() async throws {
        try await withServer { server in
            let client = try await server.connect()
            let pair =
                "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n"
                + "POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
            try await client.send(String(repeating: pair, count: 1000))
            for _ in 0..<1000 {
                #expect(try await client.response().status == 404)
                #expect(try await client.response().status == 200)
            }
            try await client.close()
        }
    }

    @Test("a client that asks first is told to go on, or why not")
    func expectation() async throws {
        try await withServer { server in
            let fields = "HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            let client = try await server.connect()
            try await client.send("POST /api/v1/A1/telemetry \(fields)")
            #expect(try await client.response().status == 100)
            try await client.send("{}")
            #expect(try await client.response().status == 200)
            try await client.send("POST /api/v1/A1/nothing \(fields)")
            #expect(try await client.response().status == 404)
            #expect(await client.rest() == "")
            let unknown = try await server.connect()
            try await unknown.send("POST /api/v1/no/telemetry \(fields)")
            #expect(try await unknown.response().status == 401)
            #expect(await unknown.rest() == "")
        }
    }

    @Test("a client may send its body without waiting to be told to go on")
    func impatient() async throws {
        try await withServer { server in
            let client = try await server.connect()
            let fields = "HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            let request = "POST /api/v1/A1/telemetry \(fields){}"
            try await client.send(request + request)
            for _ in 0..<2 {
                #expect(try await client.response().status == 100)
                #expect(try await client.response().status == 200)
            }
            try await client.close()
        }
    }
}
