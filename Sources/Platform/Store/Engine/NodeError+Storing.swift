import GRDB
import NodeKit

extension NodeError {
    /// Says what an error of the database means to who asked for it.
    ///
    /// Holds neither SQL nor arguments.
    init(storing error: any Error) {
        guard let error = error as? DatabaseError else {
            self.init(wrapping: error)
            return
        }
        let text = error.message ?? "no reason given"
        switch error.resultCode {
        case .SQLITE_FULL:
            self.init(
                .storageFull,
                "the database cannot grow: the disk is full; make room in the data folder",
                cause: error
            )
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self.init(
                .unavailable,
                "another program keeps the database locked (\(text)); end that program, then try again",
                cause: error
            )
        case .SQLITE_MISUSE:
            self.init(.unavailable, GroupCommitWriter.closed, cause: error)
        case .SQLITE_CONSTRAINT where text.hasPrefix("UNIQUE"):
            self.init(
                .conflict,
                "nothing was saved, since there is another with the same identifier (\(text))",
                cause: error
            )
        default:
            self.init(
                .internalError,
                "the database failed: \(text) (SQLite code \(error.resultCode.rawValue))",
                cause: error
            )
        }
    }
}
