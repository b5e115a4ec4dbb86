import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import CoAPIngress

@Suite("What happens in time", .timeLimit(.minutes(5)))
struct TimeTests {
    private static let post = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: 5)

    @Test("a slow answer: acknowledged after 500 ms, sent after it is there and 2.5, 5, 10, 20 s later, and not again")
    func separate() async throws {
        let gate = Gate()
        let time = try await StillTime(answer: { _ in
            await gate.pass()
            return .completed(nil)
        })
        try await time.send(Self.post)
        await gate.arrived()
        await time.pass(.milliseconds(499))
        #expect(try await time.sent() == nil)
        await time.pass(.milliseconds(1))
        #expect(try await time.receive() == CoAPMessage(.acknowledgement, .empty, messageID: 5))
        gate.open()
        let answer = try await time.receive()
        #expect(answer.kind == .confirmable && answer.code == .created)
        // ACK_TIMEOUT 2 s, times 1 + half of what ACK_RANDOM_FACTOR adds; doubled each time, MAX_RETRANSMIT times.
        for milliseconds in [2500, 5000, 10_000, 20_000] as [Int64] {
            await time.pass(.milliseconds(milliseconds - 1))
            #expect(try await time.sent() == nil)
            await time.pass(.milliseconds(1))
            #expect(try await time.sent() == answer)
        }
        await time.pass(.hours(1))
        #expect(try await time.sent() == nil)
    }

    @Test("of requests that are read at once, those that wait hold up none of the others")
    func readAtOnce() async throws {
        let gate = Gate()
        let time = try await StillTime(answer: { message in
            if message.originator == TestDevices.first { await gate.pass() }
            return .completed(nil)
        })
        try await time.send(
            (1...6).map { .request(.post, "/api/v1/T\($0 % 2 + 1)/telemetry", "{}", messageID: $0) }
        )
        await gate.arrived(3)
        var answered: Set<UInt16> = []
        for _ in 0..<3 { answered.insert(try await time.receive().messageID) }
        #expect(answered == [1, 3, 5])
        #expect(try await time.sent() == nil)
        gate.open()
        for _ in 0..<3 { answered.insert(try await time.receive().messageID) }
        #expect(answered == [1, 2, 3, 4, 5, 6])
        #expect(try await time.sent() == nil)
    }

    @Test(
        "a message ID means the same request until its lifetime is over",
        arguments: [(CoAPMessage.Kind.confirmable, Int64(247)), (.nonConfirmable, 145)]
    )
    func deduplication(kind: CoAPMessage.Kind, seconds: Int64) async throws {
        let time = try await StillTime()
        var request = Self.post
        request.kind = kind
        let answer = try await time.ask(request)
        #expect(answer.code == .created)
        await time.pass(.seconds(seconds) - .nanoseconds(1))
        try await time.send(request)
        #expect(try await time.sent() == (kind == .confirmable ? answer : nil))
        #expect(time.outlet.sent.count == 1)
        await time.pass(.nanoseconds(1))
        #expect(try await time.ask(request).code == .created)
        #expect(time.outlet.sent.count == 2)
    }

    @Test("a peer gets one message at a time that it did not ask for, and nothing more if it does not acknowledge")
    func oneAtATime() async throws {
        let time = try await StillTime(answer: { _ in .completed(.json(["shared": ["a": 1]])) })
        let register = [CoAPOption(.observe, uint: 0)]
        _ = try await time.ask(.request(.get, "/api/v1/T1/attributes", messageID: 1, token: 1, options: register))
        _ = try await time.ask(.request(.get, "/api/v1/T1/rpc", messageID: 2, token: 2, options: register))
        let device = TestDevices.first.id
        time.sessions.notify(device, .attributesUpdated(["a": 2]))
        time.sessions.notify(device, .rpcRequest(id: 1, method: "m", params: 1))
        let first = try await time.receive()
        #expect(first.token.value == 1 && first.kind == .confirmable)
        #expect(try await time.sent() == nil)
        // A request is answered meanwhile.
        #expect(try await time.ask(Self.post).code == .created)
        try await time.send(CoAPMessage(.acknowledgement, .empty, messageID: first.messageID))
        let second = try await time.receive()
        #expect(second.token.value == 2 && second.payload.text == #"{"id":1,"method":"m","params":1}"#)
        // Its first time-out begins when it is sent.
        time.sessions.notify(device, .attributesUpdated(["a": 3]))
        for milliseconds in [2500, 5000, 10_000, 20_000] as [Int64] {
            await time.pass(.milliseconds(milliseconds))
            #expect(try await time.sent() == second)
        }
        #expect(time.sessions.notify(device, .attributesUpdated(["a": 4])) == 1)
        await time.pass(.milliseconds(40_000))
        #expect(try await time.sent() == nil)
        // Both are gone: what waited for the one that was not acknowledged would not have been either.
        #expect(time.sessions.notify(device, .attributesUpdated(["a": 5])) == 0)
    }

    @Test("an observer that hears nothing for 12 hours is asked whether it is there, at least every 24")
    func refresh() async throws {
        let time = try await StillTime(answer: { _ in .completed(.json(["shared": ["a": 1]])) })
        let register = [CoAPOption(.observe, uint: 0)]
        let answer = try await time.ask(.request(.get, "/api/v1/T1/attributes", messageID: 1, options: register))
        #expect(answer.option(.maxAge)?.uint == 43_447)
        // Who has heard nothing is looked for every 45 minutes.
        var told: [Int] = []
        for check in 1...64 {
            await time.pass(.minutes(45))
            guard let asked = try await time.sent() else { continue }
            told.append(check)
            #expect(asked.kind == .confirmable && asked.sequence == UInt32(told.count))
            try await time.send(CoAPMessage(.acknowledgement, .empty, messageID: asked.messageID))
            #expect(try await time.sent() == nil)
        }
        #expect(zip(told, [0] + told).allSatisfy { $0 - $1 <= 16 } && told.count >= 4)
    }

    @Test("a body whose next block does not come within a minute is gone")
    func assembly() async throws {
        let time = try await StillTime()
        func post(_ number: UInt32, _ messageID: UInt16) async throws -> CoAPCode {
            let block = Block(number: number, more: number == 0, exponent: 0)
            let body = number == 0 ? "[" + String(repeating: " ", count: 15) : "]"
            return try await time.ask(
                .request(.post, "/api/v1/T1/telemetry", body, messageID: messageID, options: [block.option(.block1)])
            ).code
        }
        #expect(try await post(0, 1) == .continue)
        await time.pass(.seconds(59))
        #expect(try await post(1, 2) == .created)
        #expect(try await post(0, 3) == .continue)
        await time.pass(.seconds(60))
        #expect(try await post(1, 4) == .requestEntityIncomplete)
    }

    @Test("under pressure from forged addresses, and only then, a large answer needs the Echo option")
    func pressure() async throws {
        let attributes = ["address-unproven-answers-per-second-max": "2"]
        let time = try await StillTime(attributes, answer: chain())
        for messageID in 1...2 as ClosedRange<UInt16> {
            #expect(try await time.ask(.request(.get, "/fw/T1", messageID: messageID)).code == .content)
        }
        let challenge = try await time.ask(.request(.get, "/fw/T1", messageID: 3))
        #expect(challenge.code == .unauthorized)
        #expect(try await time.ask(.request(.get, "/fw/T1?size=100&chunk=0", messageID: 4)).code == .content)
        let echo = try #require(challenge.option(.echo))
        for messageID in 5...9 as ClosedRange<UInt16> {
            #expect(
                try await time.ask(.request(.get, "/fw/T1", messageID: messageID, options: [echo])).code == .content
            )
        }
        // Who does not know the option is served again once the pressure is gone.
        let other = try await StillTime(attributes, answer: chain())
        for messageID in 1...2 as ClosedRange<UInt16> {
            _ = try await other.ask(.request(.get, "/fw/T1", messageID: messageID))
        }
        #expect(try await other.ask(.request(.get, "/fw/T1", messageID: 3)).code == .unauthorized)
        await other.pass(.seconds(1))
        #expect(try await other.ask(.request(.get, "/fw/T1", messageID: 4)).code == .content)
    }
}
