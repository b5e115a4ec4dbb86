import FoundationEssentials
import NIOCore
import NodeKit
import NodeTesting
import Testing

@testable import CoAPIngress

@Suite("Messages on the wire")
struct CodecTests {
    struct Vector: Sendable, CustomTestStringConvertible {
        var json: JSON
        var testDescription: String { self.json["name"]?.text ?? "unnamed" }
        var bytes: ByteBuffer { ByteBuffer(hex: self.json["hex"]?.text ?? "") }

        static func load(_ file: String) throws -> [Vector] {
            let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Vectors")
            let data = try Data(contentsOf: folder.appending(path: file))
            return try #require(JSON(parsing: ByteBuffer(bytes: data)).array).map(Vector.init)
        }
    }

    @Test("a good message is read, and written again as it came", arguments: try Vector.load("good.json"))
    func good(vector: Vector) throws {
        let message = try CoAPMessage(reading: vector.bytes)
        let json = vector.json
        #expect(Int64(message.kind.rawValue) == json["kind"]?.integer)
        #expect(message.code.description == json["code"]?.text)
        #expect(Int64(message.messageID) == json["messageID"]?.integer)
        let token = ByteBuffer(hex: json["token"]?.text ?? "")
        #expect(message.token == CoAPMessage.Token(token))
        let options = try (json["options"]?.array ?? []).map { option in
            let number = try #require(option.array?.first?.integer)
            let value = try #require(option.array?.last?.text)
            return CoAPOption(.init(rawValue: UInt16(number)), ByteBuffer(hex: value))
        }
        #expect(message.options == options)
        #expect(message.payload == ByteBuffer(hex: json["payload"]?.text ?? ""))
        #expect(message.datagram == vector.bytes)
    }

