import FoundationEssentials
import NodeKit
import OTA
import Store
import Testing

/// All services of the domain in one value, as the engines here are made.
typealias EngineServices = StoreEngine & OtaPackageService & DeviceService & DeviceProfileService
    & DeviceCredentialsService & DeviceAuthenticator & DeviceProvisioningService & AttributesService & TimeseriesService
    & UpdateService & UpdateControlService & StalledUpdateService & UpdateRetryService & UpdateEventService
    & EntityQueryService & PersistentCallService & TenantService & UserService & ApiKeyService & AuditService
    & MessageQueues

/// An engine that the suite runs over; each test has it as its parameter.
struct EngineUnderTest: Sendable, CustomTestStringConvertible {
    /// Opens the engine with its data in a folder.
    typealias Opener =
        @Sendable (
            _ folder: String, _ sessions: DeviceSessions, _ now: @escaping @Sendable () -> Timestamp
        ) async throws -> any EngineServices

    let testDescription: String
    /// Whether what it stored is there when it is opened again, also after a crash.
    let isDurable: Bool
    let open: Opener
    /// Looks for what must not be stored, and says so.
    let check: @Sendable (any EngineServices) async throws -> [String]

    /// All engines.
    static let all = [
        EngineUnderTest(
            testDescription: "SQLite on disk",
            isDurable: true,
            open: { folder, sessions, now in
                try await SQLiteStore.open(directory: "\(folder)/data", sessions: sessions, now: now)
            },
            check: Self.checkSQLite
        ),
        EngineUnderTest(
            testDescription: "SQLite in memory",
            isDurable: false,
            open: { _, sessions, now in
                try SQLiteStore.inMemory(sessions: sessions, clock: ContinuousClock(), now: now)
            },
            check: Self.checkSQLite
        ),
    ]

    /// Those whose data can be opened again.
    static let durable = Self.all.filter(\.isDurable)

    private static let checkSQLite: @Sendable (any EngineServices) async throws -> [String] = { engine in
        try await (engine as? SQLiteStore)?.check() ?? ["the engine is not SQLite"]
    }
}
