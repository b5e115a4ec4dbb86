import FoundationEssentials
import NodeTesting
import Testing

/// What both servers make of the bytes of a connection, those of ingress nodes and the management API.
@Suite(.timeLimit(.minutes(5))) struct FramingTests {
    struct Vector: Sendable, CustomTestStringConvertible {
        var statuses: [Int]
        var staysOpen: Bool
        /// The bytes, in a text that has each of them as a character of its own.
        var text: String
        var testDescription: String

        init?(_ line: Substring) {
            let parts = line.split(separator: " ", maxSplits: 2)
            guard parts.count == 3 else { return nil }
            self.statuses = parts[0].split(separator: ",").compactMap { Int($0) }
            self.staysOpen = parts[1] == "open"
            self.testDescription = String(line)
            self.text = ""
            var rest = parts[2][...]
            while let character = rest.popFirst() {
                guard character == "\\", let escape = rest.popFirst() else {
                    self.text.append(character)
                    continue
                }
                switch escape {
                case "r": self.text.unicodeScalars.append("\r")
                case "n": self.text.unicodeScalars.append("\n")
                case "t": self.text.unicodeScalars.append("\t")
                case "0": self.text.unicodeScalars.append("\0")
                default:
                    guard escape == "x", let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
                    self.text.unicodeScalars.append(Unicode.Scalar(byte))
                    rest = rest.dropFirst(2)
                }
            }
        }

        /// What is sent to a server that takes bodies at a path.
        func bytes(path: String) -> [UInt8] {
            self.text.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false)
                .map { String(String.UnicodeScalarView($0)) }
                .map { $0 == "/in" ? path : $0 == "http://h/in" ? "http://h\(path)" : $0 }
                .joined(separator: " ").unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
        }

        /// Whether each request is a `HEAD`, in order.
        var isHead: Bool { self.text.hasPrefix("HEAD ") }
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

    @Test("a request is taken apart in one way only, by each server", arguments: vectors, FramingServer.allCases)
    func framing(vector: Vector, server: FramingServer) async throws {
        try await server.run { server in
            let client = try await RawHTTPClient.connect(port: server.port)
            try await client.send(bytes: vector.bytes(path: server.path))
            for status in vector.statuses {
                let response = try await client.response(isHead: vector.isHead)
                #expect(response.status == (status == 200 ? server.status : status))
            }
            if vector.staysOpen {
                try await client.send("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try await client.response().status == 404)
                try await client.close()
            } else {
                #expect(await client.rest() == "")
                try await client.close()
            }
            if let served = server.served() { #expect(served == vector.statuses.count { $0 == 200 }) }
        }
    }

    private static func post(_ server: FramingServer.Running, _ fields: String = "") -> String {
        "POST \(server.path) HTTP/1.1\r\nHost: h\r\n\(fields)Content-Length: 2\r\n\r\n{}"
    }

    @Test("a request may come byte by byte", arguments: FramingServer.allCases)
    func byteByByte(server: FramingServer) async throws {
        try await server.run { server in
            let client = try await RawHTTPClient.connect(port: server.port)
            for byte in Self.post(server).utf8 { try await client.send(bytes: [byte]) }
            #expect(try await client.response().status == server.status)
            try await client.close()
        }
    }

    @Test("requests sent in one go are answered one after the other", arguments: FramingServer.allCases)
    func pipelining(server: FramingServer) async throws {
        try await server.run { server in
            let client = try await RawHTTPClient.connect(port: server.port)
            let pair = "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n" + "DELETE /nothing HTTP/1.1\r\nHost: h\r\n\r\n"
            try await client.send(String(repeating: pair, count: 250))
            for _ in 0..<500 { #expect(try await client.response().status == 404) }
            try await client.close()
        }
    }

    @Test("a client that closes its side after its requests still gets the answers", arguments: FramingServer.allCases)
    func halfClosed(server: FramingServer) async throws {
        try await server.run { server in
            let client = try await RawHTTPClient.connect(port: server.port)
            try await client.send(Self.post(server) + Self.post(server))
            try await client.closeOutput()
            #expect(try await client.response().status == server.status)
            #expect(try await client.response().status == server.status)
            #expect(await client.rest() == "")
            try await client.close()
        }
    }

    @Test("a request that is cut off ends the connection", arguments: FramingServer.allCases)
    func cutOff(server: FramingServer) async throws {
        try await server.run { server in
            let client = try await RawHTTPClient.connect(port: server.port)
            try await client.send(String(Self.post(server).dropLast()))
            try await client.closeOutput()
            let rest = await client.rest()
            // The management API may still say that it cannot read it.
            #expect(rest == "" || rest.hasPrefix("HTTP/1.1 400 ") || rest.hasPrefix("HTTP/1.1 5"))
            if let served = server.served() { #expect(served == 0) }
            try await client.close()
        }
    }

    @Test("a client that asks first is told to go on", arguments: FramingServer.allCases)
    func expectation(server: FramingServer) async throws {
        try await server.run { server in
            let client = try await RawHTTPClient.connect(port: server.port)
            for _ in 0..<2 {
                try await client.send(String(Self.post(server, "Expect: 100-continue\r\n").dropLast(2)))
                #expect(try await client.response().status == 100)
                try await client.send("{}")
                #expect(try await client.response().status == server.status)
            }
            try await client.close()
        }
    }

    @Test("a body that turns out malformed after its head is refused", arguments: FramingServer.allCases)
    func malformedBody(server: FramingServer) async throws {
        try await server.run { server in
            let client = try await RawHTTPClient.connect(port: server.port)
            try await client.send(
                "POST \(server.path) HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
            )
            try await client.send("x\r\n")
            let response = try await client.response()
            #expect(response.status == 400)
            #expect(response["Connection"] == "close")
            #expect(await client.rest() == "")
            try await client.close()
        }
    }
}
