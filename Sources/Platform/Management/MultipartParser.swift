import NIOCore
import NodeKit

/// Takes `multipart/form-data` (RFC 7578) apart as it comes in, holding no more than one buffer and one part's header.
///
/// Feed it a buffer, then ask for events until there is none; at the end of the input call ``finish()``.
struct MultipartParser: Sendable {
    /// Named limits of a form.
    struct Limits: Sendable {
        /// The most bytes of a part's header, its empty line included.
        var headerBytesMax = 8 * 1024
        /// The most parts.
        var partsMax = 32
        /// The most bytes before the first boundary.
        var preambleBytesMax = 8 * 1024
    }

    /// What a part's header says.
    struct Part: Sendable, Equatable {
        var name: String
        /// The file's name without path; `nil` if there is none.
        var fileName: String?
        var contentType: String?
    }

    enum Event: Sendable, Equatable {
        /// A part begins.
        case part(Part)
        /// Some bytes of the part; never empty.
        case bytes(ByteBuffer)
        /// The part is complete.
        case endOfPart
    }

    private enum State {
        case preamble
        case afterBoundary
        case header
        case body
        case epilogue
    }

    private let limits: Limits
    private let delimiter: [UInt8]
    private var state = State.preamble
    /// The first boundary may stand at the very start; a line break before it makes it like all others.
    private var pending = ByteBuffer(bytes: [0x0D, 0x0A])
    private var preambleBytes = 0
    /// Whether white space came after the present boundary, so that no `--` may end the form any more.
    private var isPadded = false
    private var parts = 0

    /// Prepares for a form whose boundary is known.
    init(boundary: String, limits: Limits = Limits()) {
        self.delimiter = Array("\r\n--\(boundary)".utf8)
        self.limits = limits
    }

    /// Takes in the next bytes.
    ///
    /// Call it only after ``next()`` returned `nil`.
    mutating func feed(_ bytes: ByteBuffer) {
        guard self.state != .epilogue else { return }
        if self.pending.readableBytes == 0 {
            self.pending = bytes
        } else {
            self.pending.writeImmutableBuffer(bytes)
        }
    }

    /// The next event; `nil` if more bytes are needed.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if this is no form, or a limit is passed.
    mutating func next() throws(NodeError) -> Event? {
        while true {
            switch self.state {
            case .preamble:
                let (text, isComplete) = self.takeUntilDelimiter()
                self.preambleBytes += text.readableBytes
                guard self.preambleBytes <= self.limits.preambleBytesMax else {
                    throw Self.fault("no boundary in the first \(self.limits.preambleBytesMax) bytes")
                }
                guard isComplete else { return nil }
                self.state = .afterBoundary
            case .afterBoundary:
                guard try self.skipBoundaryLine() else { return nil }
            case .header:
                guard let part = try self.takeHeader() else { return nil }
                self.state = .body
                return .part(part)
            case .body:
                let (bytes, isComplete) = self.takeUntilDelimiter()
                if bytes.readableBytes > 0 {
                    // The delimiter is found again at once by the next call.
                    if isComplete { self.pending.moveReaderIndex(to: self.pending.readerIndex - self.delimiter.count) }
                    return .bytes(bytes)
                }
                guard isComplete else { return nil }
                self.state = .afterBoundary
                return .endOfPart
            case .epilogue:
                self.pending.clear()
                return nil
            }
        }
    }

    /// Checks that the form was complete; call it when no more bytes come.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if it was cut off.
    func finish() throws(NodeError) {
        guard self.state == .epilogue else { throw Self.fault("it ends before its last boundary") }
    }

    private static func fault(_ reason: String) -> NodeError {
        NodeError(.badRequest, "the multipart form cannot be read: \(reason)")
    }

    /// Takes the bytes before the next delimiter, and the delimiter if it is there; bytes that may be its beginning stay.
    private mutating func takeUntilDelimiter() -> (bytes: ByteBuffer, isComplete: Bool) {
        let delimiter = self.delimiter
        let (count, isComplete) = self.pending.withUnsafeReadableBytes { bytes -> (Int, Bool) in
            // Every byte of a file passes here: the line feed is looked at before anything is compared.
            let end = bytes.count
            var index = 0
            while index < end {
                if bytes[index] == 0x0D, index + 1 == end || bytes[index + 1] == 0x0A {
                    let candidate = bytes[index...].prefix(delimiter.count)
                    if delimiter.starts(with: candidate) { return (index, candidate.count == delimiter.count) }
                }
                index += 1
            }
            return (bytes.count, false)
        }
        let bytes = self.pending.readSlice(length: count) ?? ByteBuffer()
        if isComplete { self.pending.moveReaderIndex(forwardBy: delimiter.count) }
        return (bytes, isComplete)
    }

    /// Reads what follows a boundary: `--` at the end of the form, or white space (RFC 2046 §5.1.1) and a line break.
    private mutating func skipBoundaryLine() throws(NodeError) -> Bool {
        if !self.isPadded, self.pending.readableBytesView.starts(with: "--".utf8) {
            self.state = .epilogue
            return true
        }
        while let byte = self.pending.readableBytesView.first, byte == 0x20 || byte == 0x09 {
            self.pending.moveReaderIndex(forwardBy: 1)
            self.isPadded = true
        }
        let start = self.pending.readableBytesView.prefix(2)
        if start.elementsEqual([0x0D, 0x0A]) {
            self.pending.moveReaderIndex(forwardBy: 2)
            self.isPadded = false
            self.parts += 1
            guard self.parts <= self.limits.partsMax else {
                throw Self.fault("it has more than \(self.limits.partsMax) parts")
            }
            self.state = .header
            return true
        }
        let mayFollow = start.count == 1 && (start.first == 0x0D || (start.first == 0x2D && !self.isPadded))
        guard start.isEmpty || mayFollow else {
            throw Self.fault("a boundary is followed by other text")
        }
        return false
    }

