import NIOCore
import NodeKit
import Testing

@testable import Management

@Suite struct MultipartParserTests {
    /// What came out of a form: its parts with their bytes joined, and the fault if there was one.
    struct Outcome: Equatable {
        var parts: [MultipartParser.Part] = []
        var bytes: [String] = []
        var complete = 0
        var fault: String?
    }

    static func parse(
        _ pieces: [ByteBuffer],
        boundary: String = "XX",
        limits: MultipartParser.Limits = .init()
    ) -> Outcome {
        var parser = MultipartParser(boundary: boundary, limits: limits)
        var outcome = Outcome()
        do {
            for piece in pieces {
                parser.feed(piece)
                while let event = try parser.next() {
                    switch event {
                    case .part(let part):
                        outcome.parts.append(part)
                        outcome.bytes.append("")
                    case .bytes(let bytes):
                        #expect(bytes.readableBytes > 0)
                        outcome.bytes[outcome.bytes.count - 1] += String(buffer: bytes)
                    case .endOfPart: outcome.complete += 1
                    }
                }
            }
            try parser.finish()
        } catch {
            outcome.fault = error.message
        }
        return outcome
    }

    struct Vector: Sendable, CustomTestStringConvertible {
        var name: String
        var form: String
        var parts: [MultipartParser.Part] = []
        var bytes: [String] = []
        var fault: String?
        var testDescription: String { self.name }
    }

    static let vectors: [Vector] = [
        Vector(
            name: "one file",
            form: "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n"
                + "Content-Type: application/octet-stream\r\n\r\nhello\r\n--XX--\r\n",
            parts: [.init(name: "file", fileName: "a.bin", contentType: "application/octet-stream")],
            bytes: ["hello"]
        ),
        Vector(
            name: "fields after the file, no line break at the end",
            form: "--XX\r\ncontent-disposition: form-data; name=file; filename=a\r\n\r\n1\r\n"
                + "--XX\r\nContent-Disposition:form-data;name=\"checksum\"\r\n\r\nabc\r\n--XX--",
            parts: [.init(name: "file", fileName: "a"), .init(name: "checksum")],
            bytes: ["1", "abc"]
        ),
        Vector(
            name: "text before the first boundary and after the last",
            form:
                "preamble\r\nmore\r\n--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n--XX--epi\r\n--XX",
            parts: [.init(name: "a")],
            bytes: ["v"]
        ),
        Vector(
            name: "an empty part",
            form: "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--XX--\r\n",
            parts: [.init(name: "a")],
            bytes: [""]
        ),
        Vector(
            name: "a part without header",
            form: "--XX\r\n\r\nv\r\n--XX--\r\n",
            parts: [.init(name: "")],
            bytes: ["v"]
        ),
        Vector(
            name: "bytes that look like the boundary but are not",
            form: "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--X\r\n-\r\r\n--\r\nXX--XX\r\n--XX--",
            parts: [.init(name: "a")],
            bytes: ["\r\n--X\r\n-\r\r\n--\r\nXX--XX"]
        ),
        Vector(
            name: "white space after a boundary",
            form: "--XX \t\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n--XX--",
            parts: [.init(name: "a")],
            bytes: ["v"]
        ),
        Vector(
            name: "quoted names with escapes, a path and a semicolon",
            form:
                "--XX\r\nContent-Disposition: form-data; name=\"a\\\"b;c\"; filename=\"C:\\dir\\x;y.bin\"\r\n\r\n\r\n--XX--",
            parts: [.init(name: "a\"b;c", fileName: "x;y.bin")],
            bytes: [""]
        ),
        Vector(
            name: "a file name as RFC 5987 writes it",
            form:
                "--XX\r\nContent-Disposition: form-data; name=file; filename=a; filename*=utf-8''%C3%A4%2Fb.bin\r\n\r\n\r\n"
                + "--XX--",
            parts: [.init(name: "file", fileName: "b.bin")],
            bytes: [""]
        ),
        Vector(
            name: "a file name after a slash that a mark combines with",
            form: "--XX\r\nContent-Disposition: form-data; name=a; filename=\"dir/\u{338}x\"\r\n\r\n\r\n--XX--",
            parts: [.init(name: "a", fileName: "\u{338}x")],
            bytes: [""]
        ),
        Vector(
            name: "no last boundary",
            form: "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n--XX\r\n",
            parts: [.init(name: "a")],
            bytes: ["v"],
            fault: "the multipart form cannot be read: it ends before its last boundary"
        ),
        Vector(
            name: "cut off inside the last boundary",
            form: "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n--XX-",
            parts: [.init(name: "a")],
            bytes: ["v"],
            fault: "the multipart form cannot be read: it ends before its last boundary"
        ),
        Vector(
            name: "nothing at all",
            form: "",
            fault: "the multipart form cannot be read: it ends before its last boundary"
        ),
        Vector(
            name: "a boundary with text behind it",
            form: "--XXY\r\n\r\nv\r\n--XX--",
            fault: "the multipart form cannot be read: a boundary is followed by other text"
        ),
        Vector(
            name: "white space between the last boundary and its dashes",
            form: "--XX\r\n\r\nv\r\n--XX --\r\n",
            parts: [.init(name: "")],
            bytes: ["v"],
            fault: "the multipart form cannot be read: a boundary is followed by other text"
        ),
        Vector(
            name: "a header line without colon",
            form: "--XX\r\nnonsense\r\n\r\nv\r\n--XX--",
            fault: "the multipart form cannot be read: a line of a part's header has no colon"
        ),
    ]

