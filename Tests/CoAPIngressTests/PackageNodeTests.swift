import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import CoAPIngress

@Suite("Packages over CoAP", .timeLimit(.minutes(5)))
struct PackageTests {
    @Test(
        "every path of a package asks the chain for its type",
        arguments: [
            ("/fw/T1", "FIRMWARE"), ("/sw/T1", "SOFTWARE"), ("/api/v1/T1/firmware/chunk", "FIRMWARE"),
            ("/api/v1/T1/software/chunk", "SOFTWARE"),
        ]
    )
    func paths(path: String, type: String) async throws {
        let content = TestContent(count: 100)
        try await TestNode.run(answer: chain(content)) { node in
            let answer = try await node.peer().ask(.get, path + "?title=T&version=1&size=64&chunk=1")
            #expect(answer.code == .content)
            #expect(Array(answer.payload.readableBytesView) == Array(content.bytes[64...]))
            #expect(answer.option(.contentFormat)?.uint == 42)
            #expect(answer.option(.etag)?.value == ByteBuffer(hex: "0011223344556677"))
            #expect(answer.block2 == nil)
            let message = try #require(node.outlet.sent.first?.message)
            #expect(message.type == .packageChunkRequest)
            let expected: JSON.Object = [
                "transport": "coap", "packageType": .string(type), "title": "T", "version": "1", "size": 64, "chunk": 1,
            ]
            #expect(message.metadata.object == expected)
        }
    }

    @Test("information about the package is JSON", arguments: [("firmware", "FIRMWARE"), ("software", "SOFTWARE")])
    func info(name: String, type: String) async throws {
        try await TestNode.run(answer: chain()) { node in
            let answer = try await node.peer().ask(.get, "/api/v1/T1/\(name)")
            #expect(answer.code == .content && answer.payload.text == #"{"fw_title":"T","fw_version":"1"}"#)
            let message = try #require(node.outlet.sent.first?.message)
            #expect(message.type == .packageInfoRequest && message.metadata.string("packageType") == type)
        }
    }

    @Test("a whole package comes in blocks of the asked size; each block reads its own bytes only", arguments: 0...6)
    func whole(exponent: UInt8) async throws {
        let size = 16 << Int(exponent)
        for count in [size * 5, size * 5 + 3] {
            let content = TestContent(count: count)
            try await TestNode.run(answer: chain(content)) { node in
                let peer = try await node.peer()
                var received: [UInt8] = []
                var block: Block? = Block(number: 0, more: false, exponent: exponent)
                while let asked = block {
                    let answer = try await peer.ask(.get, "/fw/T1", options: [asked.option(.block2)])
                    #expect(answer.code == .content)
                    let got = try #require(answer.block2)
                    #expect(got.number == asked.number && got.exponent == exponent)
                    #expect(answer.option(.size2)?.uint == UInt32(count))
                    #expect(answer.payload.readableBytes <= size)
                    received += answer.payload.readableBytesView
                    block = got.more ? Block(number: got.number + 1, more: false, exponent: exponent) : nil
                }
                #expect(received == content.bytes)
                #expect(content.reads.allSatisfy { $0.count <= size })
                #expect(content.reads.count == (count + size - 1) / size)
            }
        }
    }

    @Test(
        "without a block option the first block is of the configured size",
        arguments: [(1024, 6), (256, 4), (16, 0)]
    )
    func defaultSize(size: Int, exponent: UInt8) async throws {
        try await TestNode.run(["block-size-bytes": "\(size)"], answer: chain()) { node in
            let peer = try await node.peer()
            let answer = try await peer.ask(.get, "/fw/T1")
            #expect(answer.payload.readableBytes == size)
            #expect(answer.block2 == Block(number: 0, more: true, exponent: exponent))
            // A client that asks for larger blocks gets ours.
            let large = Block(number: 1, more: false, exponent: 6)
            let next = try await peer.ask(.get, "/fw/T1", options: [large.option(.block2)])
            #expect(next.block2 == Block(number: UInt32(1024 / size), more: true, exponent: exponent))
        }
    }

    @Test("a chunk that is larger than a block comes in blocks")
    func chunkInBlocks() async throws {
        let content = TestContent(count: 5000)
        try await TestNode.run(answer: chain(content)) { node in
            let peer = try await node.peer()
            var received: [UInt8] = []
            for number in 0..<2 as Range<UInt32> {
                let block = Block(number: number, more: false, exponent: 6)
                let answer = try await peer.ask(.get, "/fw/T1?size=1500&chunk=2", options: [block.option(.block2)])
                received += answer.payload.readableBytesView
                #expect(answer.block2?.more == (number == 0))
                #expect(answer.option(.size2)?.uint == 1500)
            }
            #expect(received == Array(content.bytes[3000..<4500]))
        }
    }

