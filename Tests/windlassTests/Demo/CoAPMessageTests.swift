import NIOCore
import Testing

@testable import windlass

@Suite("CoAP messages of the demo's device")
struct CoAPMessageTests {
    @Test("The request of RFC 7252 appendix A is written as it stands there")
    func appendixA() throws {
        var request = CoAPMessage.request(.get, path: ["temperature"])
        request.id = 0x7D34
        let bytes: [UInt8] = [0x40, 0x01, 0x7D, 0x34, 0xBB] + Array("temperature".utf8)
        #expect(Array(request.bytes.readableBytesView) == bytes)
        let read = try #require(CoAPMessage(request.bytes))
        #expect(read.kind == .confirmable && read.code == .get && read.id == 0x7D34)
        #expect(read.option(CoAPMessage.Option.path) == Array("temperature".utf8))
    }

    @Test(
        "Options keep their order and length at each step of the encoding",
        arguments: [0, 1, 12, 13, 268, 269, 1_000]
    )
    func options(length: Int) throws {
        var message = CoAPMessage.request(.get, path: ["a", "b"], query: ["c"])
        message.token = [1, 2, 3, 4]
        message.options.append((CoAPMessage.Option.observe, []))
        message.options.append((2_000, Array(repeating: 9, count: length)))
        message.payload = ByteBuffer(string: "payload")
        let read = try #require(CoAPMessage(message.bytes))
        #expect(read.options.map(\.number) == [6, 11, 11, 15, 2_000])
        #expect(read.options.last?.value == Array(repeating: 9, count: length))
        #expect(
            read.options.filter { $0.number == 11 }.map { String(decoding: $0.value, as: UTF8.self) } == ["a", "b"]
        )
        #expect(read.token == [1, 2, 3, 4])
        #expect(String(buffer: read.payload) == "payload")
    }

    @Test(
        "Bytes that are no message are refused",
        arguments: [
            [], [0x40], [0x40, 1, 0], [0x80, 1, 0, 0], [0x49, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0x44, 1, 0, 0, 1],
            [0x40, 1, 0, 0, 0xFF], [0x40, 1, 0, 0, 0xF0], [0x40, 1, 0, 0, 0x0F], [0x40, 1, 0, 0, 0xB5, 1],
            [0x40, 1, 0, 0, 0xD1], [0x40, 1, 0, 0, 0xE1, 1],
        ] as [[UInt8]]
    )
    func malformed(bytes: [UInt8]) {
        #expect(CoAPMessage(ByteBuffer(bytes: bytes)) == nil)
    }

    @Test(
        "A block is written in as few bytes as it takes",
        arguments: [
            (CoAPBlock(number: 0, more: false, szx: 0), []), (CoAPBlock(number: 0, more: false, szx: 6), [0x06]),
            (CoAPBlock(number: 3, more: true, szx: 2), [0x3A]),
            (CoAPBlock(number: 16, more: false, szx: 6), [1, 0x06]),
            (CoAPBlock(number: 0xFFFFF, more: true, szx: 6), [0xFF, 0xFF, 0xFE]),
        ] as [(CoAPBlock, [UInt8])]
    )
    func block(block: CoAPBlock, bytes: [UInt8]) {
        #expect(block.value == bytes)
        #expect(CoAPBlock(bytes) == block)
    }

    @Test("The reserved size and a value of four bytes are refused")
    func badBlocks() {
        #expect(CoAPBlock([0x07]) == nil)
        #expect(CoAPBlock([0, 0, 0, 0x06]) == nil)
    }

    @Test("A code reads as documents write it")
    func codes() {
        #expect(CoAPMessage.Code.notFound.description == "4.04")
        #expect(CoAPMessage.Code.content.isSuccess && !CoAPMessage.Code.notFound.isSuccess)
    }
}
