public import NIOCore

/// The bytes that the fuzzer made up, taken from the front.
public struct FuzzInput {
    /// What is left.
    public private(set) var bytes: ByteBuffer

    /// Takes over what libFuzzer hands its target.
    public init(_ start: UnsafeRawPointer?, _ count: Int) {
        self.bytes = ByteBuffer(bytes: UnsafeRawBufferPointer(start: start, count: count))
    }

    /// Whether nothing is left.
    public var isEmpty: Bool { self.bytes.readableBytes == 0 }

    /// The next byte; 0 at the end.
    public mutating func byte() -> UInt8 { self.bytes.readInteger() ?? 0 }

    /// So many bytes, or those that are left.
    public mutating func take(_ count: Int) -> ByteBuffer {
        self.bytes.readSlice(length: min(count, self.bytes.readableBytes)) ?? ByteBuffer()
    }
}

extension ByteBuffer {
    /// The bytes in pieces of this size; the last may be shorter.
    public func pieces(of size: Int) -> [ByteBuffer] {
        var rest = self
        var pieces: [ByteBuffer] = []
        while rest.readableBytes > 0, let piece = rest.readSlice(length: min(size, rest.readableBytes)) {
            pieces.append(piece)
        }
        return pieces
    }
}
