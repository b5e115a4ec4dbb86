public import NIOCore

/// Why a text is not JSON, and where.
public struct JSONSyntaxError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong.
    public let reason: String
    /// Zero-based offset of the byte where it is wrong.
    public let offset: Int
    /// The name or string that has U+0000 in it, if that is what is wrong.
    ///
    /// Its field is written as `values.names[0]`; that of the text itself is empty.
    public internal(set) var null: NullCharacter?

    /// What completes a sentence that begins with "the text is".
    public var description: String { "not valid JSON at byte \(self.offset): \(self.reason)" }
}

extension JSONSyntaxError {
    /// What is wrong is in a member with this name, or in an element of an array.
    fileprivate consuming func within(_ outer: String) -> JSONSyntaxError {
        self.null = self.null?.within(outer)
        return self
    }
}

extension JSON {
    /// The deepest nesting of arrays and objects that ``init(parsing:depthMax:)-(ByteBuffer,_)`` follows.
    public static let depthMax = 32

    /// Reads one JSON text (RFC 8259) that takes up all readable bytes.
    ///
    /// - Parameters:
    ///   - buffer: The bytes.
    ///   - depthMax: The deepest nesting of arrays and objects.
    ///   - allowsNull: Whether names and strings may have U+0000 in them, for text that no peer sent.
    /// - Throws: ``JSONSyntaxError`` if the bytes are not JSON, are not UTF-8, nest deeper than `depthMax`, or have U+0000 in a
    ///   name or string.
    public init(
        parsing buffer: ByteBuffer,
        depthMax: Int = Self.depthMax,
        allowsNull: Bool = false
    ) throws(JSONSyntaxError) {
        let result = buffer.withUnsafeReadableBytes { bytes in
            Result { () throws(JSONSyntaxError) in
                var reader = JSONReader(bytes: bytes, depthMax: depthMax, allowsNull: allowsNull)
                return try reader.document()
            }
        }
        self = try result.get()
    }

    /// Reads one JSON text (RFC 8259).
    ///
    /// - Throws: ``JSONSyntaxError`` as for bytes.
    public init(
        parsing text: String,
        depthMax: Int = Self.depthMax,
        allowsNull: Bool = false
    ) throws(JSONSyntaxError) {
        try self.init(parsing: ByteBuffer(string: text), depthMax: depthMax, allowsNull: allowsNull)
    }

    /// The value as JSON text without white space, in bytes.
    public var bytes: ByteBuffer {
        var bytes: [UInt8] = []
        self.write(into: &bytes)
        return ByteBuffer(bytes: bytes)
    }

