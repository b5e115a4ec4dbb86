import NodeKit
import OTA

/// Which part of the history of time series a request asks for, and whether as it is or aggregated.
struct HistoryQuery: Sendable {
    /// How many entries of a series are answered unless the client says otherwise.
    static let limitDefault: Int64 = 100
    /// The numbers of entries of a series that may be asked for.
    static let limits: ClosedRange<Int64> = 1...50_000

    /// What the query of a history may say, for the document of the API.
    static func parameters(areRequired: Bool) -> [Operation.Parameter] {
        [
            .integer("startTs", "The first time, in milliseconds", required: areRequired),
            .integer("endTs", "The time before which it ends, in milliseconds", required: areRequired),
            .integer(
                "limit",
                "The most entries of a series that is not aggregated; \(Self.limitDefault) if left out",
                in: Self.limits
            ),
            .choice(
                "agg",
                "How the entries of an interval become one",
                of: ["NONE"] + TimeseriesAggregation.allCases.map(\.rawValue)
            ),
            .integer(
                "interval",
                "The length of an interval in milliseconds; nothing is aggregated if it is 0",
                in: 0...Int64.max
            ),
            .choice("intervalType", "What an interval is measured in", of: ["MILLISECONDS"]),
            .choice("orderBy", "The oldest or the newest first", of: ["ASC", "DESC"]),
        ]
    }

    private enum Form {
        /// So many entries as they are.
        case entries(limit: Int64)
        /// One for each interval.
        case aggregated(TimeseriesAggregation, TimeIntervals)
    }

    private let start: Timestamp
    private let end: Timestamp
    private let form: Form
    private let ascending: Bool

    /// Reads `startTs`, `endTs`, `limit`, `agg`, `interval` and `orderBy`.
    ///
    /// - Throws: ``APIError`` or ``NodeError`` with what is wrong.
    init(_ request: APIRequest) throws {
        guard let start = try request.queryInteger("startTs") else { throw APIError.missing(parameter: "startTs") }
        guard let end = try request.queryInteger("endTs") else { throw APIError.missing(parameter: "endTs") }
        self.start = Timestamp(milliseconds: start)
        self.end = Timestamp(milliseconds: end)
        let ascending = try request.isAscending("orderBy")
        let interval = try request.queryInteger("interval") ?? 0
        let type = request.queryText("intervalType")?.uppercased() ?? "MILLISECONDS"
        guard type == "MILLISECONDS" else {
            throw APIError.badRequest("Interval type '\(type)' is not supported; use MILLISECONDS with 'interval'")
        }
        // As in ThingsBoard: without an interval there is nothing to aggregate, and with one the limit does not matter.
        if let aggregation = try Self.aggregation(request), interval != 0 {
            self.form = .aggregated(aggregation, try TimeIntervals(from: self.start, to: self.end, length: interval))
            self.ascending = ascending ?? true
        } else {
            let limit = try request.queryInteger("limit") ?? Self.limitDefault
            guard Self.limits.contains(limit) else {
                throw APIError.badRequest(
                    "Parameter 'limit' must be between \(Self.limits.lowerBound) and \(Self.limits.upperBound), not \(limit)"
                )
            }
            self.form = .entries(limit: limit)
            self.ascending = ascending ?? false
        }
    }

    private static func aggregation(_ request: APIRequest) throws -> TimeseriesAggregation? {
        let name = request.queryText("agg")?.uppercased() ?? "NONE"
        guard name != "NONE" else { return nil }
        guard let aggregation = TimeseriesAggregation(rawValue: name) else {
            let known = TimeseriesAggregation.allCases.map(\.rawValue).joined(separator: ", ")
            throw APIError.badRequest("'\(name)' is no aggregation; known are NONE, \(known)")
        }
        return aggregation
    }

    /// What is asked for of one series.
    func entries(of key: String, of device: DeviceId, _ timeseries: any TimeseriesService) async throws
        -> [TimeseriesEntry]
    {
        switch self.form {
        case .aggregated(let aggregation, let intervals):
            return try await timeseries.timeseries(
                of: device,
                key: key,
                in: intervals,
                aggregation: aggregation,
                ascending: self.ascending
            )
        case .entries(let limit):
            // The end is not within the span of time; what is before all time has no end before it.
            guard self.end.rawValue > .min else { return [] }
            return try await timeseries.timeseries(
                of: device,
                key: key,
                from: self.start,
                to: Timestamp(milliseconds: self.end.rawValue - 1),
                limit: Int(limit),
                ascending: self.ascending
            )
        }
    }
}
