import NIOCore

/// Takes the bytes of a connection apart into requests (RFC 9112), one piece at a time, as the connection asks for them.
///
/// A decoder of our own instead of NIO's: a head becomes a ``RequestHead`` without a dictionary of fields in between, and a
/// request that nobody is ready for yet stays the bytes that it came as. Lines end with CRLF and nothing else, and names,
/// values and lengths are what the grammar says; whoever passes requests on to us must have seen the same ones.
struct RequestDecoder {
    /// A piece of a request.
    enum Piece {
        /// The head.
        case head(RequestHead)
        /// Some of the body.
        case body(ByteBuffer)
        /// The request is complete.
        case end
        /// There are no more requests, for this reason.
        case refused(Rejection)
    }

    private enum Phase {
        /// Empty lines, which do not count (RFC 9112 §2.2), then the first line.
        case requestLine
        /// The fields after the first line.
        case fields
        /// A body of which so many bytes are to come.
        case body(Int64)
        /// The line before a chunk.
        case chunkSize
        /// A chunk of which so many bytes are to come.
        case chunk(Int64)
        /// The end of the line after a chunk.
        case chunkEnd
        /// The fields after the last chunk (RFC 9112 §7.1.2).
        case trailers
        /// All of the request was handed out but its end.
        case end
        /// Nothing is a request any more.
        case refused
    }

    private let bytesMax: Int
    private let fieldsMax: Int
    private let routes: RouteTable?
    private var phase = Phase.requestLine
    /// The head as far as it came.
    private var reader: HeadReader?
    private var bytesCount = 0
    private var fieldsCount = 0
    /// How many bytes of the line that is not complete yet were looked through for its end.
    private var searched = 0

    /// Makes a decoder for one connection.
    ///
    /// - Parameters:
    ///   - bytesMax: How many bytes the target, the names and the values of a request may have together.
    ///   - fieldsMax: How many fields a request may have.
    ///   - routes: Where each request's route is looked for; `nil` to have its target and fields as texts in place of that.
    init(bytesMax: Int, fieldsMax: Int, routes: RouteTable? = nil) {
        self.bytesMax = bytesMax
        self.fieldsMax = fieldsMax
        self.routes = routes
    }

    /// Takes the next piece out of what came in.
    ///
    /// - Parameter input: What came in, less what was taken before.
    /// - Returns: The piece; `nil` if more must come first.
    mutating func next(from input: inout ByteBuffer) -> Piece? {
        do {
            switch self.phase {
            case .requestLine, .fields, .chunkSize, .chunkEnd, .trailers:
                if let piece = try self.readLines(of: &input).get() { return piece }
                switch self.phase {
                case .chunk, .end: return self.next(from: &input)
                default: return nil
                }
            case .body(let count):
                return self.readBody(&input, count) { $0 == 0 ? .end : .body($0) }
            case .chunk(let count):
                return self.readBody(&input, count) { $0 == 0 ? .chunkEnd : .chunk($0) }
            case .end:
                self.phase = .requestLine
                return .end
            case .refused:
                return nil
            }
        } catch {
            self.phase = .refused
            return .refused(error)
        }
    }

    private mutating func readBody(_ input: inout ByteBuffer, _ count: Int64, then: (Int64) -> Phase) -> Piece? {
        guard input.readableBytes > 0,
            let bytes = input.readSlice(length: Int(min(count, Int64(input.readableBytes))))
        else { return nil }
        self.phase = then(count - Int64(bytes.readableBytes))
        return .body(bytes)
    }

    // MARK: Lines

    /// Takes in lines until there is a piece to hand out, or something else than lines is next.
    private mutating func readLines(of input: inout ByteBuffer) -> Result<Piece?, Rejection> {
        input.readWithUnsafeReadableBytes { bytes in
            var rest = HeadBytes(start: bytes.bindMemory(to: UInt8.self).baseAddress, count: bytes.count)
            let result = Result { () throws(Rejection) in try self.readLines(of: &rest) }
            return (bytes.count - rest.count, result)
        }
    }

    private mutating func readLines(of rest: inout HeadBytes) throws(Rejection) -> Piece? {
        while true {
            if case .requestLine = self.phase { self.skipEmptyLines(&rest) }
            guard let end = rest.first(UInt8(ascii: "\n"), from: self.searched) else {
                self.searched = rest.count
                try self.checkBeginning(of: rest)
                return nil
            }
            self.searched = 0
            let endsWithCRLF = end > 0 && rest[end - 1] == UInt8(ascii: "\r")
            let line = rest.part(0..<(endsWithCRLF ? end - 1 : end))
            try self.checkLength(line)
            rest = rest.part(end + 1..<rest.count)
            if let piece = try self.take(line, endsWithCRLF) { return piece }
            switch self.phase {
            case .chunk, .end: return nil
            default: break
            }
        }
    }

