/// CRC-32 as in zlib and Ethernet (polynomial 0x04C11DB7, reflected), eight bytes at a time.
struct CRC32: StreamingHash {
    private var value: UInt32 = 0xFFFF_FFFF

    /// Eight tables of 256 entries: entry `n` of table `t` is the CRC of the byte `n` followed by `t` zero bytes.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var value = UInt32(byte)
            for _ in 0..<8 { value = value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
            tables[byte] = value
        }
        for table in 1..<8 {
            for byte in 0..<256 {
                let value = tables[(table - 1) * 256 + byte]
                tables[table * 256 + byte] = tables[Int(value & 0xFF)] ^ (value >> 8)
            }
        }
        return tables
    }()

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var value = self.value
        Self.tables.withUnsafeBufferPointer { tables in
            var offset = 0
            while offset + 8 <= bytes.count {
                let word =
                    UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) ^ UInt64(value)
                let near =
                    tables[0x700 | Int(word & 0xFF)] ^ tables[0x600 | Int((word >> 8) & 0xFF)]
                    ^ tables[0x500 | Int((word >> 16) & 0xFF)] ^ tables[0x400 | Int((word >> 24) & 0xFF)]
                let far =
                    tables[0x300 | Int((word >> 32) & 0xFF)] ^ tables[0x200 | Int((word >> 40) & 0xFF)]
                    ^ tables[0x100 | Int((word >> 48) & 0xFF)] ^ tables[Int(word >> 56)]
                value = near ^ far
                offset += 8
            }
            while offset < bytes.count {
                value = tables[Int((value ^ UInt32(bytes[offset])) & 0xFF)] ^ (value >> 8)
                offset += 1
            }
        }
        self.value = value
    }

    var digest: [UInt8] { (~self.value).littleEndianBytes }
}