    private mutating func takeHeader() throws(NodeError) -> Part? {
        let view = self.pending.readableBytesView
        var text = ""
        if view.starts(with: [0x0D, 0x0A]) {
            self.pending.moveReaderIndex(forwardBy: 2)
        } else {
            let tooLong = Self.fault("a part's header is longer than \(self.limits.headerBytesMax) bytes")
            let searched = view.prefix(self.limits.headerBytesMax)
            guard let length = Self.headerLength(searched) else {
                if view.count >= self.limits.headerBytesMax { throw tooLong }
                return nil
            }
            guard let read = String(validating: searched.prefix(length), as: UTF8.self) else {
                throw Self.fault("a part's header is not UTF-8")
            }
            text = read
            self.pending.moveReaderIndex(forwardBy: length)
        }
        var part = Part(name: "")
        // Lines end with both characters, which Swift takes for one.
        for line in text.split(separator: "\r\n") {
            guard let colon = line.firstIndex(of: ":") else {
                throw Self.fault("a line of a part's header has no colon")
            }
            let value = line[line.index(after: colon)...].trimmed
            switch line[..<colon].lowercased() {
            case "content-disposition":
                let parameters = HeaderParameters(value)
                part.name = parameters["name"] ?? ""
                part.fileName = try parameters.fileName
            case "content-type": part.contentType = value.isEmpty ? nil : String(value)
            default: break
            }
        }
        for (name, text) in [("name", part.name), ("filename", part.fileName), ("Content-Type", part.contentType)] {
            if let text { try NullCharacter.refuse(in: text, name) }
        }
        return part
    }

    /// The number of bytes up to and with the empty line that ends a header.
    private static func headerLength(_ bytes: some Collection<UInt8>) -> Int? {
        var matched = 0
        for (offset, byte) in bytes.enumerated() {
            let wanted: UInt8 = matched % 2 == 0 ? 0x0D : 0x0A
            matched = byte == wanted ? matched + 1 : (byte == 0x0D ? 1 : 0)
            if matched == 4 { return offset + 1 }
        }
        return nil
    }

    /// The boundary that a `Content-Type` names, 1…70 characters (RFC 2046 §5.1.1); `nil` if it names none.
    static func boundary(ofContentType text: String) -> String? {
        guard text.lowercased().hasPrefix("multipart/"), let boundary = HeaderParameters(text[...])["boundary"],
            (1...70).contains(boundary.utf8.count)
        else { return nil }
        return boundary
    }
}

/// The parameters of a header's value: `form-data; name="a"; filename="b.bin"`.
private struct HeaderParameters {
    private var values: [ExactText: String] = [:]

    init(_ text: Substring) {
        // By code points: with a mark that combines with it, a quote or semicolon is another character.
        var rest = text.unicodeScalars.drop { $0 != ";" }
        while rest.popFirst() != nil {
            let name = rest.prefix { $0 != "=" && $0 != ";" }
            rest = rest.dropFirst(name.count)
            guard rest.first == "=" else { continue }
            rest.removeFirst()
            var value = String.UnicodeScalarView()
            if rest.first == "\"" {
                rest.removeFirst()
                while let scalar = rest.popFirst(), scalar != "\"" {
                    // A backslash escapes a quote or itself; others are part of a path, as old browsers send it.
                    if scalar == "\\", let next = rest.first, next == "\"" || next == "\\" {
                        value.append(next)
                        rest.removeFirst()
                    } else {
                        value.append(scalar)
                    }
                }
                rest = rest.drop { $0 != ";" }
            } else {
                let token = rest.prefix { $0 != ";" }
                rest = rest.dropFirst(token.count)
                value = String.UnicodeScalarView(Substring(token).trimmed.unicodeScalars)
            }
            let key = Substring(name).trimmed.lowercased().exact
            if self.values[key] == nil { self.values[key] = String(value) }
        }
    }

    subscript(name: ExactText) -> String? { self.values[name] }

    /// The file's name without path, from `filename*` (RFC 5987) or `filename`.
    var fileName: String? {
        get throws(NodeError) {
            var name = self["filename"]
            if let extended = self["filename*"] {
                let parts = extended.unicodeScalars.split(
                    separator: "'",
                    maxSplits: 2,
                    omittingEmptySubsequences: false
                )
                if parts.count == 3, Substring(parts[0]).lowercased() == "utf-8" {
                    name = try PercentEncoding.decode(Substring(parts[2]), plusIsSpace: false, of: "filename*")
                }
            }
            return name?.unicodeScalars.split { $0 == "/" || $0 == "\\" }.last.map { String($0) }
        }
    }
}

extension Substring {
    /// The text without spaces and tabs around it.
    fileprivate var trimmed: Substring {
        var text = self
        while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return text
    }
}
