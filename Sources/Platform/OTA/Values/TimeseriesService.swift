public import NodeKit

/// Time series of devices.
public protocol TimeseriesService: Sendable {
    /// Gives each point that a device reported in one message the time that it is stored with.
    ///
    /// Points without a time, and those whose time lies further ahead than a device's clock may be, get times of the host: a
    /// millisecond apart, and later than all that the device got before, so that no report takes the place of another. Asked for
    /// each report; waits for nothing.
    ///
    /// - Parameters:
    ///   - points: The points, in order.
    ///   - device: The device.
    ///   - arrival: When the message came.
    /// - Returns: The first of these times, which then is the message's; `arrival` if all points have times of their own.
    func settleTimes(of points: inout [TelemetryPoint], reportedBy device: DeviceId, at arrival: Timestamp) -> Timestamp

    /// Writes points; those without a time get times of the host from `at` on, as ``settleTimes(of:reportedBy:at:)`` gives them.
    func saveTimeseries(of device: DeviceId, _ points: [TelemetryPoint], at: Timestamp) async throws
    /// Begins to write points as ``saveTimeseries(of:_:at:)`` does and returns at once.
    ///
    /// - Throws: ``NodeError`` if they can never be stored.
    func beginSavingTimeseries(
        of device: DeviceId,
        _ points: [TelemetryPoint],
        at: Timestamp
    ) throws -> PendingWrite
    /// The newest entry of each series, those named or all, sorted by key.
    func latestTimeseries(of device: DeviceId, keys: [String]?) async throws -> [TimeseriesEntry]
    /// Entries of one series with `start <= time <= end`, newest first unless `ascending`, at most `limit`.
    func timeseries(
        of device: DeviceId,
        key: String,
        from start: Timestamp,
        to end: Timestamp,
        limit: Int,
        ascending: Bool
    ) async throws -> [TimeseriesEntry]
    /// One entry for each interval in which the series has entries to aggregate, with the time of its middle; oldest first if
    /// `ascending`.
    func timeseries(
        of device: DeviceId,
        key: String,
        in intervals: TimeIntervals,
        aggregation: TimeseriesAggregation,
        ascending: Bool
    ) async throws -> [TimeseriesEntry]
    /// Removes entries of the named series, those within a range of time or all; the newest that remains becomes the latest.
    func deleteTimeseries(of device: DeviceId, keys: [String], in range: ClosedRange<Timestamp>?) async throws
}

extension TimeseriesService {
    /// Leaves the points as they are; those without a time get one when they are saved.
    public func settleTimes(
        of points: inout [TelemetryPoint],
        reportedBy device: DeviceId,
        at arrival: Timestamp
    ) -> Timestamp { arrival }

    /// Writes points when they are waited for.
    public func beginSavingTimeseries(
        of device: DeviceId,
        _ points: [TelemetryPoint],
        at time: Timestamp
    ) throws -> PendingWrite {
        PendingWrite { try await self.saveTimeseries(of: device, points, at: time) }
    }
}