    /// Appends the value as JSON text without white space.
    public func write(into bytes: inout [UInt8]) {
        switch self {
        case .null: bytes.append(contentsOf: "null".utf8)
        case .bool(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value): bytes.append(contentsOf: String(value).utf8)
        case .double(let value): bytes.append(contentsOf: (value.isFinite ? "\(value)" : "null").utf8)
        case .string(let value): Self.write(value, into: &bytes)
        case .array(let elements):
            bytes.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                element.write(into: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let object):
            bytes.append(UInt8(ascii: "{"))
            for (index, member) in object.members.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                Self.write(member.name, into: &bytes)
                bytes.append(UInt8(ascii: ":"))
                member.value.write(into: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    private static func write(_ text: String, into bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): bytes.append(contentsOf: "\\\"".utf8)
            case UInt8(ascii: "\\"): bytes.append(contentsOf: "\\\\".utf8)
            case UInt8(ascii: "\n"): bytes.append(contentsOf: "\\n".utf8)
            case UInt8(ascii: "\r"): bytes.append(contentsOf: "\\r".utf8)
            case UInt8(ascii: "\t"): bytes.append(contentsOf: "\\t".utf8)
            case 0..<0x20:
                let digits = Array("0123456789abcdef".utf8)
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(digits[Int(byte >> 4)])
                bytes.append(digits[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

/// Reads JSON by recursive descent, with a ceiling on depth so that hostile nesting cannot exhaust the stack.
private struct JSONReader {
    let bytes: UnsafeRawBufferPointer
    let depthMax: Int
    let allowsNull: Bool
    var offset = 0
    var depth = 0

    init(bytes: UnsafeRawBufferPointer, depthMax: Int, allowsNull: Bool) {
        self.bytes = bytes
        self.depthMax = depthMax
        self.allowsNull = allowsNull
    }

    mutating func document() throws(JSONSyntaxError) -> JSON {
        let value = try self.value()
        self.skipWhiteSpace()
        guard self.offset == self.bytes.count else { throw self.fault("text after the value") }
        return value
    }

    private func fault(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(reason: reason, offset: self.offset) }

    private var next: UInt8? { self.offset < self.bytes.count ? self.bytes[self.offset] : nil }

    private mutating func skipWhiteSpace() {
        while let byte = self.next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { self.offset += 1 }
    }

    private mutating func skip(_ byte: Character) -> Bool {
        guard self.next == byte.asciiValue else { return false }
        self.offset += 1
        return true
    }

    private mutating func value() throws(JSONSyntaxError) -> JSON {
        self.skipWhiteSpace()
        guard let next = self.next else { throw self.fault("the text ends where a value should be") }
        switch next {
        case UInt8(ascii: "{"): return try self.nested { (reader) throws(JSONSyntaxError) in try reader.object() }
        case UInt8(ascii: "["): return try self.nested { (reader) throws(JSONSyntaxError) in try reader.array() }
        case UInt8(ascii: "\""): return .string(try self.text())
        case UInt8(ascii: "t"): return try self.word("true", .bool(true))
        case UInt8(ascii: "f"): return try self.word("false", .bool(false))
        case UInt8(ascii: "n"): return try self.word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try self.number()
        default: throw self.fault("a value should be here")
        }
    }

    private mutating func nested(
        _ read: (inout Self) throws(JSONSyntaxError) -> JSON
    ) throws(JSONSyntaxError) -> JSON {
        guard self.depth < self.depthMax else { throw self.fault("nested deeper than \(self.depthMax) levels") }
        self.depth += 1
        self.offset += 1
        let value = try read(&self)
        self.depth -= 1
        return value
    }

    private mutating func object() throws(JSONSyntaxError) -> JSON {
        var object = JSON.Object()
        self.skipWhiteSpace()
        if self.skip("}") { return .object(object) }
        while true {
            self.skipWhiteSpace()
            guard self.next == UInt8(ascii: "\"") else { throw self.fault("a member name in quotes should be here") }
            let name = try self.text(isName: true)
            self.skipWhiteSpace()
            guard self.skip(":") else { throw self.fault("':' should be here") }
            self.skipWhiteSpace()
            let start = self.offset
            do throws(JSONSyntaxError) {
                let value = try self.value()
                if case .double = value, let spelling = self.spelling(from: start) {
                    object.set(name, to: value, spelled: spelling)
                } else {
                    object[name] = value
                }
            } catch {
                throw error.within(name)
            }
            self.skipWhiteSpace()
            if self.skip("}") { return .object(object) }
            guard self.skip(",") else { throw self.fault("',' or '}' should be here") }
        }
    }

    private mutating func array() throws(JSONSyntaxError) -> JSON {
        var elements: [JSON] = []
        self.skipWhiteSpace()
        if self.skip("]") { return .array(elements) }
        while true {
            do throws(JSONSyntaxError) {
                elements.append(try self.value())
            } catch {
                throw error.within("[\(elements.count)]")
            }
            self.skipWhiteSpace()
            if self.skip("]") { return .array(elements) }
            guard self.skip(",") else { throw self.fault("',' or ']' should be here") }
        }
    }

    private mutating func word(_ word: String, _ value: JSON) throws(JSONSyntaxError) -> JSON {
        guard self.bytes[self.offset...].starts(with: word.utf8) else { throw self.fault("'\(word)' should be here") }
        self.offset += word.utf8.count
        return value
    }

    private mutating func number() throws(JSONSyntaxError) -> JSON {
        let start = self.offset
        var isInteger = true
        _ = self.skip("-")
        if !self.skip("0") { try self.digits() }
        if self.skip(".") {
            isInteger = false
            try self.digits()
        }
        if self.skip("e") || self.skip("E") {
            isInteger = false
            if !self.skip("+") { _ = self.skip("-") }
            try self.digits()
        }
        let text = String(decoding: self.bytes[start..<self.offset], as: UTF8.self)
        if isInteger { return Int64(text).map(JSON.integer) ?? .string(text) }
        guard let value = Double(text), value.isFinite else {
            self.offset = start
            throw self.fault("a number out of range")
        }
        return .double(value)
    }

    /// The characters of the decimal that began here and was just read, if it is likely to be written otherwise as
    /// ``JSON/text``: it has an exponent, a zero at the end, or very many digits.
    private func spelling(from start: Int) -> String? {
        let number = self.bytes[start..<self.offset]
        let isPlain =
            number.count <= 15 && (number.last != UInt8(ascii: "0") || number.dropLast().last == UInt8(ascii: "."))
            && !number.starts(with: "0.000".utf8) && !number.starts(with: "-0.000".utf8)
            && !number.contains { $0 == UInt8(ascii: "e") || $0 == UInt8(ascii: "E") }
        return isPlain ? nil : String(decoding: number, as: UTF8.self)
    }

    private mutating func digits() throws(JSONSyntaxError) {
        let start = self.offset
        while let byte = self.next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { self.offset += 1 }
        guard self.offset > start else { throw self.fault("a digit should be here") }
    }

    /// Reads a string; the next byte is its opening quote.
    private mutating func text(isName: Bool = false) throws(JSONSyntaxError) -> String {
        self.offset += 1
        let start = self.offset
        var hasNull = false
        while let byte = self.next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
            self.offset += 1
        }
        if self.next == UInt8(ascii: "\"") {
            let text = try self.checked(self.bytes[start..<self.offset], from: start)
            self.offset += 1
            return text
        }
        var unescaped = Array(self.bytes[start..<self.offset])
        while let byte = self.next {
            switch byte {
            case UInt8(ascii: "\""):
                let text = try self.checked(unescaped[...], from: start)
                if hasNull, !self.allowsNull {
                    var fault = JSONSyntaxError(reason: "the character U+0000 in a string", offset: start)
                    fault.null = NullCharacter(in: isName ? text : "")
                    throw fault
                }
                self.offset += 1
                return text
            case UInt8(ascii: "\\"):
                self.offset += 1
                try self.escape(into: &unescaped)
                hasNull = hasNull || unescaped.last == 0
            case 0 where !self.allowsNull:
                // Without an escape it is not JSON, but a device gets the same answer however it spells U+0000.
                hasNull = true
                unescaped.append(byte)
                self.offset += 1
            case 0..<0x20: throw self.fault("a control character in a string")
            default:
                unescaped.append(byte)
                self.offset += 1
            }
        }
        throw self.fault("the text ends inside a string")
    }

    private func checked(
        _ bytes: some Collection<UInt8>,
        from start: Int
    ) throws(JSONSyntaxError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw JSONSyntaxError(reason: "a string that is not UTF-8", offset: start)
        }
        return text
    }

    private mutating func escape(into bytes: inout [UInt8]) throws(JSONSyntaxError) {
        guard let letter = self.next else { throw self.fault("the text ends inside a string") }
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): bytes.append(letter)
        case UInt8(ascii: "b"): bytes.append(0x08)
        case UInt8(ascii: "f"): bytes.append(0x0C)
        case UInt8(ascii: "n"): bytes.append(0x0A)
        case UInt8(ascii: "r"): bytes.append(0x0D)
        case UInt8(ascii: "t"): bytes.append(0x09)
        case UInt8(ascii: "u"):
            self.offset += 1
            var code = UInt32(try self.hexadecimal())
            // RFC 8259 §7: characters beyond the basic plane are written as a surrogate pair.
            if (0xD800..<0xDC00).contains(code), self.bytes[self.offset...].starts(with: [0x5C, 0x75]) {
                self.offset += 2
                let low = UInt32(try self.hexadecimal())
                guard (0xDC00..<0xE000).contains(low) else { throw self.fault("half a surrogate pair") }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw self.fault("half a surrogate pair") }
            bytes.append(contentsOf: String(Character(scalar)).utf8)
            return
        default: throw self.fault("an unknown escape")
        }
        self.offset += 1
    }

    private mutating func hexadecimal() throws(JSONSyntaxError) -> UInt16 {
        guard self.offset + 4 <= self.bytes.count else { throw self.fault("the text ends inside an escape") }
        var value: UInt16 = 0
        for _ in 0..<4 {
            guard let digit = Character(Unicode.Scalar(self.bytes[self.offset])).hexDigitValue else {
                throw self.fault("a hexadecimal digit should be here")
            }
            value = value << 4 | UInt16(digit)
            self.offset += 1
        }
        return value
    }
}
