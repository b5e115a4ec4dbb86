public import NodeKit

/// The rules of stored calls.
public enum PersistentCallRules {
    /// The most calls of one device that may wait or be under way.
    public static let deviceCallsMax = 100
    /// The most calls of all devices that may wait or be under way.
    public static let callsMax = 100_000
    /// The most calls of one device that are over and kept; older ones make room.
    public static let finishedCallsMax = 1000

    /// Checks that there is room for another call.
    ///
    /// - Parameters:
    ///   - own: How many calls of the device are not over.
    ///   - all: How many calls of all devices are not over.
    /// - Throws: ``NodeError`` with ``NodeError/Code/tooManyRequests`` if they are too many.
    public static func checkRoom(besides own: Int64, of all: Int64) throws(NodeError) {
        guard own < Self.deviceCallsMax else {
            throw NodeError(
                .tooManyRequests,
                "\(own) calls of this device wait already; delete some, or wait until they are over"
            )
        }
        guard all < Self.callsMax else {
            throw NodeError(.tooManyRequests, "\(all) calls of devices wait already; delete some")
        }
    }
}

extension PersistentCall.Status {
    /// Whether the call is over, and stays as it is.
    public var isOver: Bool {
        switch self {
        case .queued, .sent: false
        case .delivered, .successful, .timeout, .expired, .failed: true
        }
    }
}
