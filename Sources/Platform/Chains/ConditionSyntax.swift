/// The variables and functions that a condition names, and what in it cannot work without a document.
///
/// libxml2 does not tell what a compiled expression holds, so the tokens are read here (XPath 1.0 §3.7); whether they make
/// an expression is left to libxml2.
struct ConditionSyntax {
    /// Why a condition cannot be used.
    struct Fault: Hashable {
        var code: String
        var message: String
        var help: String?
    }

    /// The longest condition, in bytes.
    static let lengthMax = 2000
    /// The deepest nesting of parentheses; libxml2 compiles and evaluates by recursion.
    static let nestingMax = 32

    /// How many arguments each function takes: those of XPath 1.0 §4 that need no document, and `version-compare`.
    static let functions: [String: ClosedRange<Int>] = [
        "boolean": 1...1, "ceiling": 1...1, "concat": 2...Int.max, "contains": 2...2, "false": 0...0, "floor": 1...1,
        "normalize-space": 1...1, "not": 1...1, "number": 1...1, "round": 1...1, "starts-with": 2...2, "string": 1...1,
        "string-length": 1...1, "substring": 2...3, "substring-after": 2...2, "substring-before": 2...2,
        "translate": 3...3, "true": 0...0, "version-compare": 2...2,
    ]

    /// The names of the variables, each once, in the order they appear.
    private(set) var variables: [String] = []
    private(set) var faults: [Fault] = []

    private let bytes: [UInt8]
    private var index = 0
    private var hasPath = false
    /// Whether what came before ends an operand, so that a name or `*` is an operator (XPath 1.0 §3.7).
    private var followsOperand = false
    /// The open parentheses, with the function if they hold its arguments.
    private var open: [(function: String?, argumentsCount: Int)] = []

    /// Reads the tokens of an expression.
    init(_ text: String) {
        self.bytes = Array(text.utf8)
        guard self.bytes.count <= Self.lengthMax else {
            self.fault("bad-condition", "the condition is longer than \(Self.lengthMax) bytes")
            return
        }
        while self.index < self.bytes.count { self.token() }
    }

    private mutating func fault(_ code: String, _ message: String, help: String? = nil) {
        let fault = Fault(code: code, message: message, help: help)
        if !self.faults.contains(fault) { self.faults.append(fault) }
    }

    private mutating func token() {
        let byte = self.bytes[self.index]
        switch byte {
        case 0x20, 0x09, 0x0A, 0x0D: self.index += 1
        case UInt8(ascii: "'"), UInt8(ascii: "\""): self.literal(quote: byte)
        case UInt8(ascii: "$"): self.variable()
        case UInt8(ascii: "("): self.openParenthesis(of: nil)
        case UInt8(ascii: ")"): self.closeParenthesis()
        case UInt8(ascii: ","):
            if !self.open.isEmpty { self.open[self.open.count - 1].argumentsCount += 1 }
            self.op()
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self.number()
        case UInt8(ascii: ".") where self.nextIsDigit: self.number()
        case UInt8(ascii: "="), UInt8(ascii: "!"), UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "+"),
            UInt8(ascii: "-"):
            self.op()
        case UInt8(ascii: "*") where self.followsOperand: self.op()
        case UInt8(ascii: "/"), UInt8(ascii: "@"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "."),
            UInt8(ascii: "|"), UInt8(ascii: "*"), UInt8(ascii: ":"):
            self.path(String(Unicode.Scalar(byte)), meant: nil)
            self.index += 1
            self.operand()
        case _ where Self.startsName(byte): self.name()
        default:
            // No token of XPath; libxml2 says so.
            self.index += 1
        }
    }

    /// Notes an operand, which is an argument if it is the first thing after a parenthesis.
    private mutating func operand() {
        self.followsOperand = true
        if let last = self.open.last, last.argumentsCount == 0 { self.open[self.open.count - 1].argumentsCount = 1 }
    }

    private mutating func op() {
        self.index += 1
        self.followsOperand = false
    }

    private var nextIsDigit: Bool {
        self.index + 1 < self.bytes.count
            && (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self.bytes[self.index + 1])
    }

    private mutating func literal(quote: UInt8) {
        self.index += 1
        while self.index < self.bytes.count, self.bytes[self.index] != quote { self.index += 1 }
        self.index += 1
        self.operand()
    }

    private mutating func number() {
        while self.index < self.bytes.count,
            (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self.bytes[self.index])
                || self.bytes[self.index] == UInt8(ascii: ".")
        { self.index += 1 }
        self.operand()
    }

    private mutating func variable() {
        self.index += 1
        let name = self.readName()
        if !name.isEmpty, !self.variables.contains(name) { self.variables.append(name) }
        self.operand()
    }

    private mutating func name() {
        let name = self.readName()
        if self.followsOperand {
            // An operator: `and`, `or`, `div`, `mod`, or a mistake that libxml2 finds.
            self.followsOperand = false
            return
        }
        var next = self.index
        while next < self.bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(self.bytes[next]) { next += 1 }
        guard next < self.bytes.count, self.bytes[next] == UInt8(ascii: "(") else {
            self.path(name, meant: "$\(name)")
            self.operand()
            return
        }
        if Self.functions[name] == nil {
            let names = Self.functions.keys.sorted()
            let help = Suggestion.help(for: name, among: names, listedAs: "there are")
            self.fault("unknown-function", "there is no function '\(name)'", help: help)
        }
        self.operand()
        self.index = next
        self.openParenthesis(of: name)
    }

    private mutating func openParenthesis(of function: String?) {
        if function == nil { self.operand() }
        self.index += 1
        self.followsOperand = false
        self.open.append((function, 0))
        if self.open.count == Self.nestingMax + 1 {
            self.fault("bad-condition", "parentheses are nested deeper than \(Self.nestingMax) levels")
        }
    }

    private mutating func closeParenthesis() {
        self.index += 1
        self.followsOperand = true
        guard let (function, count) = self.open.popLast(), let function, let allowed = Self.functions[function],
            !allowed.contains(count)
        else { return }
        let needed =
            allowed.upperBound == Int.max
            ? "\(allowed.lowerBound) or more"
            : allowed.count == 1 ? "\(allowed.lowerBound)" : "\(allowed.lowerBound) to \(allowed.upperBound)"
        self.fault("bad-condition", "'\(function)' takes \(needed) arguments, not \(count)")
    }

    /// Reports the first of what would look into a document; how the rest is meant cannot be told then.
    private mutating func path(_ text: String, meant: String?) {
        guard !self.hasPath else { return }
        self.hasPath = true
        self.fault(
            "bad-condition",
            "'\(text)' would look into a document, and a condition has none",
            help: meant.map { "write '\($0)' for the variable, or put a text into quotes" }
                ?? "conditions are made of variables, texts, numbers, operators and functions"
        )
    }

    private mutating func readName() -> String {
        let start = self.index
        guard start < self.bytes.count, Self.startsName(self.bytes[start]) else { return "" }
        while self.index < self.bytes.count, Self.continuesName(self.bytes[self.index]) { self.index += 1 }
        return String(decoding: self.bytes[start..<self.index], as: UTF8.self)
    }

    /// Whether a text is a name that a variable can have (NCName, Namespaces in XML §3, ASCII as it says and all else).
    static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, Self.startsName(first) else { return false }
        return text.utf8.allSatisfy(Self.continuesName)
    }

    private static func startsName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"), 0x80...:
            true
        default: false
        }
    }

    private static func continuesName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."): true
        default: Self.startsName(byte)
        }
    }
}
