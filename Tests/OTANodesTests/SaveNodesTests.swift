import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

@Suite struct SaveNodesTests {
    private let domain: NodeDomain

    init() async throws { self.domain = try await NodeDomain() }

    /// All that is stored of a series, oldest first.
    private func points(_ key: String) async throws -> [TimeseriesEntry] {
        try await self.domain.store.timeseries(
            of: self.domain.device,
            key: key,
            from: Timestamp(milliseconds: 0),
            to: self.domain.domain.now().adding(.seconds(1)),
            limit: 100,
            ascending: true
        )
    }

    @Test func `save-telemetry stores all forms`() async throws {
        let node = try SaveTelemetryNode.make(services: self.domain.services())
        for data in [["a": 1], ["ts": 5, "values": ["a": 2]], [["a": 3], ["ts": 6, "values": ["a": 4]]]] as [JSON] {
            #expect(try await node.process(.of(.postTelemetryRequest, [:], data)).stored.relation == .success)
        }
        let points = try await self.points("a")
        // Those without a time have that of the message, the later one a millisecond more.
        #expect(points.map(\.value) == [2, 4, 1, 3])
        #expect(points.map(\.timestamp.rawValue) == [5, 6, 1000, 1001])
    }

    @Test(arguments: [[:], [], ["current_fw_title": nil]] as [JSON])
    func `save-telemetry takes what holds no value`(data: JSON) async throws {
        let node = try SaveTelemetryNode.make(services: self.domain.services())
        let emission = try await node.process(.of(.postTelemetryRequest, [:], data))
        #expect(emission.only.relation == .success)
        #expect(emission.pendingWrite == nil)
        #expect(try await self.domain.domain.latest(self.domain.device) == [:])
    }

    @Test(arguments: ["x", 1, [1]] as [JSON?] + [nil])
    func `save-telemetry refuses what is no telemetry`(data: JSON?) async throws {
        let node = try SaveTelemetryNode.make(services: self.domain.services())
        let error = await #expect(throws: NodeError.self) {
            try await node.process(.of(.postTelemetryRequest, [:], data))
        }
        #expect(error?.code == .badRequest)
    }

    @Test func `what could not be stored is told to whoever waits for it`() async throws {
        await self.domain.close()
        let services = self.domain.services()
        let nodes: [any Node] = [
            try SaveTelemetryNode.make(services: services), try SaveAttributesNode.make(services: services),
        ]
        for node in nodes {
            let error = await #expect(throws: NodeError.self) {
                try await node.process(.of(.postTelemetryRequest, [:], ["a": 1])).stored
            }
            #expect(error?.code == .unavailable)
        }
    }

    @Test(
        arguments: [(nil, .client), ("SHARED_SCOPE", .shared), ("SERVER_SCOPE", .server)] as [(String?, AttributeScope)]
    )
    func `save-attributes stores an object without its nulls`(scope: String?, stored: AttributeScope) async throws {
        let attributes = scope.map { ["scope": $0] } ?? [:]
        let node = try SaveAttributesNode.make(attributes, services: self.domain.services())
        let message = Message.of(.postAttributesRequest, [:], ["a": 1, "b": nil])
        #expect(try await node.process(message).stored.relation == .success)
        let entries = try await self.domain.store.attributes(of: self.domain.device, scope: stored, keys: nil)
        #expect(entries == [AttributeEntry(key: "a", value: 1, lastUpdate: Timestamp(milliseconds: 1000))])
    }

    @Test(arguments: ["x", 1, [["a": 1]]] as [JSON?] + [nil])
    func `save-attributes refuses what is no object`(data: JSON?) async throws {
        let node = try SaveAttributesNode.make(services: self.domain.services())
        let error = await #expect(throws: NodeError.self) {
            try await node.process(.of(.postAttributesRequest, [:], data))
        }
        #expect(error?.code == .badRequest)
    }

    @Test(
        arguments: [
            ([:], ["client": ["a": 1, "b": 2], "shared": ["s": 3]]),
            (["clientKeys": "a"], ["client": ["a": 1]]),
            (["sharedKeys": "s,a"], ["shared": ["s": 3]]),
            (["clientKeys": "a,b", "sharedKeys": "none"], ["client": ["a": 1, "b": 2]]),
            (["clientKeys": "none"], [:]),
            (["clientKeys": "", "sharedKeys": "s"], ["shared": ["s": 3]]),
            (["clientKeys": "", "sharedKeys": ""], ["client": ["a": 1, "b": 2], "shared": ["s": 3]]),
        ] as [(Metadata, JSON)]
    )
    func `attributes-reply answers with the groups asked for`(metadata: Metadata, answer: JSON) async throws {
        try await self.domain.save(["a": 1, "b": 2], .client)
        try await self.domain.save(["s": 3], .shared)
        try await self.domain.save(["a": 9], .server)
        let node = try AttributesReplyNode.make(services: self.domain.services())
        let (message, relation) = try await node.process(.of(.getAttributesRequest, metadata)).only
        #expect(relation == .success)
        #expect(message.json == answer)
    }

    @Test func `attributes-reply answers with an empty object if there is nothing`() async throws {
        let node = try AttributesReplyNode.make(services: self.domain.services())
        #expect(try await node.process(.of(.getAttributesRequest)).only.message.json == [:])
    }

    @Test(.bug(id: "D1.2"))
    func `attributes-reply takes names apart at every comma and keeps those apart that look the same`() async throws {
        try await self.domain.save(["a": 1, "\u{301}b": 2, "caf\u{E9}": 3, "cafe\u{301}": 4], .shared)
        let node = try AttributesReplyNode.make(services: self.domain.services())
        let message = Message.of(.getAttributesRequest, ["sharedKeys": "a,\u{301}b,cafe\u{301}"])
        let answer = try await node.process(message).only.message.json
        #expect(answer == ["shared": ["a": 1, "\u{301}b": 2, "cafe\u{301}": 4]])
    }

    @Test(arguments: [("a,b", true), ("a,b,c", false)])
    func `attributes-reply limits how many names are asked for`(keys: String, isFine: Bool) async throws {
        let node = try AttributesReplyNode.make(["keys-max": "2"], services: self.domain.services())
        let message = Message.of(.getAttributesRequest, ["sharedKeys": .string(keys)])
        if isFine {
            _ = try await node.process(message)
        } else {
            let error = await #expect(throws: NodeError.self) { try await node.process(message) }
            #expect(error?.code == .badRequest)
        }
    }
}
