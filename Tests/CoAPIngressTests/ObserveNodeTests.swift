import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import CoAPIngress

@Suite("Observing over a real socket", .timeLimit(.minutes(5)))
struct ObserveNodeTests {
    private static let device = TestDevices.first.id
    private static let register = [CoAPOption(.observe, uint: 0)]
    private static let deregister = [CoAPOption(.observe, uint: 1)]
    private static let path = "/api/v1/T1/attributes"

    private static func attributes(_ shared: JSON?) -> @Sendable (Message) async -> Outcome {
        { _ in
            guard let shared else { return .completed(.json(["client": ["a": 1]])) }
            return .completed(.json(["client": ["a": 1], "shared": shared]))
        }
    }

    @Test("the first notification is all shared attributes, later ones are what changed or is gone")
    func attributes() async throws {
        try await TestNode.run(answer: Self.attributes(["fw_title": "T", "fw_version": "1"])) { node in
            let peer = try await node.peer()
            let first = try await peer.ask(.get, Self.path + "?sharedKeys=x", token: 0xABCD, options: Self.register)
            #expect(first.kind == .acknowledgement && first.code == .content && first.sequence == 0)
            #expect(first.payload.text == #"{"fw_title":"T","fw_version":"1"}"#)
            #expect(first.option(.contentFormat)?.uint == 50)
            #expect(first.option(.maxAge)?.uint == 43_447)
            #expect(node.outlet.sent.first?.message.metadata["sharedKeys"] == nil)

            node.sessions.notify(Self.device, .attributesUpdated(["fw_version": "2"]))
            let second = await peer.receive()
            #expect(second.kind == .confirmable && second.code == .content && second.sequence == 1)
            #expect(second.token == first.token && second.payload.text == #"{"fw_version":"2"}"#)
            try await peer.acknowledge(second)
            node.sessions.notify(Self.device, .attributesDeleted(["fw_version"]))
            let third = await peer.receive()
            #expect(third.sequence == 2 && third.payload.text == #"{"deleted":["fw_version"]}"#)
            try await peer.acknowledge(third)
            // Nobody else's changes.
            node.sessions.notify(TestDevices.second.id, .attributesUpdated(["a": 1]))
            #expect(try await peer.hasNothing())
        }
    }

    @Test("without shared attributes the first notification is an empty object")
    func empty() async throws {
        try await TestNode.run(answer: Self.attributes(nil)) { node in
            let first = try await node.peer().ask(.get, Self.path, options: Self.register)
            #expect(first.code == .content && first.payload.text == "{}" && first.sequence == 0)
        }
    }

    @Test("a change while the present state is read is not lost")
    func race() async throws {
        let gate = Gate()
        let slow: @Sendable (Message) async -> Outcome = { _ in
            await gate.pass()
            return .completed(.json(["shared": ["a": 1]]))
        }
        try await TestNode.run(answer: slow) { node in
            let peer = try await node.peer()
            try await peer.send(CoAPMessage.request(.get, Self.path, options: Self.register))
            await gate.arrived()
            node.sessions.notify(Self.device, .attributesUpdated(["a": 2]))
            gate.open()
            #expect(await peer.receive().payload.text == #"{"a":1}"#)
            #expect(await peer.receive().payload.text == #"{"a":2}"#)
        }
    }

    @Test("changes while a notification is under way come in one, once it is acknowledged")
    func merged() async throws {
        try await TestNode.run(answer: Self.attributes([:])) { node in
            let peer = try await node.peer()
            _ = try await peer.ask(.get, Self.path, options: Self.register)
            node.sessions.notify(Self.device, .attributesUpdated(["a": 1]))
            let first = await peer.receive()
            node.sessions.notify(Self.device, .attributesUpdated(["a": 2, "b": 1]))
            node.sessions.notify(Self.device, .attributesUpdated(["b": 2]))
            #expect(try await peer.hasNothing())
            try await peer.acknowledge(first)
            #expect(await peer.receive().payload.text == #"{"a":2,"b":2}"#)
        }
    }

    @Test("who resets a notification is told no more")
    func reset() async throws {
        try await TestNode.run(answer: Self.attributes([:])) { node in
            let peer = try await node.peer()
            _ = try await peer.ask(.get, Self.path, options: Self.register)
            node.sessions.notify(Self.device, .attributesUpdated(["a": 1]))
            let told = await peer.receive()
            try await peer.send(CoAPMessage(.reset, .empty, messageID: told.messageID))
            #expect(try await peer.hasNothing())
            #expect(node.sessions.notify(Self.device, .attributesUpdated(["a": 2])) == 0)
            #expect(try await peer.hasNothing())
        }
    }

    @Test("who cancels is answered with 2.02 and told no more")
    func cancel() async throws {
        try await TestNode.run(answer: Self.attributes([:])) { node in
            let peer = try await node.peer()
            _ = try await peer.ask(.get, Self.path, options: Self.register)
            let answer = try await peer.ask(.get, Self.path, options: Self.deregister)
            #expect(answer.code == .deleted && answer.sequence == nil && answer.payload.readableBytes == 0)
            #expect(node.sessions.notify(Self.device, .attributesUpdated(["a": 1])) == 0)
        }
    }

    @Test("who does not acknowledge is taken to be gone")
    func gone() async throws {
        let attributes = ["ack-timeout-milliseconds": "10", "retransmit-max": "1"]
        try await TestNode.run(attributes, answer: Self.attributes([:])) { node in
            let peer = try await node.peer()
            _ = try await peer.ask(.get, Self.path, options: Self.register)
            node.sessions.notify(Self.device, .attributesUpdated(["a": 1]))
            let told = await peer.receive()
            #expect(await peer.receive() == told)
            // Each ping is a round trip through the node; after some of them the last time-out is over.
            while node.sessions.notify(Self.device, .attributesUpdated(["a": 2])) > 0 {
                #expect(try await peer.hasNothing())
            }
        }
    }

