import NIOCore
import OTA
import Testing

@Suite struct ChecksumTests {
    /// From the table of the wire document, computed there by another implementation, and values that begin or end with a
    /// zero byte, computed by a third.
    static let vectors: [(input: [UInt8], algorithm: ChecksumAlgorithm, text: String)] = [
        ([], .crc32, "00000000"),
        ([], .murmur3x32, "00000000"),
        ([], .murmur3x128, "00000000000000000000000000000000"),
        (Array("hello".utf8), .crc32, "86a61036"),
        (Array("hello".utf8), .murmur3x32, "47fa8b24"),
        (Array("hello".utf8), .murmur3x128, "029bbd41b3a7d8cb191dae486a901e5b"),
        (Array("123456789".utf8), .crc32, "2639f4cb"),
        (Array("123456789".utf8), .murmur3x32, "82f3feb4"),
        (Array("123456789".utf8), .murmur3x128, "a4cc66db5e64843c05a11e3ac7faf899"),
        (Array(0...255), .crc32, "738c0529"),
        (Array(0...255), .murmur3x32, "560e0ae4"),
        (Array(0...255), .murmur3x128, "b9126fdc13c3991c1ecc34ab7f07d670"),
        (Array("firmware 372".utf8), .crc32, "001a108a"),
        (Array("firmware 63".utf8), .crc32, "53aca300"),
        (Array("firmware 57".utf8), .murmur3x32, "00e9665f"),
        (Array("firmware 272".utf8), .murmur3x32, "757a1700"),
        (Array("firmware 95".utf8), .murmur3x128, "0021cc2c4a5e266d47bf130d3d46c39a"),
        (Array("firmware 132".utf8), .murmur3x128, "35ed94126bb96100ce23f190fa52c251"),
        // RFC 1321 §A.5, FIPS 180-4.
        ([], .md5, "d41d8cd98f00b204e9800998ecf8427e"),
        (Array("abc".utf8), .md5, "900150983cd24fb0d6963f7d28e17f72"),
        (Array("abc".utf8), .sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Array("abc".utf8), .sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        ),
        (
            Array("abc".utf8), .sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (Self.long, .crc32, "bf1cb0cd"),
        (Self.long, .murmur3x32, "f533b3fe"),
        (Self.long, .murmur3x128, "a141acacac8560e529dc8bf6f925c552"),
        (Self.long, .md5, "e08fa261bdb503671aee7116fde5741f"),
    ]

    static let long = (0..<100_003).map { UInt8(truncatingIfNeeded: $0 * 131 + 7) }

    @Test("a checksum is the known one, of full width", arguments: vectors)
    func known(vector: (input: [UInt8], algorithm: ChecksumAlgorithm, text: String)) {
        #expect(Checksum.hexadecimal(of: ByteBuffer(bytes: vector.input), vector.algorithm) == vector.text)
    }

    @Test("how the bytes are cut makes no difference", arguments: ChecksumAlgorithm.allCases)
    func pieces(algorithm: ChecksumAlgorithm) {
        let bytes = Array(Self.long.prefix(1000))
        let whole = Checksum.hexadecimal(of: ByteBuffer(bytes: bytes), algorithm)
        for size in [1, 3, 4, 5, 7, 8, 15, 16, 17, 64, 999] {
            var checksum = Checksum(algorithm)
            var set = ChecksumSet()
            for start in stride(from: 0, to: bytes.count, by: size) {
                let piece = ByteBuffer(bytes: bytes[start..<min(start + size, bytes.count)])
                checksum.update(piece)
                set.update(piece)
            }
            #expect(checksum.hexadecimal == whole, "pieces of \(size)")
            #expect(set[algorithm] == whole, "pieces of \(size)")
        }
    }

    @Test("reading a checksum does not end it, and a copy goes on by itself")
    func copies() {
        var first = Checksum(.sha256)
        first.update(ByteBuffer(string: "a"))
        _ = first.hexadecimal
        var second = first
        second.update(ByteBuffer(string: "bc"))
        first.update(ByteBuffer(string: "bc"))
        #expect(first.hexadecimal == second.hexadecimal)
        #expect(first.hexadecimal.hasPrefix("ba7816bf"))
    }
}
