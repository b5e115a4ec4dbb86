public import NodeKit

/// How much of the audit log is kept.
public struct AuditRetention: Sendable, Hashable {
    /// How long entries are kept; `nil` for ever.
    public var ageMax: Duration? = .seconds(365 * 86_400)
    /// How many entries of one tenant are kept; the oldest go first.
    public var countMax = 100_000

    /// Keeps a year, and 100,000 entries of each tenant.
    public init() {}

    /// Reads what an operator set: `WINDLASS_AUDIT_DAYS` (0 keeps entries for ever) and `WINDLASS_AUDIT_ENTRIES_MAX`.
    ///
    /// - Throws: ``NodeKit/NodeError`` with code `bad-request` if a value is no whole number, or out of range.
    public init(environment: [String: String]) throws(NodeError) {
        self.init()
        if let days = try Self.number("WINDLASS_AUDIT_DAYS", in: 0...36_500, environment) {
            self.ageMax = days == 0 ? nil : .seconds(days * 86_400)
        }
        if let count = try Self.number("WINDLASS_AUDIT_ENTRIES_MAX", in: 1...100_000_000, environment) {
            self.countMax = count
        }
    }

    private static func number(
        _ name: String,
        in range: ClosedRange<Int>,
        _ environment: [String: String]
    ) throws(NodeError) -> Int? {
        guard let text = environment[name], !text.isEmpty else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw NodeError(
                .badRequest,
                "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound), not '\(text)'"
            )
        }
        return number
    }
}

extension SQLiteStore {
    /// How often the audit log is looked through for what is beyond its retention.
    static let auditCleanUpInterval = Duration.seconds(600)
    /// How many of its entries go in one transaction.
    static let auditCleanUpMax = 1000

    /// Keeps the audit log within its retention, until the task is cancelled.
    public func keepAuditLog(within retention: AuditRetention) async throws {
        while !Task.isCancelled {
            while try await self.removeAuditEntries(beyond: retention, countMax: Self.auditCleanUpMax) > 0 {}
            try await Task.sleep(for: Self.auditCleanUpInterval)
        }
    }
}
