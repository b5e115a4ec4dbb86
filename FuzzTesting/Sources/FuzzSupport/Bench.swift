import FoundationEssentials
import Logging
import NIOCore
public import NIOEmbedded
public import NodeKit
public import NodeTesting
public import OTA

/// What an ingress node works with, on one thread and with time standing still: two devices, and a chain that answers.
///
/// Everything happens on the embedded event loop, the tasks that answer requests included, so that the same input always
/// does the same.
public final class Bench {
    /// The devices, by their access tokens `A` and `B`.
    public static let devices = [
        "A": Originator(id: UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)), name: "a", type: "default"),
        "B": Originator(id: UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)), name: "b", type: "default"),
    ]

    /// Where everything runs.
    public let eventLoop = EmbeddedEventLoop()
    /// Who listens on behalf of the devices.
    public let sessions = DeviceSessions()
    /// The chain, which remembers what it was sent.
    public let outlet = TestOutlet(atOnce: Bench.answer)

    /// Sets up.
    public init() {}

    /// What the node is lent.
    public var services: NodeServices {
        var registry = ServiceRegistry()
        registry.register(Authenticator(), as: (any DeviceAuthenticator).self)
        registry.register(Packages(), as: (any OtaPackageService).self)
        registry.register(self.sessions, as: DeviceSessions.self)
        return NodeServices(
            chain: "fuzz",
            node: "node",
            logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() },
            eventLoopGroup: self.eventLoop,
            now: { Timestamp(milliseconds: 1_700_000_000_000) },
            registry: registry
        )
    }

    /// Tells whoever listens for the first device something of each kind but the last, which ends sessions.
    public func notify(_ choice: UInt8) {
        let notification: DeviceNotification =
            switch choice % 4 {
            case 0: .attributesUpdated(JSON.Object([("fw_title", "T"), ("fw_version", "1")]))
            case 1: .attributesDeleted(["a", "b"])
            case 2: .rpcRequest(id: 7, method: "reboot", params: ["delay": 1])
            default: .credentialsRevoked
            }
        for device in Self.devices.values.sorted(by: { $0.name < $1.name }).prefix(1) {
            self.sessions.notify(device.id, notification)
        }
        self.eventLoop.run()
    }

    /// How many still listen on behalf of any device.
    public var listenersCount: Int {
        Self.devices.values.reduce(0) { $0 + self.sessions.notify($1.id, .attributesDeleted([])) }
    }

    /// Waits for something that needs the event loop to run.
    public func wait<Value: Sendable>(
        _ body: @escaping @Sendable () async throws -> Value
    ) -> Value {
        let executor = EventLoopTaskExecutor(self.eventLoop)
        let promise = self.eventLoop.makePromise(of: Value.self)
        promise.completeWithTask(on: executor, body)
        self.eventLoop.run()
        var result: Result<Value, any Error>?
        promise.futureResult.assumeIsolated().whenComplete { result = $0 }
        guard case .success(let value)? = result else {
            fatalError("the node could not be made: \(String(describing: result))")
        }
        return value
    }
}

extension EventLoopPromise where Value: Sendable {
    fileprivate func completeWithTask(
        on executor: EventLoopTaskExecutor,
        _ body: @escaping @Sendable () async throws -> Value
    ) {
        Task(executorPreference: executor) {
            do { self.succeed(try await body()) } catch { self.fail(error) }
        }
    }
}
