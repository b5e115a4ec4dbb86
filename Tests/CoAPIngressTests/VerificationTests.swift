import Crypto
import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import CoAPIngress

private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

private func address(_ text: String, _ port: Int = 1) throws -> Endpoint { try Endpoint(text, port) }

@Suite("Forged addresses")
struct VerificationTests {
    private func verification(
        _ mode: AddressVerification.Mode = .always,
        all: Int = 0,
        each: Int = 0,
        key: UInt8 = 1
    ) -> AddressVerification {
        AddressVerification(
            limits: .init(mode: mode, answersPerSecondMax: all, addressAnswersPerSecondMax: each),
            key: SymmetricKey(data: Array(repeating: key, count: 32))
        )
    }

    @Test("an answer may have 136 bytes, or three times those of its request, whoever asks")
    func harmless() throws {
        let verification = self.verification()
        let peer = try address("192.0.2.1")
        for (bytes, requestBytes, isAdmitted) in [
            (136, 1, true), (137, 1, false), (137, 46, true), (150, 50, true), (151, 50, false), (1100, 60, false),
        ] {
            #expect(verification.admits(bytes, requestBytes: requestBytes, to: peer, now: start) == isAdmitted)
        }
        #expect(self.verification(.off).admits(5000, requestBytes: 1, to: peer, now: start))
    }

    @Test("who repeats what we gave it is where it says, for some time")
    func echo() throws {
        let verification = self.verification()
        let peer = try address("2001:db8::1", 5000)
        let echo = verification.echo(for: peer, now: start)
        #expect(echo.length == 12 && echo.number == .echo)
        verification.received(echo, from: peer, now: start + .seconds(60))
        let proof = start + .seconds(60)
        let end = proof + AddressVerification.proofLifetime
        #expect(verification.admits(1000, requestBytes: 1, to: peer, now: end - .nanoseconds(1)))
        #expect(!verification.admits(1000, requestBytes: 1, to: peer, now: end))
    }

    @Test("a value of another endpoint, of another server, that is old, from the future or made up is worth nothing")
    func badEcho() throws {
        let peer = try address("192.0.2.1", 5000)
        let good = self.verification().echo(for: peer, now: start)
        let flipped = CoAPOption(
            .echo,
            ByteBuffer(
                bytes: good.value.readableBytesView.enumerated().map {
                    $0.offset == 11 ? $0.element ^ 1 : $0.element
                }
            )
        )
        for (echo, from, now) in [
            (good, try address("192.0.2.1", 5001), start), (good, try address("192.0.2.2", 5000), start),
            (good, peer, start + .seconds(61)), (good, peer, start - .seconds(1)),
            (self.verification(key: 2).echo(for: peer, now: start), peer, start), (flipped, peer, start),
            (CoAPOption(.echo, text: "x"), peer, start),
            (CoAPOption(.echo, ByteBuffer(repeating: 0, count: 40)), peer, start),
        ] {
            let verification = self.verification()
            verification.received(echo, from: from, now: now)
            #expect(!verification.admits(1000, requestBytes: 1, to: from, now: now))
        }
    }

    @Test("under pressure means: more large answers in a second than one address, or all together, may get")
    func pressure() throws {
        let one = self.verification(.underPressure, each: 2)
        for isAdmitted in [true, true, false] {
            #expect(one.admits(1000, requestBytes: 1, to: try address("192.0.2.1", 1), now: start) == isAdmitted)
        }
        // Other ports of the address are the same address; a network of IPv6 is one too.
        #expect(try !one.admits(1000, requestBytes: 1, to: address("192.0.2.1", 2), now: start))
        #expect(one.admits(1000, requestBytes: 1, to: try address("192.0.2.2"), now: start))
        #expect(one.admits(1000, requestBytes: 1, to: try address("2001:db8::1"), now: start))
        #expect(one.admits(1000, requestBytes: 1, to: try address("2001:db8::2"), now: start))
        #expect(try !one.admits(1000, requestBytes: 1, to: address("2001:db8::3"), now: start))
        #expect(one.admits(1000, requestBytes: 1, to: try address("192.0.2.1"), now: start + .seconds(1)))
        let all = self.verification(.underPressure, all: 2)
        for (index, isAdmitted) in [true, true, false].enumerated() {
            #expect(all.admits(1000, requestBytes: 1, to: try address("192.0.2.\(index)"), now: start) == isAdmitted)
        }
        // Small ones do not count and are not held back.
        #expect(all.admits(100, requestBytes: 1, to: try address("192.0.2.9"), now: start))
    }

