import Crypto
public import NIOCore

/// Computes a checksum of bytes that come piece by piece.
///
/// A value: a copy goes on by itself. Hashing takes long for large pieces, so do it off the event loops.
public struct Checksum: Sendable {
    /// How the checksum is computed.
    public let algorithm: ChecksumAlgorithm
    private var hash: any StreamingHash

    /// Begins a checksum of no bytes.
    public init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        self.hash =
            switch algorithm {
            case .md5: CryptoHash<Insecure.MD5>()
            case .sha256: CryptoHash<SHA256>()
            case .sha384: CryptoHash<SHA384>()
            case .sha512: CryptoHash<SHA512>()
            case .crc32: CRC32()
            case .murmur3x32: Murmur3x32()
            case .murmur3x128: Murmur3x128()
            }
    }

    /// Appends bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) { self.hash.update(bytes) }

    /// Appends the readable bytes of a buffer.
    public mutating func update(_ buffer: ByteBuffer) {
        buffer.withUnsafeReadableBytes { self.hash.update($0) }
    }

    /// The checksum of the bytes so far, as devices get it: lower-case hexadecimal, always of full width.
    public var hexadecimal: String {
        var text: [UInt8] = []
        for byte in self.hash.digest {
            text.append(Self.digits[Int(byte >> 4)])
            text.append(Self.digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The checksum of the readable bytes of a buffer.
    public static func hexadecimal(of buffer: ByteBuffer, _ algorithm: ChecksumAlgorithm) -> String {
        var checksum = Checksum(algorithm)
        checksum.update(buffer)
        return checksum.hexadecimal
    }

    private static let digits = Array("0123456789abcdef".utf8)
}

/// Computes the checksums of all algorithms in one pass.
public struct ChecksumSet: Sendable {
    private var checksums = ChecksumAlgorithm.allCases.map(Checksum.init)

    /// Begins the checksums of no bytes.
    public init() {}

    /// Appends bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        // In pieces that stay in the cache of the processor for all algorithms.
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.pieceSize))
            for index in self.checksums.indices { self.checksums[index].update(piece) }
            rest = rest.dropFirst(Self.pieceSize)
        }
    }

    /// Appends the readable bytes of a buffer.
    public mutating func update(_ buffer: ByteBuffer) {
        buffer.withUnsafeReadableBytes { self.update($0) }
    }

    /// The checksum of one algorithm, in lower-case hexadecimal.
    public subscript(algorithm: ChecksumAlgorithm) -> String {
        for checksum in self.checksums where checksum.algorithm == algorithm { return checksum.hexadecimal }
        return ""
    }

    private static let pieceSize = 32 * 1024
}

/// A hash function in the middle of its work.
protocol StreamingHash: Sendable {
    /// Appends bytes.
    mutating func update(_ bytes: UnsafeRawBufferPointer)
    /// The hash of the bytes so far, in the order in which it is written.
    var digest: [UInt8] { get }
}

private struct CryptoHash<Function: HashFunction & Sendable>: StreamingHash {
    private var function = Function()

    mutating func update(_ bytes: UnsafeRawBufferPointer) { self.function.update(bufferPointer: bytes) }
    var digest: [UInt8] { Array(self.function.finalize()) }
}

extension FixedWidthInteger {
    /// The bytes of the number, least significant first.
    var littleEndianBytes: [UInt8] { withUnsafeBytes(of: self.littleEndian) { Array($0) } }
}
