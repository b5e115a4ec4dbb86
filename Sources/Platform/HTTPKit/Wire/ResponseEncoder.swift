import NIOCore
import NodeKit

/// Writes the heads of responses as bytes.
///
/// An encoder of our own instead of NIO's: a head is written straight into one buffer, without a dictionary of fields in
/// between, and a small answer is one write. What one chunk of a package says about it, the next one says again, so that is kept.
struct ResponseEncoder {
    /// What `100 Continue` looks like (RFC 9110 §15.2.1).
    static let proceed: StaticString = "HTTP/1.1 100 Continue\r\n\r\n"
    /// What a connection gets that is one too many.
    static let busy: StaticString = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    /// What a connection gets whose address opens too many.
    static let tooFrequent: StaticString =
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"

    private var date = DateField()
    private var description = Description()

    /// The fields that are the same for all chunks of a package, and what they were made of.
    private struct Description {
        var entityTag: String?
        var contentType: String?
        var fileName: String?
        var fields = ByteBuffer()

        /// The fields of a reply, each with its line end.
        mutating func fields(of reply: ContentReply) -> ByteBuffer {
            if self.fields.readableBytes > 0, self.entityTag == reply.entityTag,
                self.contentType.exact == reply.contentType.exact, self.fileName.exact == reply.fileName.exact
            {
                return self.fields
            }
            var fields = ByteBuffer()
            ResponseEncoder.write(entityTagOf: reply, into: &fields)
            fields.writeStaticString("Content-Type: ")
            fields.writeString(ResponseEncoder.mediaType(reply))
            fields.writeStaticString("\r\n")
            ResponseEncoder.write(fileNameOf: reply, into: &fields)
            self = Description(
                entityTag: reply.entityTag,
                contentType: reply.contentType,
                fileName: reply.fileName,
                fields: fields
            )
            return fields
        }
    }

    /// Appends the head, and the body unless it is bytes of a package.
    ///
    /// - Parameters:
    ///   - response: What to write.
    ///   - isHead: Whether the body is left out.
    ///   - connection: What `Connection` says, if anything.
    ///   - timestamp: The present time, for `Date`.
    ///   - buffer: Where to write.
    mutating func write(
        _ response: Response,
        isHead: Bool,
        connection: StaticString?,
        at timestamp: Timestamp,
        into buffer: inout ByteBuffer
    ) {
        Self.write(statusLineOf: response.status, into: &buffer)
        buffer.writeImmutableBuffer(self.date.bytes(at: timestamp))
        // RFC 9110 §8.6: 304 tells no length here, as its body would be another one, and 204 never does.
        if response.status != 304, response.status != 204 {
            buffer.writeStaticString("Content-Length: ")
            Self.write(response.bodyLength, into: &buffer)
            buffer.writeStaticString("\r\n")
        }
        switch response.body {
        case .none: break
        case .json: buffer.writeStaticString("Content-Type: application/json\r\n")
        case .text: buffer.writeStaticString("Content-Type: text/plain;charset=UTF-8\r\n")
        case .content(let reply, let range):
            self.write(reply, range, of: response, into: &buffer)
        case .parts(let reply, let multipart):
            Self.write(entityTagOf: reply, into: &buffer)
            buffer.writeString("Content-Type: multipart/byteranges; boundary=\(multipart.boundary)\r\n")
            Self.write(fileNameOf: reply, into: &buffer)
            buffer.writeStaticString("Accept-Ranges: bytes\r\n")
        }
        if response.status == 416, let size = response.completeSize {
            buffer.writeStaticString("Content-Range: bytes */")
            Self.write(size, into: &buffer)
            buffer.writeStaticString("\r\n")
        }
        // RFC 6585 §4: the limits are per second.
        if response.status == 429 { buffer.writeStaticString("Retry-After: 1\r\n") }
        if let allow = response.allow { buffer.writeString("Allow: \(allow)\r\n") }
        if let connection { buffer.writeStaticString(connection) }
        buffer.writeStaticString("\r\n")
        guard !isHead else { return }
        switch response.body {
        case .json(let bytes): buffer.writeImmutableBuffer(bytes)
        case .text(let text): buffer.writeStaticString(text)
        case .none, .content, .parts: break
        }
    }

    /// The strong entity tag of a package's bytes, if they have a fit one (RFC 9110 §8.8.3).
    static func entityTag(_ reply: ContentReply) -> String? {
        Self.opaqueTag(reply).map { "\"\($0)\"" }
    }

    /// The entity tag without its quotes.
    ///
    /// None with a comma, which clients and proxies are not sure to tell from that of a list.
    private static func opaqueTag(_ reply: ContentReply) -> String? {
        guard let tag = reply.entityTag, !tag.isEmpty,
            tag.utf8.allSatisfy({ $0 == 0x21 || (0x23...0x7E).contains($0) && $0 != UInt8(ascii: ",") })
        else { return nil }
        return tag
    }