    @Test("A form is taken apart the same whole, byte by byte, and cut anywhere", arguments: vectors)
    func vector(_ vector: Vector) {
        let form = Array(vector.form.utf8)
        var ways = [[ByteBuffer(bytes: form)], form.map { ByteBuffer(bytes: [$0]) }]
        for cut in form.indices { ways.append([ByteBuffer(bytes: form[..<cut]), ByteBuffer(bytes: form[cut...])]) }
        for way in ways {
            let outcome = Self.parse(way)
            #expect(outcome.parts == vector.parts)
            #expect(outcome.bytes == vector.bytes)
            #expect(outcome.fault == vector.fault)
            if vector.fault == nil { #expect(outcome.complete == vector.parts.count) }
        }
    }

    @Test("A part's header may be as long as the limit and no longer", arguments: [0, 1])
    func headerLimit(excess: Int) {
        let start = "Content-Disposition: form-data; name=\"a\"\r\nX: "
        let end = "\r\n\r\n"
        let limits = MultipartParser.Limits()
        let filler = String(
            repeating: "x",
            count: limits.headerBytesMax - start.utf8.count - end.utf8.count + excess
        )
        let form = ByteBuffer(string: "--XX\r\n\(start)\(filler)\(end)v\r\n--XX--")
        let fault = Self.parse([form]).fault
        #expect(
            fault
                == (excess == 0
                    ? nil : "the multipart form cannot be read: a part's header is longer than 8192 bytes")
        )
    }

    @Test("A form may have as many parts as the limit and no more", arguments: [0, 1])
    func partsLimit(excess: Int) {
        let limits = MultipartParser.Limits()
        let part = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nv\r\n"
        let form = String(repeating: part, count: limits.partsMax + excess) + "--XX--"
        #expect((Self.parse([ByteBuffer(string: form)]).fault == nil) == (excess == 0))
    }

    @Test("There may be as many bytes before the first boundary as the limit and no more", arguments: [0, 1])
    func preambleLimit(excess: Int) {
        let limits = MultipartParser.Limits()
        // Two bytes of it are the line break that every form is taken to begin with.
        let preamble = String(repeating: "x", count: limits.preambleBytesMax - 2 + excess)
        let form = "\(preamble)\r\n--XX\r\n\r\nv\r\n--XX--"
        #expect((Self.parse([ByteBuffer(string: form)]).fault == nil) == (excess == 0))
    }

    @Test(
        "The boundary is read out of a content type",
        arguments: [
            ("multipart/form-data; boundary=abc", "abc"),
            ("Multipart/Form-Data;charset=utf-8; BOUNDARY=\"a b;c\"", "a b;c"),
            ("multipart/form-data", nil),
            ("multipart/form-data; boundary=", nil),
            ("application/json; boundary=abc", nil),
            ("multipart/form-data; boundary=\(String(repeating: "b", count: 70))", String(repeating: "b", count: 70)),
            ("multipart/form-data; boundary=\(String(repeating: "b", count: 71))", nil),
        ] as [(String, String?)]
    )
    func boundary(contentType: String, boundary: String?) {
        #expect(MultipartParser.boundary(ofContentType: contentType) == boundary)
    }
}