    @Test(
        "a chunk past the end is empty",
        arguments: ["size=1000&chunk=5", "size=5000&chunk=1", "size=1&chunk=2147483647"]
    )
    func pastEnd(query: String) async throws {
        let content = TestContent(count: 5000)
        try await TestNode.run(answer: chain(content)) { node in
            let peer = try await node.peer()
            let answer = try await peer.ask(.get, "/fw/T1?\(query)")
            #expect(answer.code == .content && answer.payload.readableBytes == 0 && answer.block2 == nil)
            let block = Block(number: 0, more: false, exponent: 2)
            let asked = try await peer.ask(.get, "/fw/T1?\(query)", options: [block.option(.block2)])
            #expect(asked.code == .content && asked.payload.readableBytes == 0 && asked.block2 == block)
            #expect(content.reads.isEmpty)
        }
    }

    @Test(
        "an argument that may be given once is refused when it is given again",
        arguments: ["title", "version", "chunk", "size"]
    )
    func repeated(name: String) async throws {
        try await TestNode.run(answer: chain()) { node in
            let answer = try await node.peer().ask(.get, "/fw/T1?\(name)=1&x=1&\(name)=1")
            #expect(answer.code == .badRequest && answer.payload.text == "'\(name)' is given more than once")
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test(
        "a chunk or size that is no number of ours is 4.00 with a text",
        arguments: ["-1", "+1", "x", "1.5", "0x10", " 1", "2147483648", "99999999999999999999", "1,2"]
    )
    func badNumbers(text: String) async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            for query in ["size=\(text)&chunk=0", "size=1&chunk=\(text)"] {
                let answer = try await peer.ask(.get, "/fw/T1?\(query)")
                #expect(answer.code == .badRequest && answer.payload.readableBytes > 0)
            }
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test("a block past the end, and block size exponent 7, are 4.00")
    func badBlocks() async throws {
        let content = TestContent(count: 2048)
        try await TestNode.run(answer: chain(content)) { node in
            let peer = try await node.peer()
            for (value, code) in [
                (UInt32(1 << 4 | 6), CoAPCode.content), (2 << 4 | 6, .badRequest), (0xF_FFFF << 4 | 6, .badRequest),
                (7, .badRequest),
            ] {
                let answer = try await peer.ask(.get, "/fw/T1", options: [CoAPOption(.block2, uint: value)])
                #expect(answer.code == code)
            }
        }
    }

    @Test("a package that changes between blocks is seen by its entity tag")
    func changing() async throws {
        let tags = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"]
        let gate = Gate()
        let answer: @Sendable (Message) async -> Outcome = { message in
            let index = message.metadata.string("title") == "second" ? 1 : 0
            let content = TestContent(count: 3000, seed: UInt64(index))
            return .completed(.content(ContentReply(content: content, range: 0..<3000, entityTag: tags[index])))
        }
        gate.open()
        try await TestNode.run(answer: answer) { node in
            let peer = try await node.peer()
            let first = try await peer.ask(.get, "/fw/T1?title=first")
            let second = try await peer.ask(
                .get,
                "/fw/T1?title=second",
                options: [Block(number: 1, more: false, exponent: 6).option(.block2)]
            )
            #expect(first.option(.etag)?.value == ByteBuffer(hex: tags[0]))
            #expect(second.option(.etag)?.value == ByteBuffer(hex: tags[1]))
        }
    }

    @Test("JSON that is longer than a block comes in blocks, with one entity tag as long as it is the same")
    func longJSON() async throws {
        let json: JSON = ["shared": ["text": .string(String(repeating: "x", count: 3000))]]
        try await TestNode.run(answer: { _ in .completed(.json(json)) }) { node in
            let peer = try await node.peer()
            var text = ""
            var tags: Set<ByteBuffer> = []
            for number in 0..<3 as Range<UInt32> {
                let block = Block(number: number, more: false, exponent: 6)
                let options = number == 0 ? [] : [block.option(.block2)]
                let answer = try await peer.ask(.get, "/api/v1/T1/attributes", options: options)
                text += answer.payload.text
                tags.insert(try #require(answer.option(.etag)).value)
                #expect(answer.block2?.more == (number < 2))
            }
            #expect(text == json.description && tags.count == 1)
        }
    }

    @Test("bytes that cannot be read are 5.00")
    func unreadable() async throws {
        struct Broken: Content {
            let size: Int64 = 10
            func read(_ range: Range<Int64>) async throws -> ByteBuffer { throw NodeError(.internalError, "disk") }
        }
        try await TestNode.run(answer: { _ in .completed(.content(ContentReply(content: Broken(), range: 0..<10))) }) {
            node in
            let peer = try await node.peer()
            #expect(try await peer.ask(.get, "/fw/T1").code == .internalServerError)
        }
    }
}
