public import NIOCore
public import NodeKit
import OTA

/// The numbers of requests.
extension DeviceProtocol {
    /// The greatest identifier of a request, index and size of a chunk: 32 bits, as in ThingsBoard.
    ///
    /// The product of two fits 64 bits.
    public static let numberMax = Int64(Int32.max)

    /// The longest body that can be a size, in bytes.
    static let sizeBytesMax = 256

    /// Reads a number of digits only, at most ``numberMax``; `nil` for anything else.
    @inlinable
    public static func number(_ digits: some Collection<UInt8>) -> Int64? {
        guard !digits.isEmpty else { return nil }
        var value: Int64 = 0
        for byte in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            value = value * 10 + Int64(byte - UInt8(ascii: "0"))
            // Checked at every digit, so the product above cannot overflow.
            guard value <= Int64(Int32.max) else { return nil }
        }
        return value
    }

    /// Reads a number of a request.
    ///
    /// - Parameters:
    ///   - text: The number, digits only.
    ///   - name: What it is, as the device knows it.
    /// - Returns: The number, 0…``numberMax``.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest``.
    public static func number(_ text: String, _ name: String) throws(NodeError) -> Int64 {
        guard let number = Self.number(text.utf8) else { throw Self.notANumber(text, name) }
        return number
    }

    /// A text is not a number of a request; see ``number(_:_:)``.
    public static func notANumber(_ text: String, _ name: String) -> NodeError {
        NodeError(
            .badRequest,
            "'\(name)' must be a whole number from 0 to \(Self.numberMax), not '\(Self.cut(text))'"
        )
    }

    /// Reads a number of a request that is 0 if it is absent or empty.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest``, as ``number(_:_:)``.
    public static func numberIfAny(_ text: String?, _ name: String) throws(NodeError) -> Int64 {
        guard let text, !text.isEmpty else { return 0 }
        return try Self.number(text, name)
    }

    /// A parameter that may be given once is given again.
    public static func repeated(_ name: String) -> NodeError {
        NodeError(.badRequest, "'\(name)' is given more than once")
    }

    /// Reads a body that is the size of a chunk: a decimal integer, one in quotes, or `{"chunkSize":n}`.
    ///
    /// - Parameters:
    ///   - body: The body.
    ///   - max: The largest size that is allowed, in bytes.
    /// - Returns: The size, 0…`max`; `nil` if the body is empty.
    /// - Throws: ``NodeError`` with ``NodeError/Code/tooLarge`` for a size over `max`, and ``NodeError/Code/badRequest``.
    public static func chunkSize(_ body: ByteBuffer, max: Int64) throws(NodeError) -> Int64? {
        if body.readableBytes == 0 { return nil }
        if let size = Self.digits(body) {
            guard size <= max else { throw Self.tooLarge(String(size), max) }
            return size
        }
        let start = body.getSlice(at: body.readerIndex, length: min(body.readableBytes, Self.sizeBytesMax))
        let wrong = Self.notANumber(String(buffer: start ?? body), MessageKey.size)
        guard body.readableBytes <= Self.sizeBytesMax else { throw wrong }
        // Leading zeros are no JSON, but digits all the same.
        let digits = Int64(String(buffer: body)).map(JSON.integer)
        guard let json = digits ?? (try? JSON(parsing: body)) else { throw wrong }
        let size: Int64
        switch json["chunkSize"] ?? json {
        case .integer(let value): size = value
        // An integer beyond 64 bits is a string to the JSON reader: digits that are no number are a number too large.
        case .string(let text):
            guard let value = Int64(text) else {
                guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
                else { throw wrong }
                throw Self.tooLarge(text, max)
            }
            size = value
        default: throw wrong
        }
        guard size >= 0 else { throw wrong }
        guard size <= max else { throw Self.tooLarge(String(size), max) }
        return size
    }

    /// The number that most devices write: digits alone, fewer than could overflow; `nil` if it is anything else.
    private static func digits(_ body: ByteBuffer) -> Int64? {
        guard body.readableBytes <= 18 else { return nil }
        return body.withUnsafeReadableBytes { bytes in
            var value: Int64 = 0
            for byte in bytes {
                guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
                value = value * 10 + Int64(byte - UInt8(ascii: "0"))
            }
            return value
        }
    }

    private static func tooLarge(_ size: String, _ limit: Int64) -> NodeError {
        NodeError(.tooLarge, "a chunk size of \(Self.cut(size)) bytes is over the limit of \(limit); ask for less")
    }

    /// The beginning of a text, counted in Unicode scalars: a character may have any number of combining marks.
    private static func cut(_ text: String) -> String { String(text.unicodeScalars.prefix(32)) }
}
