import NIOCore
import NodeKit
import Testing

@testable import HTTPKit

/// The content of the answers here.
private struct OneByte: Content {
    let size: Int64 = 1

    func read(_ range: Range<Int64>) async throws -> ByteBuffer { ByteBuffer(repeating: 0, count: range.count) }
}

@Suite struct ResponseEncoderTests {
    private static func head(_ response: Response, at milliseconds: Int64 = 0) -> String {
        var encoder = ResponseEncoder()
        var buffer = ByteBuffer()
        encoder.write(response, isHead: true, connection: nil, at: Timestamp(milliseconds: milliseconds), into: &buffer)
        return String(buffer: buffer)
    }

    @Test(
        "a file name stays inside its field",
        arguments: [
            ("fw-1.0_a.bin", "attachment;filename=fw-1.0_a.bin", "fw-1.0_a.bin"),
            ("my fw.bin", "attachment;filename=\"my fw.bin\";filename*=UTF-8''my%20fw.bin", "my fw.bin"),
            ("a\r\nX: y", "attachment;filename=\"a__X: y\";filename*=UTF-8''a%0D%0AX%3A%20y", "a%0D%0AX%3A%20y"),
            ("a\"b\\", "attachment;filename=\"a_b_\";filename*=UTF-8''a%22b%5C", "a\"b\\"),
            ("ü", "attachment;filename=\"_\";filename*=UTF-8''%C3%BC", "%C3%BC"),
            ("a;b", "attachment;filename=\"a;b\";filename*=UTF-8''a%3Bb", "a;b"),
            ("a%41", "attachment;filename=\"a_41\";filename*=UTF-8''a%2541", "a%41"),
            ("a\0", "attachment;filename=\"a_\";filename*=UTF-8''a%00", "a%00"),
        ]
    )
    func fileNames(name: String, disposition: String, plain: String) {
        let reply = ContentReply(content: OneByte(), range: 0..<1, fileName: name)
        let head = Self.head(Response(status: 200, body: .content(reply, 0..<1)))
        let lines = head.split(separator: "\r\n").map(String.init)
        #expect(lines.contains("x-filename: \(plain)"))
        #expect(lines.contains("Content-Disposition: \(disposition)"))
        #expect(!head.utf8.contains(0))
        #expect(lines.count == 7)
    }

    @Test("a media type or entity tag that does not fit a field is not sent", arguments: ["a\r\nb", "", "ü", "a\"b"])
    func hostileFields(text: String) {
        let reply = ContentReply(
            content: OneByte(),
            range: 0..<1,
            contentType: text.contains("\"") ? "" : text,
            entityTag: text
        )
        let head = Self.head(Response(status: 200, body: .content(reply, 0..<1)))
        #expect(head.contains("Content-Type: application/octet-stream\r\n"))
        #expect(!head.contains("ETag"))
    }

    @Test(
        "the date is written as RFC 9110 §5.6.7 says",
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399_999, "Mon, 28 Feb 2000 23:59:59 GMT"), (951_782_400_000, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599_000, "Tue, 31 Dec 2024 23:59:59 GMT"), (4_107_542_400_000, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (-5, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ]
    )
    func dates(milliseconds: Int64, text: String) {
        #expect(Self.head(.empty(200), at: milliseconds).contains("Date: \(text)\r\n"))
    }

    @Test(
        "a status has its phrase, and one without a phrase its number",
        arguments: [
            (202, "HTTP/1.1 202 Accepted"), (418, "HTTP/1.1 418 "), (599, "HTTP/1.1 599 "),
            (99, "HTTP/1.1 500 Internal Server Error"), (600, "HTTP/1.1 500 Internal Server Error"),
        ]
    )
    func statuses(status: Int, line: String) {
        #expect(Self.head(.empty(status)).hasPrefix("\(line)\r\n"))
    }

    @Test("an answer that never has a body has no length either", arguments: [204, 304])
    func noLength(status: Int) {
        #expect(!Self.head(.empty(status)).contains("Content-Length"))
    }
}
