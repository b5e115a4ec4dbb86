import NodeKit
import OTA

/// The statements of what devices tell, ready to run on the writer's connection.
final class DeviceStatements: Sendable {
    /// Adds a value of a time series, unless there is one of that time.
    ///
    /// What replaces keeps what it needs to undo the statement, although there hardly ever is anything to replace: that takes half
    /// as long again.
    let newPoint = DirectStatement("INSERT OR IGNORE INTO ts (device, key, ts, kind, value) VALUES (?, ?, ?, ?, ?)")
    let replacingPoint = DirectStatement(
        "INSERT OR REPLACE INTO ts (device, key, ts, kind, value) VALUES (?, ?, ?, ?, ?)"
    )
    let latestState = DirectStatement(LatestState.inserting("VALUES (?, ?, ?, ?, ?)"))
    let attribute = DirectStatement(
        "INSERT OR REPLACE INTO attribute (device, scope, key, kind, value, last_update) VALUES (?, ?, ?, ?, ?, ?)"
    )
    /// The columns of an update record that decide what becomes of it: few, as each report needs them.
    let presentUpdate = DirectStatement(
        """
        SELECT state, title, version, progress, error, failure_cause, queued_time FROM update_record
        WHERE device = ? AND type = ?
        """
    )
    let historyEntry = DirectStatement(
        """
        INSERT INTO update_history (device, type, title, version, state, timestamp, accepted, error)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """
    )
    let completion = DirectStatement(
        "UPDATE update_record SET progress = ?, error = ?, active_time = ? WHERE device = ? AND type = ?"
    )
    private let entering = Dictionary(
        uniqueKeysWithValues: OtaUpdateState.allCases.map { ($0, DirectStatement($0.entering)) }
    )

    /// The statement that puts a record into a state.
    func entering(_ state: OtaUpdateState) -> DirectStatement {
        self.entering[state, default: DirectStatement(state.entering)]
    }

    /// Lets go of what is prepared, as the connection is about to close.
    func forget() {
        for statement in [
            self.newPoint, self.replacingPoint, self.latestState, self.attribute, self.presentUpdate, self.historyEntry,
            self.completion,
        ] + self.entering.values {
            statement.forget()
        }
    }
}