    @Test("who has shown where it is, and this machine itself, cause no pressure")
    func exempt() throws {
        let verification = self.verification(.underPressure, all: 1, each: 1)
        let proven = try address("192.0.2.1")
        verification.proved(proven, now: start)
        for text in ["192.0.2.1", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            for _ in 0..<5 { #expect(verification.admits(1000, requestBytes: 1, to: try address(text), now: start)) }
        }
        #expect(verification.admits(1000, requestBytes: 1, to: try address("192.0.2.2"), now: start))
        #expect(try !verification.admits(1000, requestBytes: 1, to: address("192.0.2.2"), now: start))
    }
}

@Suite("What is known of endpoints")
struct EndpointTests {
    @Test("an address whose requests fail too often is refused for a second, but for those who have shown a token")
    func refusal() throws {
        var endpoints = Endpoints(failuresPerSecondMax: 3)
        let known = try address("192.0.2.1", 1)
        let stranger = try address("192.0.2.1", 2)
        endpoints.authenticated(known)
        for _ in 0..<3 { endpoints.failed(stranger, now: start) }
        #expect(!endpoints.isRefused(stranger, now: start))
        endpoints.failed(stranger, now: start)
        #expect(endpoints.isRefused(stranger, now: start))
        #expect(endpoints.isRefused(try address("192.0.2.1", 3), now: start))
        #expect(!endpoints.isRefused(known, now: start))
        #expect(try !endpoints.isRefused(address("192.0.2.2", 2), now: start))
        #expect(!endpoints.isRefused(stranger, now: start + .seconds(1)))
    }

    @Test("without a limit no address is refused")
    func unlimited() throws {
        var endpoints = Endpoints(failuresPerSecondMax: 0)
        for _ in 0..<1000 { endpoints.failed(try address("192.0.2.1"), now: start) }
        #expect(try !endpoints.isRefused(address("192.0.2.1"), now: start))
    }

    @Test("however many endpoints come, a bounded number is known, and one that goes on coming stays")
    func bounded() throws {
        var endpoints = Endpoints(failuresPerSecondMax: 0)
        let device = try address("192.0.2.1", 1)
        for port in 0..<65536 {
            if port % 1000 == 0 { endpoints.authenticated(device) }
            endpoints.authenticated(try address("198.51.100.1", port))
        }
        #expect(endpoints.isKnown(device))
        #expect(endpoints.knownCount <= 2 * Endpoints.knownMax)
        #expect(try !endpoints.isKnown(address("198.51.100.1", 0)))
    }

    @Test("what was used last is remembered, in place of what was not")
    func recent() {
        var values = RecentValues<Int, String>(halfMax: 2)
        #expect(values.isEmpty)
        values.set("a", for: 1)
        values.set("b", for: 2)
        values.set("c", for: 3)
        #expect(values.peek(1) == "a" && values.count == 3)
        values.set("A", for: 1)
        values.set("d", for: 4)
        #expect(values.peek(2) == nil && values.peek(1) == "A" && values.peek(3) == "c" && values.count == 3)
    }
}

@Suite("Limits over a real socket", .timeLimit(.minutes(5)))
struct LimitNodeTests {
    @Test("where an address must be shown to be true, a large answer comes once the Echo option is repeated")
    func echo() async throws {
        try await TestNode.run(["echo": "always"], answer: chain()) { node in
            let peer = try await node.peer()
            let challenge = try await peer.ask(.get, "/fw/T1")
            #expect(challenge.code == .unauthorized && challenge.option(.maxAge)?.uint == 0)
            #expect(challenge.datagram.readableBytes <= AddressVerification.harmlessBytesMax)
            let echo = try #require(challenge.option(.echo))
            // Small answers need no proof.
            #expect(try await peer.ask(.post, "/api/v1/T1/telemetry", "{}").code == .created)
            #expect(try await peer.ask(.get, "/api/v1/T1/attributes").code == .content)
            // Somebody else's proof is none.
            let other = try await node.peer()
            #expect(try await other.ask(.get, "/fw/T1", options: [echo]).code == .unauthorized)
            let answer = try await peer.ask(.get, "/fw/T1", options: [echo])
            #expect(answer.code == .content && answer.payload.readableBytes == 1024)
            // The rest needs no more of it.
            let next = [Block(number: 1, more: false, exponent: 6).option(.block2)]
            #expect(try await peer.ask(.get, "/fw/T1", options: next).code == .content)
        }
    }

