public import NodeKit

/// The rules of attributes and time series, with the sentences that ThingsBoard answers when one is broken.
public enum ValueRules {
    /// Checks the names of attributes or time series; asked for each report.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if one is empty, or longer than ``EntityRules/textLengthMax``.
    public static func checkKeys(_ values: JSON.Object) throws(NodeError) {
        for (key, _) in values.members {
            guard !key.isEmpty else { throw EntityRules.broken("Key can't be empty!") }
            try EntityRules.checkLength(key, of: "key")
        }
    }

    /// Whether the time of a point that a device reports lies too far ahead.
    ///
    /// - Parameters:
    ///   - time: The time that the device gives.
    ///   - now: The time by the host's clock.
    ///   - max: How far it may be ahead; `nil` for any distance.
    /// - Returns: Whether the host's own time counts in its place.
    public static func isTooFarAhead(_ time: Timestamp, of now: Timestamp, max: Duration?) -> Bool {
        max.map { time > now.adding($0) } ?? false
    }

    /// The error of points without a time for which there are no times of the host, a millisecond apart.
    ///
    /// - Parameters:
    ///   - count: How many points the device reported at once.
    ///   - max: How far ahead of the clock the last of them may be, in milliseconds.
    /// - Returns: The error: ``NodeError/Code/tooLarge`` for a report that is too long by itself, else
    ///   ``NodeError/Code/tooManyRequests``.
    public static func tooManyPoints(_ count: Int, aheadMax max: Int64) -> NodeError {
        guard count <= max else {
            return NodeError(
                .tooLarge,
                "\(count) points without a 'ts' are too many for one report, at most \(max); send fewer, or with a 'ts'"
            )
        }
        return NodeError(
            .tooManyRequests,
            """
            the device reported so many points without a 'ts' that their times, a millisecond apart, would be more than \
            \(max / 1000) s ahead of the clock; report more slowly, or with a 'ts'
            """
        )
    }
}
