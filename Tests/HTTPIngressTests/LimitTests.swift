import FoundationEssentials
import NIOCore
import NIOPosix
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import HTTPIngress

@Suite(.timeLimit(.minutes(5))) struct LimitTests {
    private static func post(_ path: String, length: Int) -> String {
        "POST /api/v1/A1/\(path) HTTP/1.1\r\nHost: h\r\nContent-Length: \(length)\r\n\r\n"
    }

    /// A JSON string of exactly this many bytes.
    private static func json(_ length: Int) -> String {
        "{\"a\":\"" + String(repeating: "x", count: length - 8) + "\"}"
    }

    @Test(
        "a body may have the limit and not one byte more",
        arguments: [("telemetry", 1000), ("attributes", 1000), ("rpc/1", 500)]
    )
    func body(path: String, limit: Int) async throws {
        try await withServer(["body-bytes-max": "1000", "rpc-body-bytes-max": "500"]) { server in
            #expect(try await server.post("/api/v1/A1/\(path)", Self.json(limit)).status == 200)
            let refused = try await server.post("/api/v1/A1/\(path)", Self.json(limit + 1))
            #expect(refused.status == 413)
            #expect(refused.text == "\"Payload size exceeds the limit of \(limit) bytes\"")
            #expect(refused["Connection"] == "close")
            // The limit holds also where the length is not told beforehand.
            let client = try await server.connect()
            let chunk = String(limit + 1, radix: 16)
            try await client.send(
                "POST /api/v1/A1/\(path) HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)\r\n\(Self.json(limit + 1))"
            )
            #expect(try await client.response().status == 413)
            #expect(await client.rest() == "")
            #expect(server.messages.count == 1)
        }
    }

    @Test("the limits of bodies are those of ThingsBoard unless told otherwise")
    func defaults() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send(Self.post("telemetry", length: 52_428_801))
            #expect(try await client.response().text.contains("52428800"))
            #expect(try await server.exchange(Self.post("rpc", length: 65_537)).text.contains("65536"))
        }
    }

    @Test("a client that goes on sending a body that was refused can still read why")
    func lingering() async throws {
        try await withServer(["body-bytes-max": "1000"]) { server in
            let client = try await server.connect()
            try await client.send(Self.post("telemetry", length: 10_000_000))
            for _ in 0..<20 { await client.sendAnyway(String(repeating: "x", count: 100_000)) }
            #expect(try await client.response().status == 413)
            try await client.close()
        }
    }

    @Test("a large body is parsed aside and counted as long as it is worked on")
    func largeBody() async throws {
        let length = 300_000
        try await withServer(["buffered-bytes-max": "\(length)"]) { server in
            let client = try await server.connect()
            for _ in 0..<3 {
                try await client.send(Self.post("telemetry", length: length) + Self.json(length))
                #expect(try await client.response().status == 200)
            }
            try await client.send(Self.post("telemetry", length: length + 1) + Self.json(length + 1))
            let refused = try await client.response()
            #expect(refused.status == 503)
            #expect(await client.rest() == "")
            #expect(try await server.post("/api/v1/A1/telemetry", Self.json(length)).status == 200)
        }
    }

    @Test("a client that nobody knows is refused before it has sent its body")
    func unknownClient() async throws {
        try await withServer { server async throws in
            for token in ["no", "me"] {
                let client = try await server.connect()
                try await client.send(
                    "POST /api/v1/\(token)/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{"
                )
                let response = try await client.response()
                #expect(response.status == 401)
                #expect(response["Connection"] == "close")
                #expect(await client.rest() == "")
            }
            #expect(
                try await server.exchange(
                    "POST /api/v1/away/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{"
                ).status == 503
            )
            #expect(server.messages.isEmpty)
        }
    }

    @Test("those who ask to become devices take no more than half of the room from those who are")
    func room() async throws {
        try await withServer(["buffered-bytes-max": "60000"]) { server in
            func begin() async throws -> RawHTTPClient {
                let client = try await server.connect()
                let head = "POST /api/v1/provision HTTP/1.1\r\nHost: h\r\nContent-Length: 30000\r\n\r\n"
                try await client.send(head + String(repeating: " ", count: 20_000))
                return client
            }
            // The second is one too many, whichever of the two that is.
            let clients = [try await begin(), try await begin()]
            let refusals = AsyncStream.makeStream(of: Int.self)
            for client in clients {
                // Ends when the connection does.
                Task { if let response = try? await client.response() { refusals.continuation.yield(response.status) } }
            }
            for await status in refusals.stream {
                #expect(status == 503)
                break
            }
            #expect(try await server.post("/api/v1/A1/telemetry", Self.json(30_000)).status == 200)
            for client in clients { try await client.close() }
        }
    }

    @Test("a head may have so many fields and bytes and no more")
    func heads() async throws {
        try await withServer(["header-fields-max": "5", "header-bytes-max": "1000"]) { server async throws in
            let fields = (0..<4).map { "X\($0): y\r\n" }.joined()
            #expect(try await server.get("/nothing", fields: fields).status == 404)
            #expect(try await server.get("/nothing", fields: fields + "X4: y\r\n").status == 431)
            // "/nothing", "Host" and "h", and the name "X" count too.
            let rest = 1000 - 8 - 5 - 1
            #expect(
                try await server.get("/nothing", fields: "X: \(String(repeating: "y", count: rest))\r\n").status == 404
            )
            #expect(
                try await server.get("/nothing", fields: "X: \(String(repeating: "y", count: rest + 1))\r\n").status
                    == 431
            )
            #expect(try await server.get("/\(String(repeating: "n", count: 1000))").status == 431)
        }
    }

    @Test("white space before a value is not kept without end")
    func whiteSpace() async throws {
        try await withServer(["header-bytes-max": "1000"]) { server in
            let client = try await server.connect()
            try await client.send("GET / HTTP/1.1\r\nHost: h\r\nX:" + String(repeating: " ", count: 17_384))
            #expect(try await client.response().status == 431)
            #expect(await client.rest() == "")
        }
    }

    @Test("a head that does not come in time closes the connection", arguments: ["", "GET /api/v1/A1/attr"])
    func slowHead(part: String) async throws {
        try await withServer(["header-timeout-seconds": "1"]) { server in
            let client = try await server.connect()
            await client.sendAnyway(part)
            #expect(await client.rest() == "")
        }
    }

    @Test("a head that drips does not get more time")
    func drippingHead() async throws {
        try await withServer(["header-timeout-seconds": "1"]) { server in
            let client = try await server.connect()
            await client.sendAnyway("GET / HTTP/1.1\r\n")
            let dripping = Task {
                while !Task.isCancelled {
                    await client.sendAnyway("X: y\r\n")
                    try await Task.sleep(for: .milliseconds(50))
                }
            }
            #expect(await client.rest() == "")
            dripping.cancel()
        }
    }

    @Test("a body that does not come in time gets 408")
    func slowBody() async throws {
        try await withServer(["body-timeout-seconds": "1"]) { server in
            let client = try await server.connect()
            try await client.send(Self.post("telemetry", length: 10) + "{")
            let response = try await client.response()
            #expect(response.status == 408)
            #expect(response["Connection"] == "close")
            #expect(await client.rest() == "")
            #expect(server.messages.isEmpty)
        }
    }

    @Test("a connection without requests is closed after the idle time-out, however long the chain took before")
    func idle() async throws {
        try await withServer(
            ["idle-timeout-seconds": "1", "body-timeout-seconds": "1"],
            answer: { _ in
                try? await Task.sleep(for: .milliseconds(2500))
                return .completed(.json(1))
            }
        ) { server in
            let client = try await server.connect()
            try await client.send(Self.post("telemetry", length: 7) + #"{"a":1}"#)
            #expect(try await client.response().status == 200)
            #expect(await client.rest() == "")
        }
    }

    @Test("one connection too many gets 503, and its place is free when another leaves")
    func connections() async throws {
        try await withServer(["connections-max": "2"]) { server in
            let first = try await server.connect()
            let second = try await server.connect()
            for client in [first, second] {
                try await client.send("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try await client.response().status == 404)
            }
            let third = try await server.connect()
            #expect(try await third.response().status == 503)
            #expect(await third.rest() == "")
            try await first.close()
            // The host learns of the end a moment later.
            while true {
                let fourth = try await server.connect()
                await fourth.sendAnyway("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
                let status = try? await fourth.response().status
                try await fourth.close()
                if status == 404 { break }
            }
        }
    }

    @Test("that connections are refused is logged once")
    func connectionsLogged() async throws {
        let log = Log()
        try await withServer(["connections-max": "1"], logger: log.logger) { server in
            let first = try await server.connect()
            // Until it is answered, the host may not know it yet.
            try await first.send("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try await first.response().status == 404)
            for _ in 0..<3 {
                let refused = try await server.connect()
                let status = try await refused.response().status
                #expect(status == 503)
                try await refused.close()
            }
            try await first.close()
        }
        #expect(log.messages == ["too many connections; more are refused"])
    }

    @Test("a device asks so often in a second and no more, over all of its connections")
    func deviceRate() async throws {
        try await withServer(["device-requests-per-second-max": "1"]) { server in
            // Two within a second, however slow the machine: of so many sent in one go one at least is refused.
            let count = 100
            let request = "POST /api/v1/A1/telemetry HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
            let client = try await server.connect()
            try await client.send(String(repeating: request, count: count))
            var statuses: [Int: Int] = [:]
            for _ in 0..<count {
                let response = try await client.response()
                statuses[response.status, default: 0] += 1
                if response.status == 429 {
                    #expect(response["Retry-After"] == "1")
                    #expect(try JSON(parsing: response.body)["errorCode"] == 33)
                }
            }
            #expect(statuses[200] == server.messages.count)
            #expect(statuses[429, default: 0] > 0 && statuses[200, default: 0] + statuses[429, default: 0] == count)
            // Another device is not held up, nor is somebody without a right counted.
            #expect(try await server.post("/api/v1/B2/telemetry", "{}").status == 200)
            for _ in 0..<3 { #expect(try await server.post("/api/v1/no/telemetry", "{}").status == 401) }
            try await client.close()
        }
    }

    @Test("an address begins so many connections in a second, and one more gets 429")
    func addressRate() async throws {
        try await withServer(["address-connections-per-second-max": "1"]) { server in
            while true {
                let client = try await server.connect()
                await client.sendAnyway("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try? await client.response()
                try await client.close()
                guard let response, response.status == 429 else { continue }
                #expect(response["Retry-After"] == "1")
                #expect(response["Connection"] == "close")
                break
            }
        }
    }

    @Test("no limit of rates is no limit")
    func noRates() async throws {
        let attributes = ["device-requests-per-second-max": "0", "address-connections-per-second-max": "0"]
        try await withServer(attributes) { server async throws in
            for _ in 0..<50 { #expect(try await server.post("/api/v1/A1/telemetry", "{}").status == 200) }
        }
    }

    /// Whether the machine has the loopback address of IPv6.
    private static let hasIPv6 =
        FileManager.default.contents(atPath: "/proc/net/if_inet6")
        .map { String(decoding: $0, as: UTF8.self).contains("00000000000000000000000000000001") } ?? false

    @Test(
        "a listener may have an IPv6 address, or all addresses of both kinds",
        .enabled(if: Self.hasIPv6),
        arguments: ["::1", "::"]
    )
    func ipv6(host: String) async throws {
        try await withServer(["host": host]) { server in
            for address in host == "::" ? ["::1", "127.0.0.1"] : ["::1"] {
                let client = try await RawHTTPClient.connect(host: address, port: server.port)
                try await client.send("GET /nothing HTTP/1.1\r\nHost: [::1]:\(server.port)\r\n\r\n")
                #expect(try await client.response().status == 404)
                try await client.close()
            }
        }
    }

    @Test("a client that asks without reading is not answered without end")
    func unreadAnswers() async throws {
        let body = JSON.string(String(repeating: "x", count: 10_000))
        try await withServer(answer: { _ in .completed(.json(body)) }) { server in
            let client = try await server.connect(autoRead: false)
            let request = "GET /api/v1/A1/attributes HTTP/1.1\r\nHost: h\r\n\r\n"
            let count = 4000
            let sending = Task { await client.sendAnyway(String(repeating: request, count: count)) }
            var seen = -1
            while seen < 1 || seen != server.messages.count {
                seen = server.messages.count
                try await Task.sleep(for: .milliseconds(200))
            }
            #expect(seen < count / 2)
            try await client.startReading()
            for _ in 0..<count { _ = try await client.response() }
            await sending.value
            #expect(server.messages.count == count)
            try await client.close()
        }
    }

    @Test("what runs when the node stops is finished, and then the connection ends")
    func stopping() async throws {
        let gate = AsyncStream.makeStream(of: Void.self)
        let client = Holder()
        let answer: @Sendable (Message) async -> Outcome = { _ in
            for await _ in gate.stream { break }
            return .completed(.json("done"))
        }
        try await withServer(stopping: .minutes(5), answer: answer) { server in
            let busy = try await server.connect()
            let idle = try await server.connect()
            try await busy.send("GET /api/v1/A1/attributes HTTP/1.1\r\nHost: h\r\n\r\n")
            try await server.until { !server.messages.isEmpty }
            await client.hold(busy)
            Task {
                // The idle connection ends because the node stops; only then the chain answers.
                _ = await idle.rest()
                gate.continuation.yield()
            }
        }
        let response = try await #require(client.client).response()
        #expect(response.text == "\"done\"")
        #expect(response["Connection"] == "close")
    }

    private actor Holder {
        var client: RawHTTPClient?
        func hold(_ client: RawHTTPClient) { self.client = client }
    }

    @Test("a chain that does not come to an end does not keep the node from stopping")
    func stuckChain() async throws {
        let gate = AsyncStream.makeStream(of: Void.self)
        let clock = ContinuousClock()
        let begin = clock.now
        try await withServer(answer: { _ in
            for await _ in gate.stream { break }
            return .completed(nil)
        }) { server in
            let client = try await server.connect()
            try await client.send("GET /api/v1/A1/attributes HTTP/1.1\r\nHost: h\r\n\r\n")
            try await server.until { !server.messages.isEmpty }
        }
        #expect(clock.now - begin >= .seconds(2.5))
        gate.continuation.finish()
    }

    @Test("a port that is taken is said with the address and a way out")
    func portTaken() async throws {
        let other = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(other.localAddress?.port)
        let error = try await Self.start(["port": "\(port)", "host": "127.0.0.1"])
        #expect(error?.code == "cannot-listen")
        #expect(error?.message.contains("127.0.0.1:\(port)") == true)
        try await other.close()
    }

    @Test("two nodes with the device API cannot share a port")
    func twoOnOnePort() async throws {
        try await withServer { server in
            let error = try await Self.start(patience.merging(["port": "\(server.port)"]) { $1 })
            #expect(error?.code == "route-conflict")
            #expect(error?.message.contains("'/api/v1/' on '127.0.0.1:\(server.port)' is taken") == true)
        }
    }

    /// What a node throws that cannot start.
    private static func start(_ attributes: [String: String]) async throws -> NodeError? {
        let services = try TestDomain().live()
        let node = try HTTPIngress.make(attributes, services: services)
        return await #expect(throws: NodeError.self) { try await node.run(TestOutlet()) }
    }

    @Test("a node without an authenticator or sessions is not made")
    func missingServices() {
        #expect(throws: NodeError.self) { try HTTPIngress.make(["port": "0"]) }
    }
}
