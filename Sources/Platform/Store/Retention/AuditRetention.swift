/// How much of the audit log is kept.
public struct AuditRetention: Sendable, Hashable {
    /// How long entries are kept; `nil` for ever.
    public var ageMax: Duration?
    /// How many entries of one tenant are kept; the oldest go first.
    public var countMax: Int

    /// Keeps a year, and 100,000 entries of each tenant, unless told otherwise.
    public init(ageMax: Duration? = .seconds(365 * 86_400), countMax: Int = 100_000) {
        self.ageMax = ageMax
        self.countMax = countMax
    }
}

extension SQLiteStore {
    /// How often the audit log is looked through for what is beyond its retention.
    static let auditCleanUpInterval = Duration.seconds(600)
    /// How many of its entries go in one transaction.
    static let auditCleanUpMax = 1000

    /// Keeps the audit log within its retention, until the task is cancelled.
    ///
    /// What fails, as on a full disk, is tried again the next time.
    public func keepAuditLog(within retention: AuditRetention) async {
        while !Task.isCancelled {
            await self.housework.attempt(.audit) {
                while try await self.removeAuditEntries(beyond: retention, countMax: Self.auditCleanUpMax) > 0 {}
            }
            try? await self.clock.sleep(for: Self.auditCleanUpInterval)
        }
    }
}
