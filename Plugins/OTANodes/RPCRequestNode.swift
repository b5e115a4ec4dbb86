public import NodeKit
import OTA

/// Calls a method of the device by its sessions, and waits for the answer unless the call is one way.
///
/// The data is the parameters; afterwards it is what the device answered, which is also the reply. A device that is not
/// connected, such as one that polls and is between two polls, has until the call times out to take it.
///
/// A message that waits here holds up whoever waits for *it*: a device's own message must not wait for the same device, whose
/// answer would come behind it. Let it pass a `throttle` first.
///
/// | Relation       | When                                                                            |
/// |----------------|---------------------------------------------------------------------------------|
/// | `Success`      | The device answered, or one way: a session of it took the call.                 |
/// | `NotConnected` | No session of it took the call; the reply is `device-not-connected`.            |
/// | `TimedOut`     | It did not answer in time; the reply is `timed-out`.                            |
/// | `Failure`      | No method, parameters that are no JSON, an answer that is none, too many calls. |
public struct RPCRequestNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "rpc-request",
        summary: "Calls a method of the device, with the data as its parameters, and waits for the answer.",
        relations: [
            RelationDescriptor(.success, "The device answered, or one way: a session of it took the call."),
            RelationDescriptor(
                "NotConnected",
                "No session of the device took the call; the reply is 'device-not-connected'."
            ),
            RelationDescriptor("TimedOut", "The device did not answer in time; the reply is 'timed-out'."),
            RelationDescriptor(
                .failure,
                "The message names no method, its data or the answer is no JSON, or too many calls are under way."
            ),
        ],
        attributes: [
            .string(
                "method",
                optional: true,
                summary: "The method to call; without it the message's 'method' decides."
            ),
            .boolean(
                "one-way",
                default: false,
                summary: "Whether no answer is waited for; a message from 'calls' says so itself."
            ),
            .duration(
                "timeout-seconds",
                .seconds,
                default: 10,
                in: 1...3600,
                summary: "How long the call may take; a message from 'calls' says so itself."
            ),
            .boolean(
                "wait-for-device",
                default: true,
                summary: "Whether a device that is not connected has until the call times out to take it."
            ),
        ]
    )

    private let method: String?
    private let isOneWay: Bool
    private let timeout: Duration
    private let waitsForDevice: Bool
    private let calls: DeviceCalls
    private let stored: (any PersistentCallService)?
    private let clock: any Clock<Duration>
    private let now: @Sendable () -> Timestamp

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.method = configuration.stringIfPresent("method")
        self.isOneWay = configuration.boolean("one-way")
        self.timeout = configuration.duration("timeout-seconds")
        self.waitsForDevice = configuration.boolean("wait-for-device")
        self.calls = try services.require(DeviceCalls.self)
        // Not needed where no calls are stored.
        self.stored = try? services.require((any PersistentCallService).self)
        self.clock = services.clock
        self.now = services.now
    }

    /// Calls the device and sets the reply.
    public func process(_ message: Message) async throws -> Emission {
        let call = try self.call(message)
        do throws(NodeError) {
            let id = message.metadata.string(MessageKey.callId).flatMap(PersistentCallId.init)
            let answer = try await self.calls.ask(
                call,
                waitsForDevice: self.waitsForDevice,
                clock: self.clock,
                onTaken: { [stored] in if let id { stored?.noteTaken(id) } }
            )
            guard let answer else { return .route(message.replying(.empty), to: .success) }
            var message = message
            message.data = .json(answer)
            return .route(message.replying(.json(answer)), to: .success)
        } catch {
            switch error.code {
            case .deviceNotConnected: return .route(message.replying(.refused(error)), to: "NotConnected")
            case .timedOut: return .route(message.replying(.refused(error)), to: "TimedOut")
            default: throw error
            }
        }
    }

    private func call(_ message: Message) throws(NodeError) -> RemoteCall {
        guard let method = self.method ?? message.metadata.string(MessageKey.method), !method.isEmpty else {
            throw NodeError(
                .badRequest,
                "the message '\(message.type)' names no method; set 'method' on the node, or in the metadata"
            )
        }
        let params: JSON
        switch message.data {
        case .none: params = .null
        case .json(let value): params = value
        case .bytes: throw NodeError(.badRequest, "the parameters of a call must be JSON")
        }
        // What counts is the time that is left: the message may have waited on its way.
        let expiration = message.metadata.integer(MessageKey.expirationTime).map(Timestamp.init(milliseconds:))
        return RemoteCall(
            device: message.originator,
            method: method,
            params: params,
            isOneWay: message.metadata[MessageKey.oneWay]?.bool ?? self.isOneWay,
            timeout: expiration.map { max(.zero, self.now().duration(to: $0)) } ?? self.timeout
        )
    }
}
