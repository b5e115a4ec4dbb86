import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

/// The nodes one after the other, as the default chain links them.
@Suite struct UpdateFlowTests {
    private let domain: NodeDomain

    init() async throws { self.domain = try await NodeDomain() }

    @Test(arguments: [1, 7, 100, 1000, 1001] as [Int64])
    func `a device that asks for chunks until one is empty has the package`(size: Int64) async throws {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        try await self.domain.assign(bytes: bytes)
        let lookup = try PackageLookupNode.make(services: self.domain.services())
        let serve = try ChunkServeNode.make(services: self.domain.services())
        var received: [UInt8] = []
        for chunk in 0... {
            let metadata: Metadata = [
                "packageType": "FIRMWARE", "title": "fw", "version": "1.1", "size": .integer(size),
                "chunk": .integer(Int64(chunk)),
            ]
            let found = try await lookup.process(.of(.packageChunkRequest, metadata)).only
            #expect(found.relation == .success)
            let served = try await serve.process(found.message).only
            let content = try #require(served.message.content)
            let part = try await content.content.read(content.range)
            if part.readableBytes == 0 { break }
            received += part.readableBytesView
        }
        #expect(received == bytes)
        #expect(self.domain.updates.look { $0.served.map(\.count).reduce(0, +) } == 1000)
    }

    @Test func `what fails is tracked and then classified`() async throws {
        try await self.domain.assign()
        let save = try SaveTelemetryNode.make(services: self.domain.services())
        let track = try StateTrackingNode.make(services: self.domain.services())
        let classify = try ErrorClassificationNode.make(services: self.domain.services())
        let data: JSON = [["fw_error": "connection lost", "fw_state": "FAILED"], ["temperature": 3]]
        let saved = try await save.process(.of(.postTelemetryRequest, [:], data)).only.message
        let failed = try await track.process(saved).only
        #expect(failed.relation == "Failed")
        let classified = try await classify.process(failed.message).only
        #expect(classified.relation == "NETWORK_ERROR")
        #expect(self.domain.updates.look { $0.classes } == [.networkError])
    }

    @Test func `every node type is made without attributes, and says what it is`() throws {
        let nodes: [any ChainNode.Type] = [
            AssignmentsNode.self, AttributePushNode.self, AttributesReplyNode.self, ChunkServeNode.self,
            ErrorClassificationNode.self, PackageInfoNode.self, PackageLookupNode.self, SaveAttributesNode.self,
            SaveTelemetryNode.self, StateTrackingNode.self,
        ]
        for node in nodes { try self.check(node) }
        #expect(Set(nodes.map { $0.descriptor.type }).count == nodes.count)
    }

    private func check<N: ChainNode>(_ type: N.Type) throws {
        _ = try type.make(services: self.domain.services())
        let relations = type.descriptor.relations.map(\.relation)
        #expect(!type.descriptor.summary.isEmpty)
        #expect(relations.contains(.success) || relations.contains("Unknown"))
    }
}
