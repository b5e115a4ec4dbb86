import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

@Suite struct ChunkServeNodeTests {
    private let domain: NodeDomain
    private let package: EffectivePackage

    init() async throws {
        self.domain = try await NodeDomain()
        let package = try await self.domain.assign(bytes: Array(repeating: 7, count: 10))
        self.package = try #require(try await self.domain.store.package(package.id))
    }

    private func serve(
        _ metadata: Metadata,
        attributes: [String: String] = [:]
    ) async throws -> (message: Message, relation: Relation) {
        let node = try ChunkServeNode.make(attributes, services: self.domain.services())
        var message = Message.of(.packageChunkRequest, metadata)
        message.attach(self.package)
        return try await node.process(message).only
    }

    @Test(
        arguments: [
            [:], ["size": 0], ["size": 0, "chunk": 5], ["size": "0", "chunk": "0"],
        ] as [Metadata]
    )
    func `serves the whole package without a size, whatever the chunk`(metadata: Metadata)
        async throws
    {
        let (message, relation) = try await self.serve(metadata)
        #expect(relation == .success)
        #expect(message.content?.range == 0..<10)
        #expect(message.content?.chunkIndex == nil)
        #expect(message.content?.chunksCount == nil)
    }

    @Test(
        arguments: [
            (1, 0, 0..<1, 10), (1, 9, 9..<10, 10), (1, 10, 10..<10, 10),
            (3, 2, 6..<9, 4), (3, 3, 9..<10, 4), (3, 4, 10..<10, 4),
            (10, 0, 0..<10, 1), (10, 1, 10..<10, 1), (11, 0, 0..<10, 1), (11, 1, 10..<10, 1),
            (3, Int64.max / 3, 10..<10, 4), (1, .max, 10..<10, 10),
        ] as [(Int64, Int64, Range<Int64>, Int64)]
    )
    func `serves chunks, the last one short and none past the end`(
        size: Int64,
        chunk: Int64,
        range: Range<Int64>,
        chunksCount: Int64
    ) async throws {
        let metadata: Metadata = ["size": .integer(size), "chunk": .string(String(chunk))]
        let (message, relation) = try await self.serve(metadata)
        #expect(relation == .success)
        #expect(message.content?.range == range)
        #expect(message.content?.chunkIndex == chunk)
        #expect(message.content?.chunksCount == chunksCount)
    }

    @Test(
        arguments: [
            ["size": -1], ["size": 3, "chunk": -1], ["chunk": -1], ["size": .integer(.min)], ["size": 2, "chunk": "x"],
            ["size": "99999999999999999999"], ["size": 3, "chunk": .integer(.max / 3 + 1)],
            ["size": 16_777_216, "chunk": .integer(.max)], ["size": 1.5], ["size": .integer(.max)],
        ] as [Metadata]
    )
    func `refuses numbers that make no sense`(metadata: Metadata) async throws {
        let (message, relation) = try await self.serve(metadata)
        #expect(relation == "Refused")
        #expect(message.refusal?.code == .badRequest)
        #expect(self.domain.updates.look { $0.served }.isEmpty)
    }

    @Test(arguments: [(20, true), (21, false)])
    func `limits the size of a chunk`(size: Int64, isFine: Bool) async throws {
        let metadata: Metadata = ["size": .integer(size)]
        let relation = try await self.serve(metadata, attributes: ["chunk-size-bytes-max": "20"]).relation
        #expect(relation == (isFine ? .success : "Refused"))
    }

    @Test(arguments: [(10, true), (11, false)])
    func `the whole package may be asked for as one chunk that is larger than the limit`(
        size: Int64,
        isFine: Bool
    ) async throws {
        let metadata: Metadata = ["size": .integer(size)]
        let relation = try await self.serve(metadata, attributes: ["chunk-size-bytes-max": "4"]).relation
        #expect(relation == (isFine ? .success : "Refused"))
    }

    @Test func `names the file, its type and what identifies its bytes`() async throws {
        let content = try #require(try await self.serve(["size": 4, "chunk": 1]).message.content)
        #expect(content.fileName == "fw.bin")
        #expect(content.contentType == "application/octet-stream")
        #expect(content.entityTag == self.package.package.sha256)
        #expect(try await content.content.read(content.range).readableBytes == 4)
    }

    @Test func `counts what is read, and not what is only offered`() async throws {
        for chunk in 0...3 {
            let reply = try #require(
                try await self.serve(["size": 4, "chunk": .integer(Int64(chunk))]).message.content
            )
            if !reply.range.isEmpty { _ = try await reply.content.read(reply.range) }
        }
        #expect(self.domain.updates.look { $0.served } == [0..<4, 4..<8, 8..<10])
        let whole = try #require(try await self.serve([:]).message.content)
        #expect(whole.range == 0..<10 && self.domain.updates.look { $0.served.count } == 3)
        for piece in [0..<3, 3..<10] as [Range<Int64>] { _ = try await whole.content.read(piece) }
        #expect(self.domain.updates.look { $0.served.suffix(2) } == [0..<3, 3..<10])
        #expect(whole.content.readAtOnce(2..<4)?.readableBytes == 2)
        #expect(self.domain.updates.look { $0.served.last } == 2..<4)
        #expect(whole.content.readAtOnce(2..<40) == nil)
        #expect(self.domain.updates.look { $0.served.last } == 2..<4)
    }

    @Test func `a package that is fetched elsewhere is not found here`() async throws {
        let node = try ChunkServeNode.make(services: self.domain.services())
        var message = Message.of(.packageChunkRequest)
        let elsewhere = try await self.domain.domain.package(url: "https://example.org/fw")
        message.attach(try #require(try await self.domain.store.package(elsewhere.id)))
        let (answered, relation) = try await node.process(message).only
        #expect(relation == "Refused")
        #expect(answered.refusal?.code == .notFound)
    }

    @Test func `a message that passed no lookup fails`() async throws {
        let chunkServe = try ChunkServeNode.make(services: self.domain.services())
        let info = try PackageInfoNode.make(services: self.domain.services())
        for node in [chunkServe, info] as [any Node] {
            let error = await #expect(throws: NodeError.self) { try await node.process(.of(.packageChunkRequest)) }
            #expect(error?.code == "missing-package")
        }
    }

    @Test func `package-info answers with the shared attributes`() async throws {
        let node = try PackageInfoNode.make(services: self.domain.services())
        var message = Message.of(.packageInfoRequest)
        message.attach(self.package)
        let (answered, relation) = try await node.process(message).only
        #expect(relation == .success)
        #expect(
            answered.json == [
                "fw_title": "fw", "fw_version": "1.1", "fw_size": 10, "fw_checksum_algorithm": "SHA256",
                "fw_checksum": self.package.package.checksum.map(JSON.string) ?? .null,
            ]
        )
    }
}
