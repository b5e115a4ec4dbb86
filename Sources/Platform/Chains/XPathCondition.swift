import CLibXML2
import NodeKit
import Synchronization

/// A condition in XPath 1.0, compiled by libxml2 and evaluated with the message's values as variables.
///
/// Truth values, numbers and strings are XPath's own types; `null` and what is absent is an empty string, arrays and objects
/// are their JSON text.
final class XPathCondition: Condition {
    let text: String
    /// The names of the variables.
    let variables: [String]
    private let evaluators: Mutex<[XPathEvaluator]>

    /// Compiles a condition.
    ///
    /// - Throws: ``NodeError`` with code `bad-condition` if libxml2 does not understand it.
    init(_ text: String, variables: [String]) throws(NodeError) {
        self.text = text
        self.variables = variables
        self.evaluators = Mutex([try XPathEvaluator(text, variables: variables)])
    }

    /// Whether the condition holds; costs no allocation of ours, and two uncontended locks.
    func holds(for message: Message) throws -> Bool {
        // As many evaluators come to be as threads ask at the same time.
        let evaluator =
            try self.evaluators.withLock { $0.popLast() } ?? XPathEvaluator(self.text, variables: self.variables)
        defer { self.evaluators.withLock { $0.append(evaluator) } }
        return try evaluator.holds(for: message)
    }
}

/// A compiled expression and the context it is evaluated in.
///
/// Both belong together since libxml2 writes into the compiled expression, too, when it evaluates.
// Unchecked: whoever has taken it out of the condition's list is the only one that uses it.
final class XPathEvaluator: @unchecked Sendable {
    /// How many steps one evaluation may take; a condition of the longest length takes far fewer.
    static let operationsMax: UInt = 100_000

    private let context: xmlXPathContextPtr
    private let expression: xmlXPathCompExprPtr
    private let variables: [(name: String, bytes: [xmlChar])]
    /// The message that is looked at, during an evaluation.
    private var message: Message?
    /// The variable whose value libxml2 would cut, during an evaluation.
    private var null: NullCharacter?

    init(_ text: String, variables: [String]) throws(NodeError) {
        guard !text.utf8.contains(0) else { throw NodeError("bad-condition", "the character U+0000 is in it") }
        xmlInitParser()
        guard let context = xmlXPathNewContext(nil) else {
            throw NodeError("bad-condition", "libxml2 has no memory to compile the condition")
        }
        // Without a function libxml2 would print errors to the standard error stream.
        windlass_xpath_set_error_function(context, { _, _ in })
        guard let expression = xmlXPathCtxtCompile(context, text) else {
            defer { xmlXPathFreeContext(context) }
            throw Self.error(context)
        }
        self.context = context
        self.expression = expression
        self.variables = variables.map { ($0, Array($0.utf8) + [0]) }
        // Values that an evaluation lets go are kept for the next.
        xmlXPathContextSetCache(context, 1, 32, 0)
        xmlXPathRegisterFunc(context, "version-compare") { XPathEvaluator.compareVersions($0, $1) }
        xmlXPathRegisterVariableLookup(
            context,
            { evaluator, name, _ in XPathEvaluator.of(evaluator)?.value(name) },
            Unmanaged.passUnretained(self).toOpaque()
        )
    }

    deinit {
        xmlXPathFreeCompExpr(self.expression)
        xmlXPathFreeContext(self.context)
    }

    func holds(for message: Message) throws(NodeError) -> Bool {
        self.message = message
        self.null = nil
        defer { self.message = nil }
        windlass_xpath_limit_operations(self.context, Self.operationsMax)
        let result = xmlXPathCompiledEvalToBoolean(self.expression, self.context)
        if let null = self.null { throw null.refusal }
        switch result {
        case 0: return false
        case 1: return true
        default: throw Self.error(self.context)
        }
    }

    private static func of(_ pointer: UnsafeMutableRawPointer?) -> XPathEvaluator? {
        pointer.map { Unmanaged<XPathEvaluator>.fromOpaque($0).takeUnretainedValue() }
    }

    private func value(_ name: UnsafePointer<xmlChar>?) -> xmlXPathObjectPtr? {
        guard let name, let variable = self.variables.first(where: { xmlStrEqual($0.bytes, name) != 0 }) else {
            return nil
        }
        switch self.message?.value(forVariable: variable.name) {
        case nil, .null: return xmlXPathNewCString("")
        case .bool(let value): return xmlXPathNewBoolean(value ? 1 : 0)
        case .integer(let value): return xmlXPathNewFloat(Double(value))
        case .double(let value): return xmlXPathNewFloat(value)
        case .string(let value):
            // What peers send has none; a message that was stored before that was so, or that a plugin made, may.
            if value.utf8.contains(0) { self.null = NullCharacter(in: variable.name) }
            return xmlXPathNewCString(value)
        case .some(let value): return xmlXPathNewCString(value.text)
        }
    }

    private static func compareVersions(_ context: xmlXPathParserContextPtr?, _ argumentsCount: Int32) {
        guard argumentsCount == 2 else {
            xmlXPathErr(context, Int32(XPATH_INVALID_ARITY.rawValue))
            return
        }
        // The last argument is on top.
        let b = self.popString(context)
        let a = self.popString(context)
        valuePush(context, xmlXPathNewFloat(Double(VersionOrder.compare(a, b))))
    }

    private static func popString(_ context: xmlXPathParserContextPtr?) -> String {
        guard let bytes = xmlXPathPopString(context) else { return "" }
        defer { windlass_xml_free(bytes) }
        return String(cString: bytes)
    }

    private static func error(_ context: xmlXPathContextPtr) -> NodeError {
        let error = context.pointee.lastError
        let place = error.int1 > 0 ? " near character \(error.int1 + 1)" : ""
        return NodeError("bad-condition", "\(self.reason(error.code))\(place)")
    }

    private static func reason(_ code: Int32) -> String {
        switch xmlParserErrors(rawValue: UInt32(bitPattern: code)) {
        case XML_XPATH_NUMBER_ERROR: "a number is written wrongly"
        case XML_XPATH_UNFINISHED_LITERAL_ERROR, XML_XPATH_START_LITERAL_ERROR: "a text has no closing quote"
        case XML_XPATH_VARIABLE_REF_ERROR: "a '$' has no name after it"
        case XML_XPATH_UNDEF_VARIABLE_ERROR: "a variable is unknown"
        case XML_XPATH_UNCLOSED_ERROR: "a parenthesis is not closed"
        case XML_XPATH_UNKNOWN_FUNC_ERROR: "a function is unknown"
        case XML_XPATH_INVALID_ARITY: "a function has the wrong number of arguments"
        case XML_XPATH_INVALID_TYPE, XML_XPATH_INVALID_OPERAND: "a value has the wrong type"
        case XML_XPATH_EXPR_ERROR: "it is no XPath 1.0 expression"
        default: "libxml2 reports error \(code)"
        }
    }
}
