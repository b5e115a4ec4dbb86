import NIOCore

/// The data types of MQTT (MQTT 5 §1.5), read from the rest of one packet and written to the end of a buffer.
extension ByteBuffer {
    /// The largest number that a variable byte integer holds: four bytes of seven bits (MQTT 5 §1.5.5).
    static let variableByteIntegerMax = 268_435_455

    /// The longest string or binary data, in bytes: its length is written in two bytes.
    static let fieldBytesMax = 65_535

    /// Reads a number of fixed size.
    mutating func readNumber<Number: FixedWidthInteger>(_ name: StaticString) throws(PacketError) -> Number {
        guard let number = self.readInteger(as: Number.self) else {
            throw .malformed("the packet ends before its \(name)")
        }
        return number
    }

    /// Reads a variable byte integer; `nil` if the bytes end before it does.
    mutating func readVariableByteInteger() throws(PacketError) -> Int? {
        var value = 0
        for index in 0..<4 {
            guard let byte: UInt8 = self.getInteger(at: self.readerIndex + index) else { return nil }
            value |= Int(byte & 0x7F) << (7 * index)
            guard byte & 0x80 == 0 else { continue }
            // MQTT 5 §1.5.5: the encoded value must use the minimum number of bytes.
            guard index == 0 || byte != 0 else { throw .malformed("a length is written with more bytes than it needs") }
            self.moveReaderIndex(forwardBy: index + 1)
            return value
        }
        throw .malformed("a length takes more than four bytes")
    }

    /// Reads a UTF-8 string with its length before it (MQTT 5 §1.5.4).
    mutating func readText(_ name: StaticString) throws(PacketError) -> String {
        let length = Int(try self.readNumber(name) as UInt16)
        guard length <= self.readableBytes else { throw .malformed("the packet ends before its \(name)") }
        if let text = self.ascii(length) {
            self.moveReaderIndex(forwardBy: length)
            return text
        }
        let hasNull = self.withUnsafeReadableBytes { $0[..<length].contains(0) }
        guard let text = try? self.readUTF8ValidatedString(length: length) else {
            throw .malformed("the \(name) is not UTF-8")
        }
        guard !hasNull else { throw .malformed("the \(name) contains U+0000") }
        return text
    }

    /// The text that nearly all fields are, looked at and copied once; `nil` if a byte is not ASCII or U+0000.
    private func ascii(_ length: Int) -> String? {
        self.withUnsafeReadableBytes { bytes in
            let text = UnsafeRawBufferPointer(rebasing: bytes[..<length])
            // Less one, U+0000 is the largest of all.
            guard text.allSatisfy({ $0 &- 1 < 0x7F }) else { return nil }
            return String(decoding: text, as: UTF8.self)
        }
    }

    /// Reads bytes with their length before them (MQTT 5 §1.5.6).
    mutating func readBinary(_ name: StaticString) throws(PacketError) -> ByteBuffer {
        let length = Int(try self.readNumber(name) as UInt16)
        guard let bytes = self.readSlice(length: length) else { throw .malformed("the packet ends before its \(name)") }
        return bytes
    }

    /// Writes a variable byte integer.
    mutating func writeVariableByteInteger(_ value: Int) {
        precondition(
            (0...Self.variableByteIntegerMax).contains(value),
            "the number does not fit four bytes of seven bits"
        )
        var value = value
        repeat {
            let byte = UInt8(value & 0x7F)
            value >>= 7
            self.writeInteger(value > 0 ? byte | 0x80 : byte)
        } while value > 0
    }

    /// How many bytes a variable byte integer takes.
    static func variableByteIntegerSize(_ value: Int) -> Int {
        value < 128 ? 1 : value < 16_384 ? 2 : value < 2_097_152 ? 3 : 4
    }

    /// Writes a string with its length before it.
    mutating func writeText(_ text: String) {
        precondition(text.utf8.count <= Self.fieldBytesMax, "the string is too long for MQTT")
        self.writeInteger(UInt16(text.utf8.count))
        self.writeString(text)
    }

    /// Writes bytes with their length before them.
    mutating func writeBinary(_ bytes: ByteBuffer) {
        precondition(bytes.readableBytes <= Self.fieldBytesMax, "the bytes are too many for MQTT")
        self.writeInteger(UInt16(bytes.readableBytes))
        self.writeImmutableBuffer(bytes)
    }
}
