import NIOCore
import NIOEmbedded
import NIOHTTP1
import NodeTesting
import Testing

@testable import HTTPKit

@Suite(.timeLimit(.minutes(5))) struct RequestDecoderTests {
    /// What a decoder made of the bytes of a connection, up to the first request after which it ends.
    private struct Reading: Equatable {
        struct Request: Equatable {
            var isKeepAlive: Bool
            var body = ""
        }

        var requests: [Request] = []
        var isRefused = false
        /// The request that is not complete.
        private var current: Request?

        var isOver: Bool { self.isRefused || self.requests.last?.isKeepAlive == false }

        /// Whether the other found the same requests, and where this one goes on after one, it does so, too.
        ///
        /// This one may end earlier: with a request that is not served, such as one with a coding that nobody knows here, or
        /// where it is stricter, as with extensions of chunks without a name.
        func isLike(_ other: Reading) -> Bool {
            let alike = zip(self.requests, other.requests)
                .allSatisfy { $0.body == $1.body && (!$0.isKeepAlive || $1.isKeepAlive) }
            let count = other.requests.count
            return alike
                && (self.requests.count == count || self.requests.count < count && self.isOver)
        }

        mutating func begin(isKeepAlive: Bool) { self.current = Request(isKeepAlive: isKeepAlive) }

        mutating func add(_ bytes: ByteBuffer) { self.current?.body += String(buffer: bytes) }

        mutating func end() {
            if let current { self.requests.append(current) }
            self.current = nil
        }

        /// Reads with our decoder.
        init(_ pieces: [ByteBuffer]) {
            var decoder = RequestDecoder(bytesMax: 16_384, fieldsMax: 64)
            var input = ByteBuffer()
            for piece in pieces {
                input.writeImmutableBuffer(piece)
                while !self.isOver, let piece = decoder.next(from: &input) {
                    switch piece {
                    case .head(let head):
                        switch head.refusal {
                        case .badRequest, .codingNotSupported: self.isRefused = !head.isKeepAlive
                        default: break
                        }
                        self.begin(isKeepAlive: head.isKeepAlive)
                    case .body(let bytes): self.add(bytes)
                    case .end: self.end()
                    case .refused: self.isRefused = true
                    }
                }
            }
            self.current = nil
        }

        /// Reads with the decoder of swift-nio.
        init(nio bytes: ByteBuffer) {
            let channel = EmbeddedChannel(handler: ByteToMessageHandler(HTTPRequestDecoder()))
            do { try channel.writeInbound(bytes) } catch { self.isRefused = true }
            while let part = try? channel.readInbound(as: HTTPServerRequestPart.self) {
                guard self.requests.last?.isKeepAlive != false else { break }
                switch part {
                case .head(let head): self.begin(isKeepAlive: head.isKeepAlive)
                case .body(let bytes): self.add(bytes)
                case .end: self.end()
                }
            }
            self.current = nil
            if self.requests.last?.isKeepAlive == false { self.isRefused = false }
            _ = try? channel.finish(acceptAlreadyClosed: true)
        }
    }

    /// Requests of parts that are fine, and sometimes of one that is not.
    private struct Generator {
        var random: SplitMix

        mutating func pick<Element>(_ elements: [Element]) -> Element {
            elements[Int(self.random.next() % UInt64(elements.count))]
        }

        mutating func chance(_ one: UInt64) -> Bool { self.random.next() % one == 0 }

        mutating func request() -> String {
            let method = self.pick(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "PATCH"])
            let target = self.pick([
                "/", "*", "/api/v1/A1/telemetry", "/a?b=c&d#e", "http://h/x", "/%20\"<>^`{|}\\[]", "//x", "/a:b@c;d",
            ])
            let isOld = self.chance(4)
            var text = self.pick(["", "", "", "\r\n"]) + "\(method) \(target) HTTP/1.\(isOld ? 0 : 1)\r\n"
            var fields = [self.pick(["Host: h", "host:h", "HOST:\t h \t"])]
            for _ in 0..<self.random.next() % 4 {
                fields.append(
                    self.pick([
                        "X: y", "X:", "X: \t ", "x-y_z.!#$%&'*+^`|~0: a\tb\u{e9}", "Connection: close",
                        "Connection: x , close",
                        "Connection: keep-alive", "connection:Keep-Alive", "Accept: */*", "Expect: 100-continue",
                        "Range: bytes=0-1", "If-Match: \"a\"", "Content-Encoding: identity",
                    ])
                )
            }
            let body = String(
                repeating: self.pick(["x", "\r\n", "GET / HTTP/1.1\r\n\r\n"]),
                count: Int(self.random.next() % 4)
            )
            switch self.random.next() % (isOld ? 2 : 3) {
            case 0:
                fields.append(
                    "\(self.pick(["Content-Length", "content-length"])):\(self.pick([" ", "", " 0"]))\(body.utf8.count)"
                )
                text += self.joined(fields) + body
            case 1: text += self.joined(fields)
            default:
                fields.append(
                    "\(self.pick(["Transfer-Encoding", "transfer-ENCODING"])): \(self.pick(["chunked", "Chunked"]))"
                )
                text += self.joined(fields)
                for chunk in [body, "0123456789abcdef!"].prefix(Int(self.random.next() % 3)) where !chunk.isEmpty {
                    let size = String(chunk.utf8.count, radix: 16, uppercase: self.chance(2))
                    text +=
                        "\(self.pick(["", "0"]))\(size)\(self.pick(["", ";x", ";x=y", ";x=\"y;\\\"z\"", ";x;y=z"]))\r\n\(chunk)\r\n"
                }
                text += "0\r\n\(self.pick(["", "X: y\r\n", "X:\r\nY: z\r\n"]))\r\n"
            }
            return text
        }

        private mutating func joined(_ fields: [String]) -> String {
            fields.shuffled(using: &self.random).map { $0 + "\r\n" }.joined() + "\r\n"
        }

        /// Some requests in one go, with a byte changed, added or removed.
        mutating func mutant() -> [UInt8] {
            var bytes = Array((0..<1 + self.random.next() % 2).map { _ in self.request() }.joined().utf8)
            let place = Int(self.random.next() % UInt64(bytes.count))
            // No tab: that one may end a Transfer-Encoding, too, is news to swift-nio.
            let byte = self.pick(Array(" \r\n\0:;,/\"0aG.\u{7f}".utf8) + [0xFF])
            switch self.random.next() % 3 {
            case 0: bytes[place] = byte
            case 1: bytes.insert(byte, at: place)
            default: bytes.remove(at: place)
            }
            return bytes
        }
    }

    @Test("requests are taken apart as swift-nio does it, however they come", arguments: 0..<8)
    func likeNIO(seed: UInt64) {
        var generator = Generator(random: SplitMix(state: seed))
        for _ in 0..<20 {
            let text = (0..<1 + generator.random.next() % 3).map { _ in generator.request() }.joined()
            let bytes = ByteBuffer(string: text)
            let reading = Reading([bytes])
            #expect(reading.isLike(Reading(nio: bytes)), "\(text.debugDescription)")
            #expect(!reading.requests.isEmpty && !reading.isRefused, "\(text.debugDescription)")
            for index in 0...bytes.readableBytes {
                var rest = bytes
                let start = rest.readSlice(length: index) ?? ByteBuffer()
                #expect(Reading([start, rest]) == reading, "\(text.debugDescription) cut at \(index)")
            }
        }
    }

    @Test("of bytes that are not quite requests nothing is served that swift-nio would not", arguments: 0..<8)
    func mutants(seed: UInt64) {
        var generator = Generator(random: SplitMix(state: seed))
        for _ in 0..<400 {
            let bytes = ByteBuffer(bytes: generator.mutant())
            let reading = Reading([bytes])
            let text = String(buffer: bytes).debugDescription
            #expect(reading.isLike(Reading(nio: bytes)), "\(text)")
            var rest = bytes
            let single = (0..<bytes.readableBytes).compactMap { _ in rest.readSlice(length: 1) }
            #expect(Reading(single) == reading, "\(text)")
        }
    }
}
