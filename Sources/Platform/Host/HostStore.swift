import Logging
import NodeKit
import OTA
import Store

/// Opens the store of a host; the only place that knows which engine it has.
enum HostStore {
    /// Opens the store that options and settings ask for.
    ///
    /// - Parameters:
    ///   - options: Where it is.
    ///   - settings: How it is kept.
    ///   - sessions: Who is told of changes that concern connected devices.
    ///   - logger: Hears of what an operator should know.
    /// - Returns: The store; whoever opens it closes it.
    /// - Throws: ``NodeError`` with a sentence for the operator.
    static func open(
        _ options: HostOptions,
        _ settings: HostSettings,
        _ sessions: DeviceSessions,
        _ logger: Logger
    ) async throws -> any StoreEngine {
        var storeOptions = SQLiteStore.Options()
        storeOptions.packageStorage = options.packageStorage
        storeOptions.retention = settings.retention
        storeOptions.timestampAheadMax = settings.timestampAheadMax
        storeOptions.isGroupReadable = settings.isGroupReadable
        storeOptions.reserveBytes = settings.reserveBytes
        storeOptions.signingKeyFile = settings.signingKeyFile
        return try await SQLiteStore.open(
            directory: options.data,
            sessions: sessions,
            options: storeOptions,
            logger: logger
        )
    }
}
