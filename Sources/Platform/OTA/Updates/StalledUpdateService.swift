public import NodeKit

/// Updates whose devices have reported nothing for too long.
public protocol StalledUpdateService: Sendable {
    /// Updates that are in a state and have not changed since a time, those that stalled first coming first.
    func stalledUpdates(in state: OtaUpdateState, since: Timestamp, limit: Int) async throws -> [StalledUpdate]
    /// The chain has handled a stalled update: its time starts over now, if it has not changed meanwhile.
    func toldStalled(_ update: StalledUpdate) async throws
}
