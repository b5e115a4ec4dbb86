public import FoundationEssentials

extension UUID {
    /// Makes an identifier of 122 random bits: version 4 of RFC 9562 §5.4.
    ///
    /// The one way to make an identifier. The system's generator is `getrandom(2)` on Linux, which needs no file descriptor.
    /// Foundation's initializer without arguments opens a device file, and returns nothing but zeros if it cannot.
    public static func random() -> UUID {
        var random = SystemRandomNumberGenerator()
        // RFC 9562 §4.1 and §4.2: four bits are the version, two the variant.
        let high = (random.next() as UInt64) & 0xFFFF_FFFF_FFFF_0FFF | 0x4000
        let low = (random.next() as UInt64) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return UUID(uuid: unsafeBitCast((high.bigEndian, low.bigEndian), to: uuid_t.self))
    }
}
