import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import HTTPIngress

@Suite(.timeLimit(.minutes(5))) struct DownloadTests {
    private static let path = "/api/v1/A1/firmware?title=t&version=v"

    @Test("the chain is told what is asked for")
    func message() async throws {
        try await withServer(answer: serve(BufferContent(size: 10))) { server in
            _ = try await server.get("/api/v1/A1/software?title=a%20b&version=1.0&chunk=2&size=3")
            let message = try #require(server.messages.first)
            #expect(message.type == .packageChunkRequest)
            #expect(message.metadata.string(MessageKey.packageType) == "SOFTWARE")
            #expect(message.metadata.string(MessageKey.title) == "a b")
            #expect(message.metadata.string(MessageKey.version) == "1.0")
            #expect(message.metadata.integer(MessageKey.chunk) == 2)
            #expect(message.metadata.integer(MessageKey.size) == 3)
        }
    }

    @Test(
        "chunks of any size give the whole package, with the headers of the requirement",
        arguments: [1, 7, 1000, 1001, 999]
    )
    func chunks(size: Int64) async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server in
            let client = try await server.connect()
            var bytes = ByteBuffer()
            let count = (1000 + size - 1) / size
            // One more than there are, as the documentation's client asks for.
            for chunk in 0...count {
                try await client.send("GET \(Self.path)&chunk=\(chunk)&size=\(size) HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try await client.response()
                #expect(response.status == 200)
                #expect(response["X-Chunk-Index"] == "\(chunk)")
                #expect(response["X-Chunks-Count"] == "\(count)")
                #expect(response["Content-Length"] == "\(chunk == count ? 0 : min(size, 1000 - chunk * size))")
                bytes.writeImmutableBuffer(response.body)
            }
            #expect(bytes == content.slice(0..<1000))
            try await client.close()
        }
    }

    @Test(
        "whether anything had to be waited for cannot be told from an answer",
        arguments: [
            "GET \(path)&chunk=3&size=100", "GET \(path)&chunk=0&size=9000", "GET \(path)&chunk=99&size=100",
            "GET \(path)",
            "HEAD \(path)&chunk=3&size=100", "HEAD \(path)", "GET /api/v1/none/firmware?title=t&version=v",
            "GET /api/v1/away/firmware?title=t&version=v", "GET \(path)&chunk=1&size=30000",
        ]
    )
    func atOnce(request: String) async throws {
        var answers: Set<String> = []
        for isAtHand in [false, true] {
            let content = BufferContent(size: 20_000, failsFrom: 10_000, isAtHand: isAtHand)
            for waits in [false, true] {
                // The second request tells whether the first left the connection as it should.
                let requests =
                    "\(request) HTTP/1.1\r\nHost: h\r\n\r\nGET \(Self.path)&chunk=1&size=7 HTTP/1.1\r\nHost: h\r\n\r\n"
                try await withServer(answer: serve(content), atOnce: waits ? nil : serve(content)) { server in
                    let client = try await server.connect()
                    try await client.send(requests)
                    let first = try await client.response(isHead: request.hasPrefix("HEAD"))
                    let fields = ["Content-Length", "X-Chunk-Index", "X-Chunks-Count", "ETag"].map { first[$0] ?? "-" }
                    let body = first.status < 400 ? String(describing: first.body.readableBytesView.map(\.self)) : ""
                    answers.insert("\(first.status) \(fields) \(body)")
                    #expect(try await client.response().body == content.slice(7..<14))
                    try await client.close()
                }
            }
        }
        #expect(answers.count == 1, "\(answers.map { $0.prefix(200) })")
    }

    @Test("bytes that are at hand are sent without another look, and others are read")
    func atHand() async throws {
        for isAtHand in [false, true] {
            let content = BufferContent(size: 1000, isAtHand: isAtHand)
            try await withServer(atOnce: serve(content)) { server in
                let response = try await server.get("\(Self.path)&chunk=2&size=300")
                #expect(response.body == content.slice(600..<900))
                #expect(content.ranges == (isAtHand ? [] : [600..<900]))
            }
        }
    }

    @Test("answers come in the order of the requests, whichever of them have to wait")
    func order() async throws {
        let content = BufferContent(size: 1000, isAtHand: true)
        let paths = ["A1", "B2"].map { "/api/v1/\($0)/firmware?title=t&version=v" }
        try await withServer(atOnce: serve(content)) { server in
            let client = try await server.connect()
            // That of the second device has to be looked up each time.
            let requests = (0..<100).map {
                "GET \(paths[$0 % 3 == 0 ? 1 : 0])&chunk=\($0)&size=10 HTTP/1.1\r\nHost: h\r\n\r\n"
            }
            try await client.send(requests.joined())
            for chunk in 0..<100 as Range<Int64> {
                let response = try await client.response()
                #expect(response["X-Chunk-Index"] == "\(chunk)")
                #expect(response.body == content.slice(chunk * 10..<chunk * 10 + 10))
            }
            try await client.close()
        }
    }

    @Test("a whole package comes with its name, type, tag and length", arguments: ["", "&size=0&chunk=0", "&size=0"])
    func whole(parameters: String) async throws {
        let content = BufferContent(size: 70_000)
        try await withServer(answer: serve(content)) { server in
            let response = try await server.get(Self.path + parameters)
            #expect(response.status == 200)
            #expect(response.body == content.slice(0..<70_000))
            #expect(response["Content-Length"] == "70000")
            #expect(response["Content-Type"] == "application/octet-stream")
            #expect(response["Content-Disposition"] == "attachment;filename=fw.bin")
            #expect(response["x-filename"] == "fw.bin")
            #expect(response["ETag"] == "\"abc123\"")
            #expect(response["Accept-Ranges"] == "bytes")
            #expect(response["Date"]?.hasSuffix(" GMT") == true)
        }
    }

    @Test("an empty package is an empty answer")
    func emptyPackage() async throws {
        try await withServer(answer: serve(BufferContent(size: 0))) { server in
            let response = try await server.get(Self.path)
            #expect(response.status == 200)
            #expect(response["Content-Length"] == "0")
        }
    }

    @Test("HEAD is GET without the body, and reads nothing")
    func head() async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server in
            let client = try await server.connect()
            for _ in 0..<2 {
                try await client.send("HEAD \(Self.path) HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try await client.response(isHead: true)
                #expect(response.status == 200)
                #expect(response["Content-Length"] == "1000")
                #expect(response["ETag"] == "\"abc123\"")
            }
            #expect(content.ranges.isEmpty)
            try await client.close()
        }
    }

    @Test(
        "numbers out of range are a bad request, and the connection lives",
        arguments: [
            "chunk=-1&size=7", "chunk=1&size=-7", "chunk=9223372036854775807&size=16384", "chunk=2147483648&size=1",
            "chunk=1&size=99999999999999999999", "chunk=abc&size=1", "chunk=1&size=1.5", "chunk=%FF&size=1",
        ]
    )
    func badNumbers(parameters: String) async throws {
        try await withServer(answer: serve(BufferContent(size: 10))) { server in
            let client = try await server.connect()
            try await client.send("GET \(Self.path)&\(parameters) HTTP/1.1\r\nHost: h\r\n\r\n")
            let refused = try await client.response()
            #expect(refused.status == 400)
            #expect(try JSON(parsing: refused.body)["errorCode"] == 31)
            try await client.send("GET \(Self.path)&chunk=0&size=7 HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try await client.response().body.readableBytes == 7)
            #expect(server.messages.count == 1)
            try await client.close()
        }
    }

    @Test("the greatest numbers are past the end of any package")
    func greatestNumbers() async throws {
        try await withServer(answer: serve(BufferContent(size: 10))) { server in
            let response = try await server.get("\(Self.path)&chunk=2147483647&size=2147483647")
            #expect(response.status == 200)
            #expect(response["Content-Length"] == "0")
        }
    }

    @Test(
        "no package gets 404 and another title or version 400, both empty as in ThingsBoard",
        arguments: [(.notFound, 404), (.badRequest, 400)] as [(NodeError.Code, Int)]
    )
    func refused(code: NodeError.Code, status: Int) async throws {
        try await withServer(answer: { _ in .failed(NodeError(code, "x")) }) { server in
            let response = try await server.get(Self.path)
            #expect(response.status == status)
            #expect(response["Content-Length"] == "0")
        }
    }

    @Test("a single range gets 206, one past the end 416, and neither is for chunks")
    func ranges() async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server in
            let part = try await server.get(Self.path, fields: "Range: bytes=10-19\r\nIf-Range: \"abc123\"\r\n")
            #expect(part.status == 206)
            #expect(part["Content-Range"] == "bytes 10-19/1000")
            #expect(part.body == content.slice(10..<20))
            let changed = try await server.get(Self.path, fields: "Range: bytes=10-19\r\nIf-Range: \"other\"\r\n")
            #expect(changed.status == 200)
            #expect(changed.body.readableBytes == 1000)
            let beyond = try await server.get(Self.path, fields: "Range: bytes=1000-\r\n")
            #expect(beyond.status == 416)
            #expect(beyond["Content-Range"] == "bytes */1000")
            let chunk = try await server.get("\(Self.path)&chunk=0&size=100", fields: "Range: bytes=0-9\r\n")
            #expect(chunk.status == 200)
            #expect(chunk.body.readableBytes == 100)
        }
    }

    @Test("whoever has the bytes already gets 304")
    func unchanged() async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server in
            let client = try await server.connect()
            try await client.send("GET \(Self.path) HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"abc123\"\r\n\r\n")
            let response = try await client.response()
            #expect(response.status == 304)
            #expect(response["ETag"] == "\"abc123\"")
            #expect(response["Content-Length"] == nil)
            #expect(content.ranges.isEmpty)
            try await client.send("GET \(Self.path) HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"x\"\r\n\r\n")
            #expect(try await client.response().body.readableBytes == 1000)
            try await client.close()
        }
    }

    @Test("several ranges get 206 in parts, each with its place, and read no more than these")
    func severalRanges() async throws {
        let content = BufferContent(size: 1_000_000)
        try await withServer(answer: serve(content)) { server in
            let response = try await server.get(Self.path, fields: "Range: bytes=0-9, 300000-599999, -5\r\n")
            #expect(response.status == 206)
            #expect(response["Content-Range"] == nil)
            #expect(response["ETag"] == "\"abc123\"")
            let type = try #require(response["Content-Type"])
            #expect(type.hasPrefix("multipart/byteranges; boundary="))
            var expected = ByteBuffer()
            let boundary = try #require(type.split(separator: "=").last)
            for range in [0..<10, 300_000..<600_000, 999_995..<1_000_000] as [Range<Int64>] {
                expected.writeString(
                    "\r\n--\(boundary)\r\nContent-Type: application/octet-stream\r\n"
                        + "Content-Range: bytes \(range.lowerBound)-\(range.upperBound - 1)/1000000\r\n\r\n"
                )
                expected.writeImmutableBuffer(content.slice(range))
            }
            expected.writeString("\r\n--\(boundary)--\r\n")
            #expect(response.body == expected)
            #expect(content.ranges == [0..<10, 300_000..<562_144, 562_144..<600_000, 999_995..<1_000_000])
        }
    }

    @Test("ranges that overlap get 206 with one part, and too many the whole")
    func overlappingRanges() async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server async throws in
            let part = try await server.get(Self.path, fields: "Range: bytes=0-99,50-149\r\n")
            #expect(part.status == 206)
            #expect(part["Content-Range"] == "bytes 0-149/1000")
            #expect(part.body == content.slice(0..<150))
            let many = (0..<17).map { "\($0 * 50)-\($0 * 50)" }.joined(separator: ",")
            #expect(try await server.get(Self.path, fields: "Range: bytes=\(many)\r\n").status == 200)
            // Several fields are malformed, not a list (RFC 9110 §5.3).
            let twice = try await server.get(Self.path, fields: "Range: bytes=0-9\r\nRange: bytes=20-29\r\n")
            #expect(twice.status == 200)
        }
    }

    @Test("the conditions of a request count in the order of RFC 9110 §13.2.2")
    func conditions() async throws {
        try await withServer(answer: serve(BufferContent(size: 1000))) { server async throws in
            for (fields, status) in [
                ("If-Match: \"abc123\"\r\n", 200), ("If-Match: *\r\n", 200), ("If-Match: \"x\"\r\n", 412),
                ("If-Match: W/\"abc123\"\r\n", 412), ("If-Match: \"x\"\r\nIf-Match: \"abc123\"\r\n", 200),
                ("If-Match: \"x\"\r\nIf-None-Match: \"abc123\"\r\n", 412),
                ("If-None-Match: \"abc123\"\r\nRange: bytes=0-9\r\n", 304),
                ("If-None-Match: \"x\"\r\nIf-None-Match: W/\"abc123\"\r\n", 304),
                ("If-None-Match: \"x\"\r\nRange: bytes=0-9\r\n", 206),
                ("Range: bytes=0-9\r\nIf-Range: \"abc123\"\r\n", 206),
                ("Range: bytes=0-9\r\nIf-Range: W/\"abc123\"\r\n", 200),
                ("Range: bytes=0-9\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 200),
                ("Range: bytes=0-9\r\nIf-Range: \"abc123\"\r\nIf-Range: \"abc123\"\r\n", 200),
                ("Range: bytes=1000-\r\nIf-Range: \"x\"\r\n", 200), ("Range: bytes=1000-\r\n", 416),
                ("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n", 200),
                ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 200),
            ] {
                #expect(try await server.get(Self.path, fields: fields).status == status, "\(fields)")
            }
        }
    }

    @Test("HEAD knows conditions but no ranges, which are for GET only (RFC 9110 §14.2)")
    func headWithFields() async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server async throws in
            for (fields, status) in [
                ("Range: bytes=0-9\r\n", 200), ("Range: bytes=0-9,500-509\r\n", 200), ("If-Match: \"x\"\r\n", 412),
                ("If-None-Match: \"abc123\"\r\n", 304),
            ] {
                let request = "HEAD \(Self.path) HTTP/1.1\r\nHost: h\r\n\(fields)\r\n"
                let response = try await server.exchange(request, isHead: true)
                #expect(response.status == status, "\(fields)")
                if status == 200 {
                    #expect(response["Content-Length"] == "1000")
                    #expect(response["Accept-Ranges"] == "bytes")
                }
            }
            #expect(content.ranges.isEmpty)
        }
    }

    @Test("a whole download may be put together from its end and its beginning")
    func resumed() async throws {
        let content = BufferContent(size: 700_000)
        try await withServer(answer: serve(content)) { server in
            let client = try await server.connect()
            let first = "GET \(Self.path) HTTP/1.1\r\nHost: h\r\nRange: bytes=0-399999\r\n\r\n"
            try await client.send(first)
            var bytes = try await client.response().body
            let rest = "Range: bytes=\(bytes.readableBytes)-\r\nIf-Range: \"abc123\"\r\n"
            try await client.send("GET \(Self.path) HTTP/1.1\r\nHost: h\r\n\(rest)\r\n")
            let response = try await client.response()
            #expect(response["Content-Range"] == "bytes 400000-699999/700000")
            bytes.writeImmutableBuffer(response.body)
            #expect(bytes == content.slice(0..<700_000))
            try await client.close()
        }
    }

    @Test("a large package is read in pieces of 256 KiB, no further than the client reads")
    func backpressure() async throws {
        let size: Int64 = 64 * 1024 * 1024
        let content = BufferContent(size: size)
        try await withServer(answer: serve(content)) { server in
            let client = try await server.connect(autoRead: false)
            try await client.send("GET \(Self.path) HTTP/1.1\r\nHost: h\r\n\r\n")
            // Until the client reads, the host stops as soon as the sockets' buffers are full.
            var seen = -1
            while seen < 1 || seen != content.ranges.count {
                seen = content.ranges.count
                try await Task.sleep(for: .milliseconds(300))
            }
            #expect(seen < 64)
            try await client.startReading()
            let response = try await client.response()
            #expect(response.body == content.slice(0..<size))
            #expect(content.ranges.allSatisfy { $0.count <= 256 * 1024 })
            #expect(content.ranges.count == 256)
            try await client.close()
        }
    }

    @Test("a read that fails at once is an error of its code, one that fails later ends the connection")
    func failingReads() async throws {
        try await withServer(answer: serve(BufferContent(size: 1000, failsFrom: 0))) { server async throws in
            #expect(try await server.get(Self.path).status == 503)
        }
        try await withServer(answer: serve(BufferContent(size: 1_000_000, failsFrom: 300_000))) { server in
            let client = try await server.connect()
            try await client.send("GET \(Self.path) HTTP/1.1\r\nHost: h\r\n\r\n")
            await #expect(throws: ConnectionEnded.self) { try await client.response() }
            #expect(try await server.get(Self.path + "&chunk=0&size=10").body.readableBytes == 10)
        }
    }

    @Test("a client that reads nothing is closed after the write time-out")
    func unreadAnswer() async throws {
        // The connection's answer is the only one that holds the content.
        let answered = Mutex(Weak())
        let answer: @Sendable (Message) async -> Outcome = { message in
            let content = BufferContent(size: 64 * 1024 * 1024)
            answered.withLock { $0 = Weak(content: content, isAnswered: true) }
            return serve(content)(message)
        }
        try await withServer(["write-timeout-seconds": "1"], answer: answer) { server in
            let client = try await server.connect(autoRead: false)
            try await client.send("GET \(Self.path) HTTP/1.1\r\nHost: h\r\n\r\n")
            try await server.until { answered.withLock { $0.isAnswered && $0.content == nil } }
            try await client.startReading()
            await #expect(throws: ConnectionEnded.self) { try await client.response() }
        }
    }

    private struct Weak {
        weak var content: BufferContent?
        var isAnswered = false
    }
}
