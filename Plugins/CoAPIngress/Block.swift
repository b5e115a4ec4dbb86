import NIOCore

/// The value of a Block1 or Block2 option (RFC 7959 §2.2).
struct Block: Hashable, Sendable {
    /// The greatest size exponent; 7 is reserved.
    static let exponentMax: UInt8 = 6
    /// The greatest block number: 20 bits.
    static let numberMax: UInt32 = 0xF_FFFF

    /// Zero-based number of the block, 0…``numberMax``.
    var number: UInt32
    /// Whether blocks follow.
    var more: Bool
    /// The size exponent (SZX), 0…``exponentMax``: a block has 2^(SZX + 4) bytes.
    var exponent: UInt8

    init(number: UInt32, more: Bool, exponent: UInt8) {
        self.number = number
        self.more = more
        self.exponent = exponent
    }

    /// Reads the value of an option; `nil` if it is too long or its size exponent is the reserved 7, both of which are
    /// answered with 4.00 (RFC 7959 §2.2).
    init?(_ option: CoAPOption) {
        guard option.length <= 3, let value = option.uint else { return nil }
        self.init(number: value >> 4, more: value & 8 != 0, exponent: UInt8(value & 7))
        guard self.exponent <= Self.exponentMax else { return nil }
    }

    /// Bytes of a full block: 16, 32 … 1024.
    var size: Int { 1 << (Int(self.exponent) + 4) }
    /// Where the block begins, in bytes.
    var offset: Int64 { Int64(self.number) << (Int64(self.exponent) + 4) }

    /// The value as an option.
    func option(_ number: CoAPOption.Number) -> CoAPOption {
        CoAPOption(number, uint: self.number << 4 | (self.more ? 8 : 0) | UInt32(self.exponent))
    }

    /// The size exponent of blocks with this many bytes; `nil` if no block has so many.
    static func exponent(ofSize size: Int) -> UInt8? {
        guard size.nonzeroBitCount == 1, case let exponent = size.trailingZeroBitCount - 4,
            (0...Int(Self.exponentMax)).contains(exponent)
        else { return nil }
        return UInt8(exponent)
    }
}

/// Which bytes of a body answer a request, and with which Block2 option (RFC 7959 §2.4).
struct BlockSlice: Hashable, Sendable {
    /// Why there is no such slice.
    enum Fault: Error, Hashable, Sendable {
        /// The block begins at the end of the body or past it.
        case pastEnd
        /// The body has more blocks of this size than can be numbered.
        case tooManyBlocks
    }

    /// The bytes, as zero-based offsets within the body.
    var range: Range<Int64>
    /// The option to answer with; `nil` if the whole body fits and no block was asked for.
    var block: Block?

    /// Cuts a body.
    ///
    /// A client may ask for blocks that are larger than we serve; the same bytes then have another number.
    ///
    /// - Parameters:
    ///   - bodySize: How many bytes the body has.
    ///   - requested: The Block2 option of the request, if it has one.
    ///   - exponentMax: The size exponent of the largest block that we serve.
    /// - Throws: ``Fault`` if there is no such block.
    init(of bodySize: Int64, requested: Block?, exponentMax: UInt8) throws(Fault) {
        let offset = requested?.offset ?? 0
        let exponent = min(requested?.exponent ?? exponentMax, exponentMax)
        let size = Int64(1) << (Int64(exponent) + 4)
        guard bodySize <= (Int64(Block.numberMax) + 1) * size else { throw .tooManyBlocks }
        guard offset == 0 || offset < bodySize else { throw .pastEnd }
        let end = min(offset + size, bodySize)
        self.range = offset..<end
        guard requested != nil || bodySize > size else { return }
        self.block = Block(number: UInt32(offset / size), more: end < bodySize, exponent: exponent)
    }
}
