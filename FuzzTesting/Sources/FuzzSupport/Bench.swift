import FoundationEssentials
import NIOCore
public import NIOEmbedded
public import NodeKit
public import NodeTesting
import OTA

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
    private let domain: TestDomain

    /// Sets up.
    public init() { self.domain = Self.wait(on: self.eventLoop) { try await Self.domain() } }

    /// The devices, the first of them in memory as far as it can be, and firmware for all.
    private static func domain() async throws -> TestDomain {
        let domain = try TestDomain()
        for (token, device) in self.devices.sorted(by: { $0.key < $1.key }) {
            try await domain.add(device, accessToken: token)
        }
        let package = try await domain.package("T", "1")
        try await domain.assign(package.id, to: try await domain.store.defaultDeviceProfile(of: .main).id)
        guard let first = try await domain.store.device(accessToken: "A") else { return domain }
        for type in OtaPackageType.allCases {
            _ = try await domain.store.effectivePackage(for: DeviceId(first.id), type: type)
        }
        return domain
    }

    /// What the node is lent.
    public var services: NodeServices {
        var services = self.domain.services {
            $0.register(AwayAuthenticator(before: self.domain), as: (any DeviceAuthenticator).self)
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
            self.domain.sessions.notify(device.id, notification)
        }
        self.eventLoop.run()
    }

    /// How many still listen on behalf of any device.
    public var listenersCount: Int {
        Self.devices.values.reduce(0) { $0 + self.domain.sessions.notify($1.id, .attributesDeleted([])) }
    }

    /// Waits for something that needs the event loop to run.
    public func wait<Value: Sendable>(
        _ body: @escaping @Sendable () async throws -> Value
    ) -> Value {
        Self.wait(on: self.eventLoop, body)
    }

    private static func wait<Value: Sendable>(
        on eventLoop: EmbeddedEventLoop,
        _ body: @escaping @Sendable () async throws -> Value
    ) -> Value {
        let executor = EventLoopTaskExecutor(eventLoop)
        let promise = eventLoop.makePromise(of: Value.self)
        promise.completeWithTask(on: executor, body)
        eventLoop.run()
        var result: Result<Value, any Error>?
        promise.futureResult.assumeIsolated().whenComplete { result = $0 }
        guard case .success(let value)? = result else {
            fatalError("what is waited for does not come: \(String(describing: result))")
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
