import NodeKit

/// Percent-encoding of targets and headers (RFC 3986 §2.1).
enum PercentCoding {
    /// The text that the bytes stand for.
    ///
    /// - Parameters:
    ///   - bytes: A part of a path or query.
    ///   - plusIsSpace: Whether `+` means a space, as it does in the query that forms and most clients write.
    ///   - field: What the part is called.
    /// - Returns: The text.
    /// - Throws: ``Rejection/badRequest(_:)`` for an escape that is cut off, is not hexadecimal, or gives no UTF-8 or U+0000.
    static func decode(_ bytes: HeadBytes, plusIsSpace: Bool, of field: String) throws(Rejection) -> String {
        let needsWork = bytes.contains { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "+") || $0 >= 0x80 }
        if !needsWork { return String(decoding: bytes, as: UTF8.self) }
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            switch bytes[index] {
            case UInt8(ascii: "%"):
                guard bytes.count - index > 2, let high = Self.digit(bytes[index + 1]),
                    let low = Self.digit(bytes[index + 2])
                else { throw .badRequest("'%' must be followed by two hexadecimal digits") }
                decoded.append(high << 4 | low)
                index += 3
            case UInt8(ascii: "+") where plusIsSpace:
                decoded.append(UInt8(ascii: " "))
                index += 1
            case let byte:
                decoded.append(byte)
                index += 1
            }
        }
        guard let text = String(validating: decoded, as: UTF8.self) else {
            throw .badRequest("an escaped text that is not UTF-8")
        }
        guard !decoded.contains(0) else { throw .badRequest(NullCharacter(in: field).description) }
        return text
    }

    /// The text with every byte escaped that RFC 8187 does not let stand in a parameter's value.
    static func encode(_ text: String) -> [UInt8] {
        var encoded: [UInt8] = []
        for byte in text.utf8 {
            if Self.isAttributeCharacter(byte) {
                encoded.append(byte)
            } else {
                encoded += [UInt8(ascii: "%"), Self.hexadecimal(byte >> 4), Self.hexadecimal(byte & 0xF)]
            }
        }
        return encoded
    }

    /// `attr-char` of RFC 8187 §3.2.1, all of which a token of RFC 9110 §5.6.2 may have too.
    static func isAttributeCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "&"),
            UInt8(ascii: "+"), UInt8(ascii: "^"), UInt8(ascii: "`"), UInt8(ascii: "|"):
            true
        default: false
        }
    }

    /// The value of a hexadecimal digit; `nil` for any other byte.
    static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func hexadecimal(_ nibble: UInt8) -> UInt8 {
        nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "A") + nibble - 10
    }
}