    @Test("a bad message is refused as RFC 7252 says", arguments: try Vector.load("bad.json"))
    func bad(vector: Vector) throws {
        let expected: CoAPMessage.ReadError
        if vector.json["error"]?.text == "unknown" {
            expected = .unknown
        } else {
            let kind = CoAPMessage.Kind(rawValue: UInt8(vector.json["kind"]?.integer ?? 0))
            expected = .malformed(try #require(kind), messageID: 1)
        }
        #expect(throws: expected) { try CoAPMessage(reading: vector.bytes) }
    }

    @Test("every prefix of a good message is read or refused, never more than refused")
    func prefixes() throws {
        for vector in try Vector.load("good.json") {
            let bytes = vector.bytes
            for length in 0..<bytes.readableBytes {
                let prefix = try #require(bytes.getSlice(at: 0, length: length))
                if let message = try? CoAPMessage(reading: prefix) { #expect(message.datagram == prefix) }
            }
        }
    }

    @Test("what is read of random bytes is written so that it reads the same", arguments: 0..<8)
    func random(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        var count = 0
        for _ in 0..<20_000 {
            var bytes = (0..<Int.random(in: 4...48, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            // A plausible header, so that most go on to the options.
            bytes[0] = 0x40 | bytes[0] & 0x3F
            guard let message = try? CoAPMessage(reading: ByteBuffer(bytes: bytes)) else { continue }
            count += 1
            #expect(try CoAPMessage(reading: message.datagram) == message)
            _ = try? CoAPRequest(message)
        }
        #expect(count > 0)
    }

    @Test("options are written in the order of their numbers, repeated ones as they were added")
    func optionOrder() throws {
        var message = CoAPMessage(.confirmable, .get, messageID: 1)
        for (number, text) in [(15, "z"), (11, "b"), (15, "a"), (3, "h"), (11, "a")] {
            message.add(CoAPOption(.init(rawValue: UInt16(number)), text: text))
        }
        #expect(message.options.map(\.number.rawValue) == [3, 11, 11, 15, 15])
        #expect(message.options.map(\.text) == ["h", "b", "a", "z", "a"])
        #expect(try CoAPMessage(reading: message.datagram) == message)
    }

    @Test(
        "numbers take as few bytes as they need",
        arguments: [(UInt32(0), 0), (1, 1), (255, 1), (256, 2), (65535, 2), (65536, 3), (0xFF_FFFF, 3), (.max, 4)]
    )
    func numbers(value: UInt32, length: Int) {
        let option = CoAPOption(.maxAge, uint: value)
        #expect(option.value.readableBytes == length)
        #expect(option.uint == value)
    }

    @Test("a number of more than four bytes is none")
    func longNumber() {
        #expect(CoAPOption(.maxAge, ByteBuffer(bytes: [0, 0, 0, 0, 1])).uint == nil)
        #expect(CoAPOption(.maxAge, ByteBuffer(bytes: [0, 0, 0, 1])).uint == 1)
    }

    @Test("a token keeps only the bytes that it has")
    func tokens() {
        #expect(CoAPMessage.Token(value: 0x1234, length: 1) == CoAPMessage.Token(value: 0x34, length: 1))
        #expect(CoAPMessage.Token(value: 0, length: 1) != CoAPMessage.Token(value: 0, length: 2))
        #expect(CoAPMessage.Token(value: .max, length: 8).value == .max)
        #expect(CoAPMessage.Token(ByteBuffer(hex: "0102")) == CoAPMessage.Token(value: 0x0102, length: 2))
        let long = ByteBuffer(repeating: 7, count: 300)
        #expect(CoAPMessage.Token(long) == CoAPMessage.Token(long) && CoAPMessage.Token(long).length == 300)
        #expect(CoAPMessage.Token(long) != CoAPMessage.Token(ByteBuffer(repeating: 7, count: 301)))
    }
}

@Suite("Options of a request")
struct RequestTests {
    private func request(_ options: [CoAPOption], _ method: CoAPCode = .get) throws(CoAPRequest.Fault) -> CoAPRequest {
        try CoAPRequest(CoAPMessage(.confirmable, method, messageID: 1, options: options))
    }

    @Test("path and query are taken apart")
    func pathAndQuery() throws {
        let request = try self.request([
            CoAPOption(.uriPath, text: "fw"), CoAPOption(.uriPath, text: "a/b"),
            CoAPOption(.uriQuery, text: "title=a=b"),
            CoAPOption(.uriQuery, text: "sharedKeys=a,b"), CoAPOption(.uriQuery, text: "sharedKeys=c"),
            CoAPOption(.uriQuery, text: "flag"),
        ])
        #expect(request.path == ["fw", "a/b"])
        #expect(try request.argument("title") == "a=b")
        #expect(try request.argument("flag") == "")
        #expect(try request.argument("absent") == nil)
        #expect(request.list("sharedKeys") == "a,b,c")
        #expect(request.list("clientKeys") == nil)
    }

    @Test("an unknown critical option is refused", arguments: [9, 13, 19, 31, 65535] as [UInt16])
    func critical(number: UInt16) {
        let number = CoAPOption.Number(rawValue: number)
        #expect(throws: CoAPRequest.Fault.badOption(number)) { try self.request([CoAPOption(number)]) }
    }

    @Test("an unknown elective option is ignored", arguments: [2, 8, 20, 260, 300, 65534] as [UInt16])
    func elective(number: UInt16) throws {
        let option = CoAPOption(.init(rawValue: number), ByteBuffer(repeating: 1, count: 100))
        #expect(try self.request([option]) == self.request([]))
    }

    @Test(
        "a length that an option must not have makes it unknown, one that it may have does not",
        arguments: [
            (CoAPOption.Number.uriPath, 255), (.uriQuery, 255), (.uriHost, 255), (.uriPort, 2), (.accept, 2),
            (.block1, 3), (.block2, 3), (.ifMatch, 8), (.ifNoneMatch, 0),
        ]
    )
    func length(number: CoAPOption.Number, longest: Int) throws {
        let fits = CoAPOption(number, ByteBuffer(repeating: 0x20, count: longest))
        _ = try self.request([fits])
        let tooLong = CoAPOption(number, ByteBuffer(repeating: 0x20, count: longest + 1))
        #expect(throws: CoAPRequest.Fault.badOption(number)) { try self.request([tooLong]) }
    }

    @Test(
        "an elective option of a wrong length is ignored",
        arguments: [
            (CoAPOption.Number.observe, 4), (.contentFormat, 3), (.size1, 5), (.size2, 5), (.etag, 0), (.etag, 9),
            (.requestTag, 9), (.echo, 0), (.echo, 41), (.noResponse, 2),
        ]
    )
    func electiveLength(number: CoAPOption.Number, length: Int) throws {
        let option = CoAPOption(number, ByteBuffer(repeating: 0, count: length))
        #expect(try self.request([option]) == self.request([]))
    }

    @Test("an option keeps its value, whether it stands in it or not", arguments: [0, 1, 7, 8, 9, 40])
    func values(length: Int) {
        let value = ByteBuffer(bytes: (0..<length).map { UInt8(0xFF - $0) })
        let option = CoAPOption(.requestTag, value)
        #expect(option.value == value && option.length == length)
        var bytes = ByteBuffer(string: "x")
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: max(length, 8)) { memory in
            var writer = CoAPMessage.Writer(memory: memory)
            option.writeValue(to: &writer)
            return writer.count
        }
        #expect(bytes == ByteBuffer(bytes: Array("x".utf8) + Array(value.readableBytesView)))
        let text = String("Ünïcödé text of many bytes".utf8.prefix(length)) ?? "Ü"
        #expect(CoAPOption(.uriPath, text: text).text == text)
        #expect(CoAPOption(.etag, opaque: 0xFF01).value == ByteBuffer(hex: "000000000000ff01"))
        #expect(CoAPOption(.etag, opaque: 7).opaque == 7 && CoAPOption(.etag, uint: 7).opaque == nil)
    }

    @Test("a condition holds for any representation, or for one with the entity tag")
    func conditions() throws {
        #expect(try self.request([]).conditionHolds(etag: nil))
        #expect(try self.request([CoAPOption(.ifMatch)]).conditionHolds(etag: nil))
        let tags = [CoAPOption(.ifMatch, opaque: 1), CoAPOption(.ifMatch, opaque: 2)]
        #expect(try self.request(tags).conditionHolds(etag: 2))
        #expect(try !self.request(tags).conditionHolds(etag: 3) && !self.request(tags).conditionHolds(etag: nil))
        #expect(try !self.request([CoAPOption(.ifNoneMatch)]).conditionHolds(etag: 2))
    }

    @Test("an option that must not be repeated counts as unknown the second time")
    func repeated() throws {
        #expect(throws: CoAPRequest.Fault.badOption(.accept)) {
            try self.request([CoAPOption(.accept, uint: 50), CoAPOption(.accept, uint: 50)])
        }
        let request = try self.request([CoAPOption(.contentFormat, uint: 50), CoAPOption(.contentFormat, uint: 60)])
        #expect(request.contentFormat == 50)
    }

    @Test("a proxy is not what we are", arguments: [CoAPOption.Number.proxyURI, .proxyScheme])
    func proxy(number: CoAPOption.Number) {
        #expect(throws: CoAPRequest.Fault.proxying) { try self.request([CoAPOption(number, text: "coap")]) }
    }

    @Test("size exponents up to 6 are blocks, 7 is refused", arguments: 0...7 as ClosedRange<UInt32>)
    func exponent(exponent: UInt32) throws {
        let option = CoAPOption(.block2, uint: 5 << 4 | exponent)
        guard exponent < 7 else {
            #expect(throws: CoAPRequest.Fault.self) { try self.request([option]) }
            return
        }
        let block = try #require(try self.request([option]).block2)
        #expect(block == Block(number: 5, more: false, exponent: UInt8(exponent)))
        #expect(block.size == 16 << exponent)
        #expect(block.option(.block2) == option)
    }

    @Test("Observe counts in a GET only, and only as 0 or 1")
    func observe() throws {
        #expect(try self.request([CoAPOption(.observe, uint: 0)]).observe == .register)
        #expect(try self.request([CoAPOption(.observe, uint: 1)]).observe == .deregister)
        #expect(try self.request([CoAPOption(.observe, uint: 2)]).observe == nil)
        #expect(try self.request([CoAPOption(.observe, uint: 0)], .post).observe == nil)
    }

    @Test("text that is not UTF-8 is refused", arguments: [CoAPOption.Number.uriPath, .uriQuery])
    func utf8(number: CoAPOption.Number) {
        #expect(throws: CoAPRequest.Fault.self) { try self.request([CoAPOption(number, ByteBuffer(bytes: [0xC3]))]) }
    }
}

@Suite("Blocks of a body")
struct BlockTests {
    @Test("the blocks of a body are the body, whatever their size", arguments: 0...6 as ClosedRange<UInt8>)
    func slices(exponent: UInt8) throws {
        let size = Int64(16) << Int64(exponent)
        for bodySize in [0, 1, size - 1, size, size + 1, 3 * size, 3 * size + 7] {
            var next: Int64 = 0
            var number: UInt32 = 0
            while true {
                let requested = Block(number: number, more: false, exponent: exponent)
                let slice = try BlockSlice(of: bodySize, requested: requested, exponentMax: 6)
                let block = try #require(slice.block)
                #expect(slice.range.lowerBound == next)
                #expect(block.number == number && block.exponent == exponent)
                #expect(block.more == (slice.range.upperBound < bodySize))
                if block.more { #expect(Int64(slice.range.count) == size) }
                next = slice.range.upperBound
                number += 1
                if !block.more { break }
            }
            #expect(next == bodySize)
            // A body without bytes has one block all the same: the first.
            #expect(throws: BlockSlice.Fault.pastEnd) {
                let requested = Block(number: max(1, number), more: false, exponent: exponent)
                return try BlockSlice(of: bodySize, requested: requested, exponentMax: 6)
            }
        }
    }

    @Test("without a block option a body that fits has none, one byte more has one")
    func noOption() throws {
        #expect(try BlockSlice(of: 1024, requested: nil, exponentMax: 6).block == nil)
        let slice = try BlockSlice(of: 1025, requested: nil, exponentMax: 6)
        #expect(slice.block == Block(number: 0, more: true, exponent: 6))
        #expect(slice.range == 0..<1024)
    }

    @Test("larger blocks than we serve are answered with the same bytes under another number")
    func smallerBlocks() throws {
        let requested = Block(number: 1, more: false, exponent: 6)
        let slice = try BlockSlice(of: 4096, requested: requested, exponentMax: 4)
        #expect(slice.range == 1024..<1280)
        #expect(slice.block == Block(number: 4, more: true, exponent: 4))
    }

    @Test("a body may have 2^20 blocks and not one byte more", arguments: 0...6 as ClosedRange<UInt8>)
    func tooManyBlocks(exponent: UInt8) throws {
        let most = (Int64(1) << 20) * (Int64(16) << Int64(exponent))
        let last = Block(number: Block.numberMax, more: false, exponent: exponent)
        let slice = try BlockSlice(of: most, requested: last, exponentMax: 6)
        #expect(slice.range.upperBound == most && slice.block == last)
        #expect(throws: BlockSlice.Fault.tooManyBlocks) {
            try BlockSlice(of: most + 1, requested: last, exponentMax: 6)
        }
    }

    @Test("a block size is a power of two from 16 to 1024")
    func sizes() {
        #expect([16, 32, 64, 128, 256, 512, 1024].map(Block.exponent(ofSize:)) == [0, 1, 2, 3, 4, 5, 6])
        for size in [0, 1, 8, 17, 1000, 2048] { #expect(Block.exponent(ofSize: size) == nil) }
    }

    @Test("an entity tag is the start of a checksum, or a hash that never changes")
    func entityTags() {
        #expect(EntityTag.of("0123456789abcdef0000") == 0x0123_4567_89AB_CDEF)
        #expect(EntityTag.of("") == 0xCBF2_9CE4_8422_2325)
        #expect(EntityTag.of("a") == 0xAF63_DC4C_8601_EC8C)
        #expect(EntityTag.of(ByteBuffer(string: "a")) == EntityTag.of("a"))
    }
}
