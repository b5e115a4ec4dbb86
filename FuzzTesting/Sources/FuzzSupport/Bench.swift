import FoundationEssentials
import NIOCore
public import NIOEmbedded
import NIOPosix
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
    /// The chain, which remembers what it was sent.
    public let outlet = TestOutlet(atOnce: Bench.answer)
    /// Who listens on behalf of the devices.
    public let sessions = DeviceSessions()

    /// The devices and their firmware.
    ///
    /// All benches share them: they take long to make, and no node that is tested writes.
    private static let domain = Bench.elsewhere {
        let domain = try TestDomain()
        for (token, device) in devices { try await domain.add(device, accessToken: token) }
        let package = try await domain.package("T", "1")
        try await domain.assign(package.id, to: try await domain.store.defaultDeviceProfile(of: .main).id)
        return domain
    }

    /// Sets up: of the first device all is in memory, of the second nothing, whatever was read for another bench.
    public init() {
        Self.elsewhere {
            let store = Self.domain.store
            for (token, device) in Self.devices {
                let id = DeviceId(device.id)
                if token == "A" {
                    _ = try await store.device(accessToken: token)
                    _ = try await store.transport(of: device)
                    for type in OtaPackageType.allCases { _ = try await store.effectivePackage(for: id, type: type) }
                } else {
                    // What is saved is forgotten.
                    try await Self.domain.assign(nil, to: id)
                }
            }
        }
    }

    /// Does something on other threads, which are done with it when this returns.
    private static func elsewhere<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) -> Value {
        do {
            return try MultiThreadedEventLoopGroup.singleton.any().makeFutureWithTask(body).wait()
        } catch {
            fatalError("the devices could not be made ready: \(error)")
        }
    }

    /// What the node is lent.
    public var services: NodeServices {
        var services = Self.domain.services {
            $0.register(AwayAuthenticator(before: Self.domain), as: (any DeviceAuthenticator).self)
            $0.register(self.sessions, as: DeviceSessions.self)
        }
        services.eventLoopGroup = self.eventLoop
        return services
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
