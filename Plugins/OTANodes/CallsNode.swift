public import NodeKit
import OTA

/// Sends one message for each call of a device that somebody makes over the REST API: `RPC_CALL_FROM_SERVER_TO_DEVICE`.
///
/// What the chain replies is what the caller gets.
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
        variables: [
            VariableDescriptor(MessageKey.method, "The method that is called."),
            VariableDescriptor(MessageKey.oneWay, "Whether the caller wants no answer of the device."),
            VariableDescriptor(MessageKey.expirationTime, "When the call times out, in milliseconds since 1970."),
        ]
    )

    private let calls: DeviceCalls
    private let now: @Sendable () -> Timestamp

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.calls = try services.require(DeviceCalls.self)
        self.now = services.now
    }

    /// Hands on calls until its task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        await self.calls.carry { call in await outlet.send(self.message(for: call)) }
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
