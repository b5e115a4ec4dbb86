import NIOCore
import NodeKit

/// Several ranges of a package in one body: `multipart/byteranges` (RFC 9110 §14.6).
public struct Multipart: Sendable {
    /// One range, and what stands before it.
    struct Part: Sendable {
        /// The delimiter and the part's fields.
        var head: ByteBuffer
        /// The bytes, as zero-based offsets within the content.
        var range: Range<Int64>
    }

    /// The text between the parts, which is not in them but by an unlikely chance.
    let boundary: String
    /// The parts in the order in which they are sent.
    let parts: [Part]
    /// What stands after the last part.
    let tail: ByteBuffer
    /// How many bytes all of it has.
    let length: Int64

    /// Puts ranges together.
    ///
    /// - Parameters:
    ///   - ranges: The ranges, relative to the reply's.
    ///   - reply: Whose bytes they are.
    ///   - random: What the boundary is made of. Whoever made the package must not know it beforehand.
    init(_ ranges: [Range<Int64>], of reply: ContentReply, random: UInt64 = .random(in: .min ... .max)) {
        // As long as any other, so that the length of a body is the same whenever it is asked for.
        let digits = String(random, radix: 36)
        let boundary = "windlass-" + String(repeating: "0", count: 13 - digits.utf8.count) + digits
        let base = reply.range.lowerBound
        let type = ResponseEncoder.mediaType(reply)
        self.boundary = boundary
        self.parts = ranges.map { range in
            let head =
                "\r\n--\(boundary)\r\nContent-Type: \(type)\r\n"
                + "Content-Range: bytes \(range.lowerBound)-\(range.upperBound - 1)/\(reply.range.count)\r\n\r\n"
            return Part(head: ByteBuffer(string: head), range: base + range.lowerBound..<base + range.upperBound)
        }
        self.tail = ByteBuffer(string: "\r\n--\(boundary)--\r\n")
        self.length = self.parts.reduce(Int64(self.tail.readableBytes)) { length, part in
            length + Int64(part.head.readableBytes) + Int64(part.range.count)
        }
    }
}

/// The bytes of a package that make up a body, in pieces that are small enough to be in memory.
struct BodyPieces {
    /// Some bytes, and what stands before and after them.
    struct Piece {
        /// What is sent before the bytes.
        var before: ByteBuffer?
        /// The bytes, as zero-based offsets within the content; never empty.
        var range: Range<Int64>
        /// What is sent after the bytes.
        var after: ByteBuffer?
    }

    private var range: Range<Int64>
    private var before: ByteBuffer?
    private var parts: ArraySlice<Multipart.Part> = []
    private var tail: ByteBuffer?

    /// Takes one range apart.
    init(_ range: Range<Int64>) { self.range = range }

    /// Takes several ranges apart, none of them empty.
    init(_ multipart: Multipart) {
        self.range = 0..<0
        self.parts = multipart.parts[...]
        self.tail = multipart.tail
    }

    /// Whether that was all.
    var isEmpty: Bool { self.range.isEmpty && self.parts.isEmpty }

    /// The next piece, of at most so many bytes of the package.
    mutating func next(_ size: Int64) -> Piece? {
        if self.range.isEmpty {
            guard let part = self.parts.popFirst() else { return nil }
            self.range = part.range
            self.before = part.head
        }
        let end = self.range.lowerBound + min(size, Int64(self.range.count))
        var piece = Piece(before: self.before, range: self.range.lowerBound..<end)
        self.before = nil
        self.range = end..<self.range.upperBound
        if self.isEmpty { piece.after = self.tail }
        return piece
    }
}
