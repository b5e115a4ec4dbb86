import GRDB
import NodeKit
import OTA

extension EntityStatement {
    /// A condition on a value.
    ///
    /// It is never negated, so `NULL`, which it is for a value that is not there, counts as false.
    mutating func condition(_ predicate: EntityPredicate, on operand: Operand) -> String {
        switch predicate {
        case .text(let operation, let texts, let ignoresCase):
            return self.text(operation, texts, ignoresCase: ignoresCase, operand)
        case .number(let operation, let number):
            guard let columns = number.columns else { return "0" }
            return "(\(operand.kind) IN (1, 2) AND \(operand.value) \(operation.sql) \(self.bind(columns.value)))"
        case .truth(let isEqual, let value):
            return "(\(operand.kind) = 0 AND \(operand.value) \(isEqual ? "=" : "<>") \(self.bind(value ? 1 : 0)))"
        case .all(let parts):
            return "(\(parts.map { self.condition($0, on: operand) }.joined(separator: " AND ")))"
        case .any(let parts):
            return "(\(parts.map { self.condition($0, on: operand) }.joined(separator: " OR ")))"
        }
    }

    private mutating func text(
        _ operation: EntityPredicate.TextOperation,
        _ texts: [String],
        ignoresCase: Bool,
        _ operand: Operand
    ) -> String {
        let texts = ignoresCase ? texts.map { $0.lowercased() } : texts
        let text = texts.first ?? ""
        let length = text.unicodeScalars.count
        let subject = ignoresCase ? Self.folded(operand.value, for: texts) : operand.value
        let comparison: String
        switch operation {
        case .equal: comparison = "\(subject) = \(self.bind(text))"
        case .notEqual: comparison = "\(subject) <> \(self.bind(text))"
        case .startsWith: comparison = "substr(\(subject), 1, \(length)) = \(self.bind(text))"
        // Of a shorter text this is all of it, and therefore another one.
        case .endsWith:
            comparison = length == 0 ? "1" : "substr(\(subject), -\(length)) = \(self.bind(text))"
        case .contains: comparison = "instr(\(subject), \(self.bind(text))) > 0"
        case .notContains: comparison = "instr(\(subject), \(self.bind(text))) = 0"
        case .isIn: comparison = "\(subject) IN (\(texts.map { self.bind($0) }.joined(separator: ", ")))"
        case .notIn: comparison = "\(subject) NOT IN (\(texts.map { self.bind($0) }.joined(separator: ", ")))"
        }
        let present = "(\(operand.kind) = 3 AND \(comparison))"
        let needsValue = EntityPredicate.text(operation, texts, ignoresCase: ignoresCase).needsValue
        return needsValue ? present : "(\(operand.kind) IS NULL OR \(present))"
    }

    /// The value in small letters.
    ///
    /// SQLite's own function knows those of ASCII only, which is enough to compare with texts that have no others, and many times as
    /// fast.
    private static func folded(_ value: String, for texts: [String]) -> String {
        texts.allSatisfy { $0.utf8.allSatisfy { $0 < 0x80 } }
            ? "lower(\(value))" : "\(DatabaseFunction.lowercase.name)(\(value))"
    }
}

extension EntityPredicate.NumberOperation {
    fileprivate var sql: String {
        switch self {
        case .equal: "="
        case .notEqual: "<>"
        case .greater: ">"
        case .less: "<"
        case .greaterOrEqual: ">="
        case .lessOrEqual: "<="
        }
    }
}
