/// MurmurHash3_x86_32 with seed 0.
struct Murmur3x32: StreamingHash {
    private var hash: UInt32 = 0
    private var blocks = Blocks(size: 4)

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var hash = self.hash
        self.blocks.update(bytes) { block in
            hash ^= Self.mixed(UInt32(littleEndian: block.loadUnaligned(as: UInt32.self)))
            hash = (hash << 13 | hash >> 19) &* 5 &+ 0xE654_6B64
        }
        self.hash = hash
    }

    var digest: [UInt8] {
        var hash = self.hash
        var tail: UInt32 = 0
        for (index, byte) in self.blocks.tail.enumerated() { tail |= UInt32(byte) << (8 * UInt32(index)) }
        hash ^= Self.mixed(tail)
        hash ^= UInt32(truncatingIfNeeded: self.blocks.count)
        hash = (hash ^ (hash >> 16)) &* 0x85EB_CA6B
        hash = (hash ^ (hash >> 13)) &* 0xC2B2_AE35
        hash ^= hash >> 16
        return hash.littleEndianBytes
    }

    private static func mixed(_ word: UInt32) -> UInt32 {
        let word = word &* 0xCC9E_2D51
        return (word << 15 | word >> 17) &* 0x1B87_3593
    }
}

/// MurmurHash3_x64_128 with seed 0.
struct Murmur3x128: StreamingHash {
    private var first: UInt64 = 0
    private var second: UInt64 = 0
    private var blocks = Blocks(size: 16)

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var first = self.first
        var second = self.second
        self.blocks.update(bytes) { block in
            first ^= Self.mixedFirst(UInt64(littleEndian: block.loadUnaligned(as: UInt64.self)))
            first = ((first << 27 | first >> 37) &+ second) &* 5 &+ 0x52DC_E729
            second ^= Self.mixedSecond(UInt64(littleEndian: block.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
            second = ((second << 31 | second >> 33) &+ first) &* 5 &+ 0x3849_5AB5
        }
        self.first = first
        self.second = second
    }

    var digest: [UInt8] {
        var low: UInt64 = 0
        var high: UInt64 = 0
        for (index, byte) in self.blocks.tail.enumerated() {
            if index < 8 {
                low |= UInt64(byte) << (8 * UInt64(index))
            } else {
                high |= UInt64(byte) << (8 * UInt64(index - 8))
            }
        }
        var first = self.first ^ Self.mixedFirst(low) ^ self.blocks.count
        var second = self.second ^ Self.mixedSecond(high) ^ self.blocks.count
        first &+= second
        second &+= first
        first = Self.finished(first)
        second = Self.finished(second)
        first &+= second
        second &+= first
        return first.littleEndianBytes + second.littleEndianBytes
    }

    private static func mixedFirst(_ word: UInt64) -> UInt64 {
        let word = word &* 0x87C3_7B91_1142_53D5
        return (word << 31 | word >> 33) &* 0x4CF5_AD43_2745_937F
    }

    private static func mixedSecond(_ word: UInt64) -> UInt64 {
        let word = word &* 0x4CF5_AD43_2745_937F
        return (word << 33 | word >> 31) &* 0x87C3_7B91_1142_53D5
    }

    private static func finished(_ word: UInt64) -> UInt64 {
        var word = (word ^ (word >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        word = (word ^ (word >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return word ^ (word >> 33)
    }
}

/// Cuts bytes that come in pieces of any size into blocks of one size.
private struct Blocks: Sendable {
    let size: Int
    /// How many bytes came in all.
    private(set) var count: UInt64 = 0
    /// The bytes after the last whole block.
    private(set) var tail: [UInt8] = []

    init(size: Int) { self.size = size }

    mutating func update(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
        self.count &+= UInt64(bytes.count)
        var offset = 0
        if !self.tail.isEmpty {
            offset = min(self.size - self.tail.count, bytes.count)
            self.tail.append(contentsOf: bytes[..<offset])
            guard self.tail.count == self.size else { return }
            self.tail.withUnsafeBytes(body)
            self.tail.removeAll(keepingCapacity: true)
        }
        while offset + self.size <= bytes.count {
            body(UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + self.size)]))
            offset += self.size
        }
        self.tail.append(contentsOf: bytes[offset...])
    }
}
