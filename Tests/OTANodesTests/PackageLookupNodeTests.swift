import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

@Suite struct PackageLookupNodeTests {
    private let domain: NodeDomain

    init() async throws { self.domain = try await NodeDomain() }

    /// What becomes of a request, with nothing in memory; with all of it there it must be the same at once.
    private func emission(
        _ attributes: [String: String] = [:],
        _ metadata: Metadata
    ) async throws -> (message: Message, relation: Relation) {
        let node = try PackageLookupNode.make(attributes, services: self.domain.services())
        let message = Message.of(.packageChunkRequest, metadata)
        if case .unknown = self.domain.store.known(effectiveFor: self.domain.device, type: .firmware),
            case .now = try node.decideAtOnce(message)
        {
            Issue.record("it cannot know at once")
        }
        let emission = try await node.process(message).only
        if case .now(let decided) = try node.decideAtOnce(message) {
            let atOnce = decided.only
            #expect(atOnce.relation == emission.relation)
            #expect(atOnce.message.refusal?.description == emission.message.refusal?.description)
            let found = [emission, atOnce].map { $0.message.attachment(EffectivePackage.self)?.package }
            #expect(found[0] == found[1])
        } else if metadata["packageId"] == nil {
            Issue.record("it must know at once")
        }
        return emission
    }

    @Test func `attaches the effective package and provides its attributes as variables`() async throws {
        try await self.domain.assign(bytes: [1, 2, 3])
        let (message, relation) = try await self.emission([:], ["packageType": "FIRMWARE"])
        #expect(relation == .success)
        #expect(message.reply == nil)
        #expect(message.attachment(EffectivePackage.self)?.package.version == "1.1")
        #expect(message.value(forVariable: "fw_version") == "1.1")
        #expect(message.value(forVariable: "fw_size") == 3)
        #expect(message.value(forVariable: "sw_version") == nil)
    }

    @Test func `answers 'not found' if nothing is assigned`() async throws {
        _ = try await self.domain.package()
        let (message, relation) = try await self.emission([:], ["packageType": "FIRMWARE"])
        #expect(relation == "NotFound")
        #expect(message.refusal?.code == .notFound)
    }

    @Test(
        arguments: [
            (["title": "fw", "version": "1.1"], true), (["title": "fw"], true), (["version": "1.1"], true),
            (["title": "FW", "version": "1.1"], false), (["title": "fw", "version": "1.10"], false),
            (["version": ""], false),
        ] as [(Metadata, Bool)]
    )
    func `takes title and version if they are those assigned`(asked: Metadata, isFine: Bool) async throws {
        try await self.domain.assign()
        var metadata = asked
        metadata["packageType"] = "FIRMWARE"
        let (message, relation) = try await self.emission([:], metadata)
        #expect(relation == (isFine ? .success : "Mismatch"))
        #expect(message.refusal?.code == (isFine ? nil : .badRequest))
    }

    @Test(.bug(id: "D1.2"), arguments: [["title": "fw-e\u{301}"], ["version": "1-\u{212A}"]] as [Metadata])
    func `a title or version that only looks like the assigned one is another`(asked: Metadata) async throws {
        try await self.domain.assign("fw-\u{E9}", "1-K")
        var metadata = asked
        metadata["packageType"] = "FIRMWARE"
        #expect(try await self.emission([:], metadata).relation == "Mismatch")
        metadata = ["packageType": "FIRMWARE", "title": "fw-\u{E9}", "version": "1-K"]
        #expect(try await self.emission([:], metadata).relation == .success)
    }

    @Test func `serves the package that a request is pinned to whatever is assigned by now`() async throws {
        let old = try await self.domain.package("fw", "1.0")
        try await self.domain.assign("fw", "2.0")
        let id = JSON.string(old.id.description)
        let (message, relation) = try await self.emission([:], ["packageType": "FIRMWARE", "packageId": id])
        #expect(relation == .success)
        #expect(message.attachment(EffectivePackage.self)?.package.version == "1.0")
    }

    @Test func `a pinned package that is gone or of the other kind is not found`() async throws {
        let firmware = try await self.domain.assign()
        for (type, id) in [("SOFTWARE", firmware.id), ("FIRMWARE", .random())] {
            let metadata: Metadata = ["packageType": .string(type), "packageId": .string(id.description)]
            #expect(try await self.emission([:], metadata).relation == "NotFound")
        }
    }

    @Test func `its own package type counts before that of the message`() async throws {
        try await self.domain.assign()
        let attributes = ["package-type": "FIRMWARE"]
        #expect(try await self.emission(attributes, ["packageType": "SOFTWARE"]).relation == .success)
        #expect(try await self.emission(attributes, [:]).relation == .success)
    }

    @Test(arguments: [[:] as Metadata, ["packageType": "TEAPOT"], ["packageType": "FIRMWARE", "packageId": "x"]])
    func `a message that makes no sense fails`(metadata: Metadata) async throws {
        let error = await #expect(throws: NodeError.self) { try await self.emission([:], metadata) }
        #expect(error?.code == .badRequest)
    }

    @Test func `a store that does not answer is a failure`() async throws {
        await self.domain.close()
        await #expect(throws: NodeError.self) { try await self.emission([:], ["packageType": "FIRMWARE"]) }
    }

    @Test func `a package type that does not exist is refused when the node is made`() {
        #expect(throws: NodeError.self) {
            try PackageLookupNode.make(["package-type": "fw"], services: self.domain.services())
        }
    }
}
