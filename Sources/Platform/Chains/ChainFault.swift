/// One fault of a chain file, and where.
public struct ChainFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// What a fault means for its chain.
    public enum Severity: String, Sendable {
        /// The chain cannot run.
        case error
        /// The chain runs, but probably does not do what its author wants.
        case warning
    }

    /// What it means for the chain.
    public var severity: Severity
    /// The file's name, as given.
    public var file: String
    /// One-based line; 1 where the fault is the file's as a whole.
    public var line: Int
    /// One-based column in Unicode scalars; 1 where the fault is the file's as a whole.
    public var column: Int
    /// What is wrong.
    public var message: String
    /// What would help, if that can be said.
    public var help: String?
    /// What to branch on; stable, unlike the wording.
    public var code: String

    /// Describes a fault.
    public init(
        _ severity: Severity = .error,
        file: String,
        line: Int = 1,
        column: Int = 1,
        message: String,
        help: String? = nil,
        code: String
    ) {
        self.severity = severity
        self.file = file
        self.line = line
        self.column = column
        self.message = message
        self.help = help
        self.code = code
    }

    /// The fault in one line: `file:line:column: error: what; what would help [code]`, or `warning` in place of `error`.
    public var description: String {
        let help = self.help.map { "; \($0)" } ?? ""
        return "\(self.file):\(self.line):\(self.column): \(self.severity): \(self.message)\(help) [\(self.code)]"
    }
}

/// All faults of a set of chain files, sorted by file, line and column.
public struct ChainFaults: Error, Sendable, CustomStringConvertible {
    /// The faults, each once.
    public var faults: [ChainFault]

    /// Sorts faults and leaves out repetitions.
    public init(_ faults: [ChainFault]) {
        var sorted = faults.sorted { ($0.file, $0.line, $0.column, $0.code) < ($1.file, $1.line, $1.column, $1.code) }
        var seen: Set<ChainFault> = []
        sorted.removeAll { !seen.insert($0).inserted }
        self.faults = sorted
    }

    /// One line for each fault.
    public var description: String { self.faults.map(\.description).joined(separator: "\n") }
}