    private func skipEmptyLines(_ rest: inout HeadBytes) {
        var start = 0
        while start < rest.count, rest[start] == UInt8(ascii: "\r") || rest[start] == UInt8(ascii: "\n") { start += 1 }
        if start > 0 { rest = rest.part(start..<rest.count) }
    }

    /// Takes in a line.
    private mutating func take(_ line: HeadBytes, _ endsWithCRLF: Bool) throws(Rejection) -> Piece? {
        if case .requestLine = self.phase {
            let line = try RequestLine(line, endsWithCRLF: endsWithCRLF)
            self.fieldsCount = 0
            self.bytesCount = 0
            try self.count(line.target.count)
            self.reader = HeadReader(line, self.routes)
            self.phase = .fields
            return nil
        }
        guard endsWithCRLF else { throw .malformed }
        switch self.phase {
        case .fields:
            guard line.isEmpty else {
                let (name, value) = try self.field(line)
                try self.reader?.add(name, value)
                return nil
            }
            guard let head = try self.reader.take()?.finish() else { return nil }
            self.phase = head.isChunked ? .chunkSize : head.hasBody ? .body(head.contentLength ?? 0) : .end
            return .head(head)
        case .chunkSize:
            let size = try Self.chunkSize(line)
            self.phase = size == 0 ? .trailers : .chunk(size)
        case .chunkEnd:
            guard line.isEmpty else { throw .malformed }
            self.phase = .chunkSize
        case .trailers:
            guard !line.isEmpty else {
                self.phase = .end
                return nil
            }
            let (name, _) = try self.field(line)
            // RFC 9110 §6.5.1: what says where the body ends comes too late here.
            guard !name.equalsIgnoringCase("content-length"), !name.equalsIgnoringCase("transfer-encoding") else {
                throw .malformed
            }
        case .requestLine, .body, .chunk, .end, .refused: break
        }
        return nil
    }

    /// Takes a line apart into a name and a value without the white space around it (RFC 9112 §5).
    private mutating func field(_ line: HeadBytes) throws(Rejection) -> (name: HeadBytes, value: HeadBytes) {
        // RFC 9112 §5.1, §5.2: neither white space before the colon, nor a value that goes on in the next line.
        guard let colon = line.first(UInt8(ascii: ":")), line.part(0..<colon).isToken else { throw .malformed }
        let name = line.part(0..<colon)
        let value = line.part(colon + 1..<line.count)
        guard value.isFieldValue else { throw .malformed }
        self.fieldsCount += 1
        guard self.fieldsCount <= self.fieldsMax else { throw .headerTooLarge }
        let trimmed = value.trimmed
        try self.count(name.count + trimmed.count)
        return (name, trimmed)
    }

    /// The size of a chunk; its extensions mean nothing here (RFC 9112 §7.1.1).
    private static func chunkSize(_ line: HeadBytes) throws(Rejection) -> Int64 {
        let end = line.first(UInt8(ascii: ";")) ?? line.count
        let extensions = line.part(end..<line.count)
        guard end > 0, extensions.isFieldValue, extensions.isChunkExtensions else { throw .malformed }
        var size: Int64 = 0
        for byte in line.part(0..<end) {
            // Checked at every digit, so that nothing overflows.
            guard let digit = PercentCoding.digit(byte), size <= Int64.max >> 4 else { throw .malformed }
            size = size << 4 | Int64(digit)
        }
        return size
    }

    // MARK: Limits

    private mutating func count(_ bytes: Int) throws(Rejection) {
        self.bytesCount += bytes
        guard self.bytesCount <= self.bytesMax else { throw .headerTooLarge }
    }

    /// The white space in a line counts for nothing else, so it is bounded here.
    private func checkLength(_ line: HeadBytes) throws(Rejection) {
        guard line.count <= self.bytesMax + HTTPLimits.readBytes else { throw .headerTooLarge }
    }

    /// Looks at a line of which there is only the beginning.
    private func checkBeginning(of rest: HeadBytes) throws(Rejection) {
        let line = rest.last == UInt8(ascii: "\r") ? rest.part(0..<rest.count - 1) : rest
        try self.checkLength(line)
        // Another protocol may have no lines, so that the end of one would never come.
        if case .requestLine = self.phase {
            guard RequestMethod.mayBegin(line.part(0..<(line.first(UInt8(ascii: " ")) ?? line.count))) else {
                throw .malformed
            }
        }
    }
}
