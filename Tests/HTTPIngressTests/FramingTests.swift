import FoundationEssentials
import NIOCore
import NodeKit
import Testing

@Suite(.timeLimit(.minutes(5))) struct FramingTests {
    struct Vector: Sendable, CustomTestStringConvertible {
        var status: Int
        var staysOpen: Bool
        var messages: Int
        var bytes: [UInt8]
        var testDescription: String

        init?(_ line: Substring) {
            let parts = line.split(separator: " ", maxSplits: 3)
            guard parts.count == 4, let status = Int(parts[0]), let messages = Int(parts[2]) else { return nil }
            self.status = status
            self.staysOpen = parts[1] == "open"
            self.messages = messages
            self.testDescription = String(line)
            self.bytes = []
            var rest = parts[3][...]
            while let character = rest.popFirst() {
                guard character == "\\", let escape = rest.popFirst() else {
                    self.bytes += Array(String(character).utf8)
                    continue
                }
                switch escape {
                case "r": self.bytes.append(0x0D)
                case "n": self.bytes.append(0x0A)
                case "t": self.bytes.append(0x09)
                case "0": self.bytes.append(0x00)
                default:
                    guard escape == "x", let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
                    self.bytes.append(byte)
                    rest = rest.dropFirst(2)
                }
            }
        }
    }

    private static let lines: [Substring] = {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Vectors/framing.txt")
        let text = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").filter { !$0.hasPrefix("#") }
    }()

    static let vectors = Self.lines.compactMap(Vector.init)

    @Test("every line of the vectors is read") func vectorsAreRead() {
        #expect(Self.vectors.count == Self.lines.count)
        #expect(Self.vectors.count > 100)
    }

    @Test(
        "a request is taken apart in one way only, whether it is read at once or byte by byte",
        arguments: Self.vectors,
        [true, false]
    )
    func framing(vector: Vector, atOnce: Bool) async throws {
        // The server reads single bytes: had the client to send them one by one, it could not know when to stop.
        let receiving = atOnce ? nil : FixedSizeRecvByteBufferAllocator(capacity: 1)
        try await withServer(receiving: receiving) { server in
            let client = try await server.connect()
            try await client.send(bytes: vector.bytes)
            let response = try await client.response()
            #expect(response.status == vector.status)
            if vector.staysOpen {
                try await client.send("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try await client.response().status == 404)
            } else {
                #expect(await client.rest() == "")
            }
            #expect(server.messages.count == vector.messages)
            try await client.close()
        }
    }

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

    @Test("a client that closes its side after its requests still gets the answers")
    func halfClosed() async throws {
        try await withServer { server in
            let client = try await server.connect()
            let request = "POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
            try await client.send(request + request)
            try await client.closeOutput()
            #expect(try await client.response().status == 200)
            #expect(try await client.response().status == 200)
            #expect(await client.rest() == "")
        }
    }

    @Test("a request that is cut off is not handed on")
    func cutOff() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send("POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n{}")
            try await client.closeOutput()
            #expect(await client.rest() == "")
            #expect(server.messages.isEmpty)
        }
    }

    @Test("Connection: close is obeyed, and what follows is not served")
    func close() async throws {
        try await withServer { server in
            let client = try await server.connect()
            let request =
                "POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
            try await client.send(request + request)
            let response = try await client.response()
            #expect(response.status == 200)
            #expect(response["Connection"] == "close")
            #expect(await client.rest() == "")
            #expect(server.messages.count == 1)
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