    /// The media type of a package's bytes, fit for a field.
    static func mediaType(_ reply: ContentReply) -> String {
        guard let type = reply.contentType, !type.isEmpty, type.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            return "application/octet-stream"
        }
        return type
    }

    private static func write(entityTagOf reply: ContentReply, into buffer: inout ByteBuffer) {
        guard let tag = Self.opaqueTag(reply) else { return }
        buffer.writeStaticString("ETag: \"")
        buffer.writeString(tag)
        buffer.writeStaticString("\"\r\n")
    }

    private static func write(fileNameOf reply: ContentReply, into buffer: inout ByteBuffer) {
        if let name = reply.fileName, !name.isEmpty { Self.write(fileName: name, into: &buffer) }
    }

    private mutating func write(
        _ reply: ContentReply,
        _ range: Range<Int64>,
        of response: Response,
        into buffer: inout ByteBuffer
    ) {
        guard response.status != 304 else { return Self.write(entityTagOf: reply, into: &buffer) }
        buffer.writeImmutableBuffer(self.description.fields(of: reply))
        if let index = reply.chunkIndex {
            buffer.writeStaticString("X-Chunk-Index: ")
            Self.write(index, into: &buffer)
            buffer.writeStaticString("\r\n")
        }
        if let count = reply.chunksCount {
            buffer.writeStaticString("X-Chunks-Count: ")
            Self.write(count, into: &buffer)
            buffer.writeStaticString("\r\n")
        }
        if reply.chunkIndex == nil { buffer.writeStaticString("Accept-Ranges: bytes\r\n") }
        if response.status == 206, let size = response.completeSize {
            let base = reply.range.lowerBound
            buffer.writeString(
                "Content-Range: bytes \(range.lowerBound - base)-\(range.upperBound - base - 1)/\(size)\r\n"
            )
        }
    }

    /// Writes a file name that an uploader chose so that it stays inside its field.
    ///
    /// A plain name stands there as ThingsBoard writes it. Any other is quoted, with what a quoted text cannot hold
    /// replaced, and given in full as RFC 6266 §4.3 says. `x-filename` has any name of printable ASCII as it is, as in
    /// ThingsBoard, and any other percent-encoded.
    private static func write(fileName name: String, into buffer: inout ByteBuffer) {
        if name.utf8.allSatisfy(PercentCoding.isAttributeCharacter) {
            buffer.writeStaticString("Content-Disposition: attachment;filename=")
            buffer.writeString(name)
            buffer.writeStaticString("\r\nx-filename: ")
            buffer.writeString(name)
            buffer.writeStaticString("\r\n")
            return
        }
        let encoded = PercentCoding.encode(name)
        // RFC 6266 appendix D: some clients take '%' for an escape, and a backslash for a part of a path.
        let plain = name.unicodeScalars.map { scalar in
            Self.isPrintable(scalar) && !["\"", "\\", "%"].contains(scalar)
                ? UInt8(truncatingIfNeeded: scalar.value) : UInt8(ascii: "_")
        }
        buffer.writeStaticString("Content-Disposition: attachment;filename=\"")
        buffer.writeBytes(plain)
        buffer.writeStaticString("\";filename*=UTF-8''")
        buffer.writeBytes(encoded)
        buffer.writeStaticString("\r\nx-filename: ")
        if name.unicodeScalars.allSatisfy(Self.isPrintable) {
            buffer.writeString(name)
        } else {
            buffer.writeBytes(encoded)
        }
        buffer.writeStaticString("\r\n")
    }

    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool { (0x20...0x7E).contains(scalar.value) }

    /// Writes a number that is not negative in digits, without a text in between.
    private static func write(_ number: Int64, into buffer: inout ByteBuffer) {
        // The greatest has 19.
        withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { digits in
            var start = digits.endIndex
            var rest = max(0, number)
            repeat {
                start -= 1
                digits[start] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10)
                rest /= 10
            } while rest > 0
            buffer.writeBytes(UnsafeRawBufferPointer(rebasing: digits[start...]))
        }
    }

    private static func write(statusLineOf status: Int, into buffer: inout ByteBuffer) {
        if let line = Self.statusLine(status) {
            buffer.writeStaticString(line)
        } else {
            buffer.writeString("HTTP/1.1 \(status) \r\n")
        }
    }

    /// The first line of an answer, with the phrase of RFC 9110 §15; `nil` for a status that has none here.
    private static func statusLine(_ status: Int) -> StaticString? {
        switch status {
        case 200: "HTTP/1.1 200 OK\r\n"
        case 201: "HTTP/1.1 201 Created\r\n"
        case 202: "HTTP/1.1 202 Accepted\r\n"
        case 204: "HTTP/1.1 204 No Content\r\n"
        case 206: "HTTP/1.1 206 Partial Content\r\n"
        case 304: "HTTP/1.1 304 Not Modified\r\n"
        case 400: "HTTP/1.1 400 Bad Request\r\n"
        case 401: "HTTP/1.1 401 Unauthorized\r\n"
        case 403: "HTTP/1.1 403 Forbidden\r\n"
        case 404: "HTTP/1.1 404 Not Found\r\n"
        case 405: "HTTP/1.1 405 Method Not Allowed\r\n"
        case 408: "HTTP/1.1 408 Request Timeout\r\n"
        case 409: "HTTP/1.1 409 Conflict\r\n"
        case 412: "HTTP/1.1 412 Precondition Failed\r\n"
        case 413: "HTTP/1.1 413 Content Too Large\r\n"
        case 415: "HTTP/1.1 415 Unsupported Media Type\r\n"
        case 416: "HTTP/1.1 416 Range Not Satisfiable\r\n"
        case 417: "HTTP/1.1 417 Expectation Failed\r\n"
        case 429: "HTTP/1.1 429 Too Many Requests\r\n"
        case 431: "HTTP/1.1 431 Request Header Fields Too Large\r\n"
        case 501: "HTTP/1.1 501 Not Implemented\r\n"
        case 503: "HTTP/1.1 503 Service Unavailable\r\n"
        case 504: "HTTP/1.1 504 Gateway Timeout\r\n"
        case 505: "HTTP/1.1 505 HTTP Version Not Supported\r\n"
        case 507: "HTTP/1.1 507 Insufficient Storage\r\n"
        case 200..<500, 501...599: nil
        default: "HTTP/1.1 500 Internal Server Error\r\n"
        }
    }
}
