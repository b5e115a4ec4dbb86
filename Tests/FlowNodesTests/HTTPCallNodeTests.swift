import FoundationEssentials
import NodeKit
import NodeTesting
import Synchronization
import Testing

@testable import FlowNodes

@Suite(.timeLimit(.minutes(5))) struct HTTPCallNodeTests {
    private static func call(
        _ server: HTTPCallServer,
        _ attributes: [String: String] = [:],
        path: String = "/hook",
        clock: any Clock<Duration> = ManualClock(),
        _ message: Message = .of(.postTelemetryRequest, [:], ["a": 1])
    ) async throws -> (message: Message, relation: Relation) {
        var attributes = attributes
        attributes["url"] = attributes["url"] ?? "http://127.0.0.1:\(server.port)\(path)"
        let node = try HTTPCallNode.make(attributes, services: .testing(clock: clock))
        return try await node.process(message).only
    }

    @Test func `sends the message's data and goes on with what the server answered`() async throws {
        try await HTTPCallServer.run([.init(status: 201, body: "{\"ok\":true}")]) { server in
            let route = try await Self.call(server)
            #expect(route.relation == .success)
            #expect(route.message.metadata == ["httpStatus": 201, "httpAnswer": "{\"ok\":true}"])
            #expect(route.message.data == .json(["a": 1]))
            let request = try #require(server.requests.first)
            #expect(request.method == .POST && request.uri == "/hook" && request.body == "{\"a\":1}")
            #expect(request.headers["Content-Type"] == ["application/json"])
            #expect(request.headers["Content-Length"] == ["7"])
            #expect(request.headers["Host"] == ["127.0.0.1:\(server.port)"])
        }
    }

    @Test func `fills in values, which stay within their places`() async throws {
        try await HTTPCallServer.run([.init(status: 200)]) { server in
            var message = Message.of(.postTelemetryRequest, ["name": "a/b?c=d&e\r\nX: y ü", "n": 7])
            message.data = .bytes(.init(string: "raw"))
            let attributes = [
                "method": "PUT", "json": #"{"n": "{n}", "text": "<{name}>", "none": "{absent}", "{{": [1, "}}"]}"#,
                "headers": #"{"X-Name": "n={name}", "content-type": "application/x-hook"}"#,
            ]
            let path = "/x/{name}?q={name}&p={absent}#part"
            #expect(try await Self.call(server, attributes, path: path, message).relation == .success)
            let request = try #require(server.requests.first)
            let name = "a%2Fb%3Fc%3Dd%26e%0D%0AX%3A%20y%20%C3%BC"
            #expect(request.method == .PUT)
            #expect(request.uri == "/x/\(name)?q=\(name)&p=")
            #expect(request.headers["X-Name"] == ["n=a/b?c=d&e??X: y ?"])
            #expect(request.headers["X"].isEmpty)
            #expect(request.headers["Content-Type"] == ["application/x-hook"])
            let body = try JSON(parsing: request.body)
            #expect(body["n"] == 7 && body["none"] == .null)
            #expect(body["text"] == "<a/b?c=d&e\r\nX: y ü>")
        }
    }

    @Test(arguments: ["GET", "DELETE"]) func `sends no body by methods that have none`(method: String) async throws {
        try await HTTPCallServer.run([.init(status: 204)]) { server in
            #expect(try await Self.call(server, ["method": method]).relation == .success)
            let request = try #require(server.requests.first)
            #expect(
                request.method.rawValue == method && request.body == "" && request.headers["Content-Length"].isEmpty
            )
        }
    }

    @Test func `sends an empty object if there is no data, and nothing that is no JSON`() async throws {
        try await HTTPCallServer.run([.init(status: 200)]) { server in
            let route = try await Self.call(server, [:], Message.of(.connectEvent))
            #expect(route.relation == .success)
            #expect(server.requests.first?.body == "{}")
            var bytes = Message.of(.postTelemetryRequest)
            bytes.data = .bytes(.init(string: "raw"))
            await #expect(throws: NodeError.self) { try await Self.call(server, [:], bytes) }
        }
    }

    @Test(arguments: [408, 425, 429, 500, 503])
    func `calls again after pauses that double while the server cannot take it`(status: Int) async throws {
        let replies = [status, status, status, 200].map { HTTPCallServer.Reply(status: $0) }
        for (attempts, relation) in [("4", Relation.success), ("3", .failure)] {
            try await HTTPCallServer.run(replies) { server in
                let clock = ManualClock()
                let attributes = ["attempts-max": attempts, "backoff-milliseconds": "100"]
                async let call = Self.call(server, attributes, clock: clock)
                for pause in [100, 200, 400].prefix(attempts == "4" ? 3 : 2) {
                    await clock.sleeper(for: .milliseconds(pause))
                    clock.advance(by: .milliseconds(pause))
                }
                let route = try await call
                #expect(route.relation == relation)
                #expect(server.requests.count == Int(attempts))
                guard relation == .failure else { return }
                #expect(route.message.metadata.string("errorCode") == "unavailable")
                #expect(route.message.metadata.integer("httpStatus") == Int64(status))
            }
        }
    }

    @Test(arguments: [301, 304, 400, 404]) func `gives up at once what the server refuses`(status: Int) async throws {
        try await HTTPCallServer.run([.init(status: status, body: status == 304 ? "" : "no")]) { server in
            let route = try await Self.call(server)
            #expect(route.relation == .failure && server.requests.count == 1)
            #expect(route.message.metadata.string("errorCode") == "http-status")
            #expect(
                route.message.metadata.string("error") == "'127.0.0.1:\(server.port)' answered with status \(status)"
            )
            #expect(route.message.metadata.string("httpAnswer") == (status == 304 ? "" : "no"))
        }
    }

    @Test func `a server that is not there, or does not answer, is called as often as allowed`() async throws {
        var port = 0
        try await HTTPCallServer.run([.init(status: nil)]) { server in
            port = server.port
            let clock = ManualClock()
            let attributes = ["timeout-seconds": "1", "attempts-max": "2", "backoff-milliseconds": "300"]
            async let call = Self.call(server, attributes, clock: clock)
            for wait in [1000, 300, 1000] {
                await clock.sleeper(for: .milliseconds(wait))
                clock.advance(by: .milliseconds(wait))
            }
            let route = try await call
            #expect(route.relation == .failure)
            #expect(route.message.metadata.string("errorCode") == "timed-out")
            #expect(route.message.metadata["httpStatus"] == nil)
        }
        let node = try HTTPCallNode.make(
            ["url": "http://127.0.0.1:\(port)", "attempts-max": "1"],
            services: .testing(clock: ManualClock())
        )
        let route = try await node.process(.of()).only
        #expect(route.relation == .failure && route.message.metadata.string("errorCode") == "unavailable")
    }

    @Test func `whoever makes calls in its place gets the whole request, and the clock ends what is not answered`()
        async throws
    {
        let domain = try TestDomain()
        let server = ScriptedCalls([.init(status: 503), nil, .init(status: 200, body: .init(string: "ok"))])
        let attributes = ["url": "https://h:8443/x?n={n}", "json": #"{"n": "{n}"}"#, "timeout-seconds": "7"]
        let node = try HTTPCallNode.make(
            attributes,
            services: domain.services { $0.register(server, as: (any OutsideCalls).self) }
        )
        let call = domain.start { try await node.process(.of(.postTelemetryRequest, ["n": 3])).only }
        // The pause, the time of a call that is not answered, and a pause twice as long.
        #expect(await domain.passToNextDeadline() == .milliseconds(500))
        #expect(await domain.passToNextDeadline() == .seconds(7))
        #expect(await domain.passToNextDeadline() == .seconds(1))
        #expect(await domain.passToNextDeadline() == nil)
        let route = try await call.value
        #expect(route.relation == .success)
        #expect(route.message.metadata.string("httpAnswer") == "ok")
        #expect(server.calls.map(\.url) == Array(repeating: "https://h:8443/x?n=3", count: 3))
        let first = try #require(server.calls.first)
        #expect(first.method == "POST" && first.body == .init(string: #"{"n":3}"#))
        #expect(first.fields.contains(.init("Host", "h:8443")) && first.fields.contains(.init("Content-Length", "7")))
    }

    @Test(.bug(id: "D1.3")) func `leaves out an answer with the character U+0000`() async throws {
        try await HTTPCallServer.run([.init(status: 200, body: "a\u{0}b")]) { server in
            let route = try await Self.call(server)
            #expect(route.relation == .success)
            #expect(route.message.metadata == ["httpStatus": 200])
        }
    }

    @Test(arguments: [(4, "abcd"), (5, "abcde"), (6, "abcde"), (0, "")])
    func `cuts off an answer that is longer than allowed`(max: Int, answer: String) async throws {
        try await HTTPCallServer.run([.init(status: 200, body: "abcde")]) { server in
            let route = try await Self.call(server, ["answer-bytes-max": String(max)])
            #expect(route.relation == .success && route.message.metadata.string("httpAnswer") == answer)
        }
    }

    @Test func `over TLS the server must have a certificate that is trusted, for its name or address`() async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/windlass-http-call-\(UUID.random().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let authority = try TestCertificate.authority.write(to: folder, as: "ca").certificate
        try await HTTPCallServer.run([.init(status: 200)], isSecure: true) { server in
            for host in ["127.0.0.1", "localhost"] {
                let url = "https://\(host):\(server.port)/x"
                let trusted = try await Self.call(server, ["url": url, "tls-ca-file": authority, "attempts-max": "1"])
                #expect(trusted.relation == .success, "\(trusted.message.metadata)")
                let stranger = try await Self.call(server, ["url": url, "attempts-max": "1"])
                #expect(stranger.relation == .failure)
                #expect(stranger.message.metadata.string("errorCode") == "unavailable")
            }
            #expect(server.requests.count == 2)
            #expect(throws: NodeError.self) {
                try HTTPCallNode.make(["url": "https://localhost", "tls-ca-file": folder + "/none"])
            }
        }
    }

    @Test(
        "what cannot be used is refused when the chain is read",
        arguments: [
            ["url": "ftp://x"], ["url": "//x"], ["url": "http://"], ["url": "http:///x"],
            ["url": "http://{deviceName}/"],
            ["url": "http://a{b}.c/"], ["url": "http://u:p@h/"], ["url": "http://h:0/"], ["url": "http://h:65536/"],
            ["url": "http://h:x/"], ["url": "http://h/a b"], ["url": "http://h/ü"], ["url": "http://h/{"],
            ["url": "http://h/", "json": "{"], ["url": "http://h/", "json": "{}", "method": "GET"],
            ["url": "http://h/", "headers": "X: y"], ["url": "http://h/", "headers": "[]"],
            ["url": "http://h/", "headers": #"{"X": 1}"#], ["url": "http://h/", "headers": #"{"X Y": "1"}"#],
            ["url": "http://h/", "headers": #"{"Host": "x"}"#], ["url": "http://h/", "tls-ca-file": "x"],
        ]
    )
    func refused(attributes: [String: String]) {
        #expect(throws: NodeError.self) { try HTTPCallNode.make(attributes) }
    }

    @Test(
        "a URL may leave out what has a default",
        arguments: ["http://h", "https://h?x=1", "http://[::1]:8080/a", "http://[::1]", "https://h:1/{{x}}"]
    )
    func accepted(url: String) {
        #expect(throws: Never.self) { try HTTPCallNode.make(["url": url]) }
    }
}

/// Answers calls one after the other; one without an answer waits until its task is cancelled.
private final class ScriptedCalls: OutsideCalls {
    private let state: Mutex<(answers: [OutsideCall.Answer?], calls: [OutsideCall])>

    init(_ answers: [OutsideCall.Answer?]) { self.state = Mutex((answers, [])) }

    var calls: [OutsideCall] { self.state.withLock { $0.calls } }

    func answer(to call: OutsideCall) async throws(NodeError) -> OutsideCall.Answer {
        let answer = self.state.withLock { state in
            state.calls.append(call)
            return state.answers.removeFirst()
        }
        if let answer { return answer }
        try? await ManualClock().sleep(for: .seconds(1))
        throw NodeError(.unavailable, "cancelled")
    }
}

@Suite(.timeLimit(.minutes(5))) struct CallSlotsTests {
    /// Who had a turn.
    private final class Order: Sendable {
        private let numbers = Mutex<[Int]>([])
        var all: [Int] { self.numbers.withLock { $0 } }
        func add(_ number: Int) { self.numbers.withLock { $0.append(number) } }
    }

    @Test func `so many calls are made side by side, so many wait in order, and one more is refused`() async throws {
        let slots = CallSlots(max: 2, waitingMax: 2)
        try await slots.take()
        try await slots.take()
        let order = Order()
        var waiting: [Task<Void, any Error>] = []
        for number in 0..<2 {
            waiting.append(
                Task {
                    try await slots.take()
                    order.add(number)
                    slots.give()
                }
            )
            while slots.waitingCount != number + 1 { await Task.yield() }
        }
        do {
            try await slots.take()
            Issue.record("one too many")
        } catch {
            #expect(error.code == .tooManyRequests)
        }
        slots.give()
        for task in waiting { try await task.value }
        #expect(order.all == [0, 1])
        slots.give()
        // All are free again.
        try await slots.take()
        try await slots.take()
        #expect(slots.waitingCount == 0)
    }

    @Test func `who is cancelled waits no longer, and takes no place`() async throws {
        let slots = CallSlots(max: 1, waitingMax: 1)
        try await slots.take()
        let waiting = Task { try await slots.take() }
        while slots.waitingCount != 1 { await Task.yield() }
        waiting.cancel()
        await #expect(throws: NodeError.self) { try await waiting.value }
        slots.give()
        try await slots.take()
    }
}
