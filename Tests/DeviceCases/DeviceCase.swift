public import NodeKit
public import OTA

/// A request of a device in parts, and what must come of it over every transport.
///
/// The tests of each ingress node send ``request`` over a real socket, answer with ``outcome`` in place of a chain, and
/// compare what the chain was sent and what the device got.
public struct DeviceCase: Sendable, CustomStringConvertible {
    /// What the device sends.
    public enum Request: Sendable {
        /// Time series: the body.
        case telemetry(String)
        /// Client attributes: the body.
        case attributes(String)
        /// Asks for attributes: names joined by commas, as query values or members of a body.
        case attributeRequest(clientKeys: String?, sharedKeys: String?)
        /// Calls a method of the server: the body; the identifier is 0.
        case serverCall(String)
        /// Answers a call: its identifier and the body.
        case callAnswer(id: String, String)
        /// Lets itself be claimed: the body.
        case claim(String)
        /// Asks to become a device: the body.
        case provisioning(String)
        /// Asks for bytes: index and size, as query values or a topic level and a body.
        ///
        /// Where title and version are required, they are `t` and `v`.
        case package(OtaPackageType, chunk: String, size: String)
    }

    /// The message that the chain must see.
    public struct Expected: Sendable {
        /// Its type.
        public var type: MessageType
        /// Its metadata but for the transport, and for title and version where they are required.
        public var metadata: JSON.Object
        /// Its data.
        public var data: MessageData
        /// The name of its originator if that is not a device; `nil` for the device that is connected.
        public var unknownName: String?

        /// Whether a message over a transport is this one.
        public func matches(_ message: Message, from device: Originator, over transport: String) -> Bool {
            var metadata = message.metadata.object
            let isHere = metadata[MessageKey.transport] == .string(transport)
            metadata[MessageKey.transport] = nil
            if metadata[MessageKey.title] == "t", metadata[MessageKey.version] == "v" {
                metadata[MessageKey.title] = nil
                metadata[MessageKey.version] = nil
            }
            return isHere && message.type == self.type && metadata == self.metadata && message.data == self.data
                && message.originator == (self.unknownName.map(Originator.unknown) ?? device)
        }
    }

    /// What the device gets.
    public enum Answer: Sendable {
        /// An acknowledgement.
        case empty
        /// A JSON value.
        case json(JSON)
        /// The status of a code, with a sentence where the transport has a place for it.
        case fault(NodeError.Code, String)
    }

    /// What the device sends.
    public var request: Request
    /// What the chain must see; `nil` if the request must not reach it.
    public var message: Expected?
    /// What the chain answers.
    public var outcome: Outcome
    /// What the device gets.
    public var answer: Answer

    /// The request, and the code of the answer if it is a fault.
    public var description: String {
        guard case .fault(let code, _) = self.answer else { return "\(self.request)" }
        return "\(self.request): \(code)"
    }

    /// A request that becomes a message.
    static func passes(
        _ request: Request,
        _ type: MessageType,
        _ metadata: JSON.Object = [:],
        _ data: MessageData = .none,
        unknownName: String? = nil,
        outcome: Outcome = .completed(.empty),
        answer: Answer = .empty
    ) -> DeviceCase {
        let message = Expected(type: type, metadata: metadata, data: data, unknownName: unknownName)
        return DeviceCase(request: request, message: message, outcome: outcome, answer: answer)
    }

    /// A request that is refused before it reaches the chain.
    static func refused(_ request: Request, _ sentence: String) -> DeviceCase {
        DeviceCase(request: request, message: nil, outcome: .completed(.empty), answer: .fault(.badRequest, sentence))
    }

    /// The same request, whose message the chain answers otherwise.
    func answered(_ outcome: Outcome, _ answer: Answer) -> DeviceCase {
        var copy = self
        copy.outcome = outcome
        copy.answer = answer
        return copy
    }
}
