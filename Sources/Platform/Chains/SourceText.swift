/// The bytes of a file, and where in it things are.
struct SourceText {
    let path: String
    let bytes: [UInt8]
    /// The zero-based byte offset of each line's first byte.
    private let lineStarts: [Int]

    /// Takes a file's bytes, without the byte order mark that some editors write.
    init(path: String, bytes: [UInt8]) {
        self.path = path
        self.bytes = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(bytes.dropFirst(3)) : bytes
        self.lineStarts =
            [0] + self.bytes.indices.lazy.filter { [bytes = self.bytes] in bytes[$0] == 0x0A }.map { $0 + 1 }
    }

    /// Describes a fault at a zero-based byte offset.
    func fault(
        _ severity: ChainFault.Severity = .error,
        at offset: Int,
        _ code: String,
        _ message: String,
        help: String? = nil
    ) -> ChainFault {
        let position = self.position(of: offset)
        return ChainFault(
            severity,
            file: self.path,
            line: position.line,
            column: position.column,
            message: message,
            help: help,
            code: code
        )
    }

    /// One-based line and column of a zero-based byte offset; the column counts Unicode scalars.
    func position(of offset: Int) -> (line: Int, column: Int) {
        // The number of lines that start at or before the offset, by bisection.
        var line = 1
        var after = self.lineStarts.count
        while line < after {
            let middle = (line + after + 1) / 2
            if self.lineStarts[middle - 1] <= offset { line = middle } else { after = middle - 1 }
        }
        let start = self.lineStarts[line - 1]
        // A byte of the form 10xxxxxx continues a scalar (RFC 3629 §3).
        let scalarsCount = self.bytes[start..<max(start, min(offset, self.bytes.count))].count { $0 & 0xC0 != 0x80 }
        return (line, scalarsCount + 1)
    }
}