    @Test("another token of the same client ends the first observation with 2.02; the same token goes on counting")
    func tokens() async throws {
        try await TestNode.run(answer: Self.attributes([:])) { node in
            let peer = try await node.peer()
            #expect(try await peer.ask(.get, Self.path, token: 1, options: Self.register).sequence == 0)
            #expect(try await peer.ask(.get, Self.path, token: 1, options: Self.register).sequence == 1)
            try await peer.send(
                CoAPMessage.request(.get, Self.path, messageID: peer.messageID(), token: 2, options: Self.register)
            )
            let ended = await peer.receive()
            #expect(ended.code == .deleted && ended.token.value == 1 && ended.kind == .confirmable)
            try await peer.acknowledge(ended)
            let second = await peer.receive()
            #expect(second.sequence == 0 && second.token.value == 2)
            #expect(node.sessions.notify(Self.device, .attributesUpdated(["a": 1])) == 1)
        }
    }

    @Test("a device has as many observers as allowed, the host too")
    func limits() async throws {
        let attributes = ["observers-max": "2", "observers-per-device-max": "1"]
        try await TestNode.run(attributes, answer: Self.attributes([:])) { node in
            let first = try await node.peer()
            let second = try await node.peer()
            let third = try await node.peer()
            _ = try await first.ask(.get, Self.path, options: Self.register)
            _ = try await second.ask(.get, "/api/v1/T2/attributes", options: Self.register)
            // The host is full: the state comes, but no observation.
            let plain = try await third.ask(.get, Self.path, options: Self.register)
            #expect(plain.code == .content && plain.sequence == nil)
            #expect(try await third.ask(.get, "/api/v1/T1/rpc", options: Self.register).code == .serviceUnavailable)
            _ = try await second.ask(.get, "/api/v1/T2/attributes", options: Self.deregister)
            // The device is full: its older observer goes.
            #expect(try await third.ask(.get, Self.path, options: Self.register).sequence == 0)
            #expect(await first.receive().code == .deleted)
        }
    }

    @Test("an observer whose device is removed is told so and ends")
    func revoked() async throws {
        try await TestNode.run(answer: Self.attributes([:])) { node in
            let peer = try await node.peer()
            _ = try await peer.ask(.get, Self.path, options: Self.register)
            node.sessions.notify(Self.device, .credentialsRevoked)
            let ended = await peer.receive()
            #expect(ended.code == .unauthorized && ended.sequence == nil)
            try await peer.acknowledge(ended)
            #expect(node.sessions.notify(Self.device, .attributesUpdated(["a": 1])) == 0)
        }
    }

    @Test("a notification that is longer than a block is fetched with plain requests")
    func longNotification() async throws {
        let long = JSON.object(["text": .string(String(repeating: "y", count: 2500))])
        try await TestNode.run(answer: Self.attributes(["text": "x"])) { node in
            let peer = try await node.peer()
            let options = Self.register + [Block(number: 0, more: false, exponent: 5).option(.block2)]
            _ = try await peer.ask(.get, Self.path, options: options)
            node.sessions.notify(Self.device, .attributesUpdated(try #require(long.object)))
            let first = await peer.receive()
            try await peer.acknowledge(first)
            #expect(first.block2 == Block(number: 0, more: true, exponent: 5))
            var text = first.payload.text
            for number in 1...4 as ClosedRange<UInt32> {
                let block = Block(number: number, more: false, exponent: 5)
                let answer = try await peer.ask(.get, Self.path, token: 9, options: [block.option(.block2)])
                #expect(answer.option(.etag) == first.option(.etag) && answer.sequence == nil)
                text += answer.payload.text
            }
            #expect(text == long.description)
            // A plain request from the start is about the present state.
            let plain = try await peer.ask(.get, Self.path, token: 9)
            #expect(plain.payload.text == #"{"client":{"a":1},"shared":{"text":"x"}}"#)
        }
    }

    @Test("calls come one by one after an empty 2.03")
    func calls() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            let first = try await peer.ask(.get, "/api/v1/T1/rpc", options: Self.register)
            #expect(first.code == .valid && first.sequence == 0 && first.payload.readableBytes == 0)
            node.sessions.notify(Self.device, .rpcRequest(id: 1, method: "reboot", params: ["delay": 5]))
            node.sessions.notify(Self.device, .rpcRequest(id: 2, method: "stop", params: nil))
            node.sessions.notify(Self.device, .attributesUpdated(["a": 1]))
            let call = await peer.receive()
            #expect(call.code == .content && call.kind == .confirmable)
            #expect(call.payload.text == #"{"id":1,"method":"reboot","params":{"delay":5}}"#)
            #expect(try await peer.hasNothing())
            try await peer.acknowledge(call)
            #expect(await peer.receive().payload.text == #"{"id":2,"method":"stop","params":null}"#)
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test("an observer that hears nothing is asked whether it is there")
    func refresh() async throws {
        let attributes = ["observe-refresh-seconds": "1"]
        try await TestNode.run(attributes, answer: Self.attributes(["a": 1])) { node in
            let peer = try await node.peer()
            _ = try await peer.ask(.get, Self.path, options: Self.register)
            let told = await peer.receive()
            #expect(told.kind == .confirmable && told.payload.text == "{}" && told.sequence == 1)
        }
    }
}
