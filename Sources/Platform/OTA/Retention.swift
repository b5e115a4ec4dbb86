/// How long a store keeps what grows by itself, and how much of it; `nil` means forever, or any number.
///
/// Calls of devices and ended logins have limits of their own, which are kept as they are written.
public struct Retention: Sendable, Hashable {
    /// How old an entry of a time series may get.
    ///
    /// The newest of each series is kept however old it is: it is the device's present value.
    public var timeseriesAge: Duration?
    /// How many entries a series of a device may have, at least 1.
    public var timeseriesCount: Int?
    /// How old a line of an update history may get.
    ///
    /// How a device came to its present state is kept however old it is.
    public var historyAge: Duration?
    /// How old an entry of the audit log may get.
    public var auditAge: Duration?
    /// How many entries of the audit log a tenant may have; the oldest go first.
    public var auditCount: Int

    /// Keeps everything forever but the audit log: of that a year, and 100,000 entries of each tenant.
    public init(
        timeseriesAge: Duration? = nil,
        timeseriesCount: Int? = nil,
        historyAge: Duration? = nil,
        auditAge: Duration? = .seconds(365 * 86_400),
        auditCount: Int = 100_000
    ) {
        self.timeseriesAge = timeseriesAge
        self.timeseriesCount = timeseriesCount
        self.historyAge = historyAge
        self.auditAge = auditAge
        self.auditCount = auditCount
    }
}
