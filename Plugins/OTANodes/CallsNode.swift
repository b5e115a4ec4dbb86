import Logging
public import NodeKit
import OTA

/// Sends one message for each call of a device that somebody makes over the REST API: `RPC_CALL_FROM_SERVER_TO_DEVICE`.
///
/// What the chain replies is what the caller gets. Calls that are stored (ThingsBoard's persistent RPC) start here as soon as their
/// device listens for calls, those of one device one after the other and at least once; what the chain replies is stored.
///
/// | Relation  | When                            |
/// |-----------|---------------------------------|
/// | `Success` | Somebody calls a device.        |
public struct CallsNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "calls",
        summary: "Sends one message for each call of a device that somebody makes over the REST API.",
        relations: [RelationDescriptor(.success, "Somebody calls a device (RPC_CALL_FROM_SERVER_TO_DEVICE).")],
        attributes: [
            .integer(
                "stored-in-flight-max",
                default: 1000,
                in: 1...100_000,
                summary: "To how many devices stored calls are carried side by side."
            )
        ],
        variables: [
            VariableDescriptor(MessageKey.method, "The method that is called."),
            VariableDescriptor(MessageKey.oneWay, "Whether the caller wants no answer of the device."),
            VariableDescriptor(MessageKey.expirationTime, "When the call times out, in milliseconds since 1970."),
            VariableDescriptor(MessageKey.callId, "The identifier of a stored call; empty for others."),
        ]
    )

    private let calls: DeviceCalls
    private let carrier: PersistentCallCarrier?
    private let clock: any Clock<Duration>
    private let now: @Sendable () -> Timestamp
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.calls = try services.require(DeviceCalls.self)
        self.clock = services.clock
        self.now = services.now
        self.logger = services.logger
        // A host may do without a store of calls.
        let store = try? services.require((any PersistentCallService).self)
        self.carrier = try store.map { store in
            PersistentCallCarrier(
                store: store,
                sessions: try services.require(DeviceSessions.self),
                inFlightMax: Int(configuration.integer("stored-in-flight-max")),
                clock: services.clock,
                now: services.now,
                tasks: services.tasks,
                logger: services.logger
            )
        }
    }

    /// Hands on calls until its task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        await withDiscardingTaskGroup { group in
            if let carrier = self.carrier { group.addTask { await self.carryStored(carrier, outlet) } }
            // Ends when the task is cancelled, as does the other.
            await self.calls.carry { call in await outlet.send(self.message(for: call)) }
        }
    }

    /// Carries stored calls whenever no other node does, until the task is cancelled.
    private func carryStored(_ carrier: PersistentCallCarrier, _ outlet: any Outlet) async {
        while !Task.isCancelled {
            if self.calls.beginCarryingStored() {
                defer { self.calls.endCarryingStored() }
                do {
                    try await carrier.run(outlet)
                } catch  where !Task.isCancelled {
                    // Calls that are not stored go on; what was under way comes again.
                    self.logger.error("stored calls are not carried for a moment", metadata: ["error": "\(error)"])
                } catch {
                    return
                }
            }
            // Cancellation shows in the loop's condition.
            try? await self.clock.sleep(for: PersistentCallCarrier.expiryInterval)
        }
    }

    private func message(for call: RemoteCall) -> Message {
        let now = self.now()
        return Message(
            originator: call.device,
            type: .rpcCallFromServerToDevice,
            metadata: [
                MessageKey.method: .string(call.method),
                MessageKey.oneWay: .bool(call.isOneWay),
                MessageKey.expirationTime: .integer(now.adding(call.timeout).rawValue),
            ],
            data: .json(call.params),
            timestamp: now
        )
    }
}