    @Test("a call whose answer may be large is carried out only for who has shown its address")
    func echoOfCalls() async throws {
        try await TestNode.run(["echo": "always"], answer: chain()) { node in
            let peer = try await node.peer()
            let challenge = try await peer.ask(.post, "/api/v1/T1/rpc", #"{"method":"getTime"}"#)
            let echo = try #require(challenge.option(.echo))
            #expect(challenge.code == .unauthorized && node.outlet.sent.isEmpty)
            let answer = try await peer.ask(.post, "/api/v1/T1/rpc", #"{"method":"getTime"}"#, options: [echo])
            #expect(answer.code == .content && node.outlet.sent.count == 1)
        }
    }

    @Test("an observation with a large first notification begins only for who has shown its address")
    func echoOfObservations() async throws {
        let long = JSON.object(["text": .string(String(repeating: "y", count: 500))])
        try await TestNode.run(["echo": "always"], answer: { _ in .completed(.json(["shared": long])) }) { node in
            let peer = try await node.peer()
            let observe = CoAPOption(.observe, uint: 0)
            let challenge = try await peer.ask(.get, "/api/v1/T1/attributes", options: [observe])
            let echo = try #require(challenge.option(.echo))
            #expect(challenge.sequence == nil)
            #expect(node.sessions.notify(TestDevices.first.id, .attributesUpdated(["a": 1])) == 0)
            let answer = try await peer.ask(.get, "/api/v1/T1/attributes", options: [observe, echo])
            #expect(answer.sequence == 0)
        }
    }

    @Test("who has acknowledged a message of ours is where it seems to be")
    func acknowledged() async throws {
        let attributes = ["echo": "always", "piggyback-milliseconds": "1"]
        let gate = Gate()
        let slow: @Sendable (Message) async -> Outcome = { message in
            if message.type == .postTelemetryRequest { await gate.pass() }
            return chain()(message)
        }
        try await TestNode.run(attributes, answer: slow) { node in
            let peer = try await node.peer()
            let empty = try await peer.ask(.post, "/api/v1/T1/telemetry", "{}")
            #expect(empty.kind == .acknowledgement && empty.code == .empty)
            gate.open()
            let separate = await peer.receive()
            #expect(separate.kind == .confirmable && separate.code == .created)
            try await peer.acknowledge(separate)
            var answer = try await peer.ask(.get, "/fw/T1")
            // The window is short, so the answer may come by itself.
            if answer.code == .empty { answer = await peer.receive() }
            #expect(answer.code == .content)
        }
    }

    @Test("a device that asks too often gets 4.29 and a time to wait; others do not")
    func deviceRate() async throws {
        try await TestNode.run(["device-requests-per-second-max": "1"], answer: chain()) { node in
            let peer = try await node.peer()
            var answers: [CoAPMessage] = []
            // However slow the machine is, some of these come within a second of the one before.
            while answers.last?.code != .tooManyRequests {
                answers.append(try await peer.ask(.post, "/api/v1/T1/telemetry", "{}"))
            }
            #expect(answers.first?.code == .created)
            #expect(answers.last?.option(.maxAge)?.uint == 1 && answers.last?.kind == .acknowledgement)
            #expect(try await peer.ask(.post, "/api/v1/T2/telemetry", "{}").code == .created)
        }
    }

    @Test("an address whose tokens are nobody's too often gets 4.29; a device at the same address goes on")
    func failures() async throws {
        try await TestNode.run(["address-connections-per-second-max": "2"], answer: chain()) { node in
            let device = try await node.peer()
            #expect(try await device.ask(.post, "/api/v1/T1/telemetry", "{}").code == .created)
            let stranger = try await node.peer()
            var refused: CoAPMessage?
            while refused == nil {
                let answer = try await stranger.ask(.post, "/api/v1/bad/telemetry", "{}")
                if answer.code == .tooManyRequests { refused = answer }
            }
            #expect(refused?.option(.maxAge)?.uint == 1)
            #expect(try await device.ask(.post, "/api/v1/T1/telemetry", "{}").code == .created)
        }
    }

    @Test("requests without a token of ours, from however many ports, leave nothing behind")
    func flood() async throws {
        let domain = try await TestDevices.domain()
        let outlet = TestOutlet(chain())
        let services = domain.live()
        let node = try CoAPIngressNode.make(TestNode.patience, services: services)
        let eventLoop = services.eventLoopGroup.next()
        let handler = try await node.makeHandler(outlet, on: eventLoop)
        let running = Task { try await node.serve(outlet, by: handler, on: eventLoop) }
        let listener = try #require(await outlet.listeners().first)
        let device = try await TestPeer(listener)
        let post = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: 7)
        let answer = try await device.ask(post)
        #expect(answer.code == .created)
        for _ in 0..<40 {
            let stranger = try await TestPeer(listener)
            for uri in ["/api/v1/bad/telemetry", "/nothing", "/api/v1/bad/rpc"] {
                #expect(try await stranger.ask(.post, uri, "{}").code.codeClass == 4)
            }
            #expect(try await stranger.ask(.get, "/.well-known/core").code == .content)
        }
        #expect(try await eventLoop.submit { handler.value.rememberedCount }.get() == 1)
        #expect(try await device.ask(post) == answer)
        #expect(outlet.sent.count == 1)
        running.cancel()
        try await running.value
    }
}
