import IngressKit
import NIOCore
import NodeKit
import OTA

/// What a request gets: how it is acknowledged, and a message that answers it.
struct Answer: Sendable {
    /// A message to the device.
    struct Response: Sendable {
        /// What it carries.
        enum Body: Sendable {
            case bytes(ByteBuffer)
            case content(ContentReply)
        }

        var topic: String
        var body: Body
    }

    /// How a message is acknowledged.
    struct Outcome: Sendable {
        var reason: ReasonCode
        /// What went wrong, for the log.
        var explanation: String?
        /// What went wrong, for a client of MQTT 5.
        var told: String?
        /// Whether a client that cannot be told of a failure goes on as if there was none.
        var isTolerable = false

        static let success = Outcome(reason: .success)
    }

    var outcome: Outcome
    var response: Response?
    /// Whether the session is of no use any more.
    var endsSession = false

    static let done = Answer(outcome: .success)

    static func failure(_ error: NodeError) -> Answer {
        let reason = ReasonCode(error.code)
        let told = reason == .unspecifiedError ? nil : DeviceProtocol.told(error).message
        var outcome = Outcome(reason: reason, explanation: error.description, told: told)
        // Sent again it would be refused again, and a client that is cut off for it sends it again.
        outcome.isTolerable = error.isNullCharacter
        return Answer(outcome: outcome)
    }

    /// The message is refused or means nothing here; a client that cannot be told of that need not know.
    static func ignored(_ reason: ReasonCode, _ explanation: String) -> Answer {
        Answer(outcome: Outcome(reason: reason, explanation: explanation, told: explanation, isTolerable: true))
    }

    static func response(_ topic: String, _ bytes: ByteBuffer, explanation: String? = nil) -> Answer {
        Answer(
            outcome: Outcome(reason: .success, explanation: explanation),
            response: Response(topic: topic, body: .bytes(bytes))
        )
    }
}

extension ReasonCode {
    /// How MQTT 5 acknowledges a message that met this failure; one of the codes of PUBACK (§3.4.2.1).
    init(_ code: NodeError.Code) {
        switch code {
        case .badRequest: self = .payloadFormatInvalid
        case .unauthorized, .forbidden: self = .notAuthorized
        case .tooLarge, .tooManyRequests, .storageFull: self = .quotaExceeded
        case .notFound, .conflict, .unavailable, .timedOut: self = .implementationSpecificError
        default: self = .unspecifiedError
        }
    }
}

/// Turns the requests of one device into messages for the chain, and what the chain answers into answers.
///
/// Belongs to one connection, which asks for one answer at a time.
final class DeviceRequests {
    /// How far a request came at once.
    typealias Begun = Step<Answer, Wait>

    /// What a request waits for; the rest is done by ``DeviceRequests/finish(_:after:)``.
    ///
    /// No ``Suspension``, as what goes on belongs to one event loop.
    enum Wait: Sendable {
        case chain(Suspension<Outcome>, Aim)
        /// The package that a download begins with.
        case package(ChunkRequest)
        /// Bytes that are not in memory.
        case bytes(ContentReply, topic: String)
    }

    /// What a message to the chain is to bring.
    enum Aim: Sendable {
        /// That it is done.
        case report
        case claim
        case attributes(topic: String)
        case call(topic: String)
        /// Bytes of a package; `isElsewhere` if the one that there is has none here.
        case chunk(topic: String, isElsewhere: Bool)
    }

    let device: Originator
    let services: ConnectionServices
    private let session = SessionNumber()
    /// Whether a payload that makes no sense is acknowledged in MQTT 3.1.1, as the device's profile may say.
    private let acknowledgesBadPayloads: Bool
    var downloads = Downloads()

    init(device: Originator, services: ConnectionServices, acknowledgesBadPayloads: Bool = false) {
        self.device = device
        self.services = services
        self.acknowledgesBadPayloads = acknowledgesBadPayloads
    }

    /// Carries a request out.
    ///
    /// Returns when the chain is done with it and what it stored is stored.
    func answer(_ request: Session.Request) async -> Answer {
        switch self.begin(request) {
        case .now(let answer): answer
        case .suspended(let wait): await self.finish(request, after: wait)
        }
    }

    /// Carries a request out as far as nothing has to be waited for; for a chunk that is mostly to its end.
    func begin(_ request: Session.Request) -> Begun {
        guard self.services.deviceLimiter.admit(self.device.id, at: .now()) else {
            return .now(self.failure(DeviceProtocol.tooManyRequests, of: request))
        }
        do throws(NodeError) {
            switch request.topic {
            case .telemetry:
                return try self.report(try DeviceProtocol.mqtt.telemetry(request.payload, from: self.sender), request)
            case .attributes:
                return try self.report(try DeviceProtocol.mqtt.attributes(request.payload, from: self.sender), request)
            case .rpcResponse(let id):
                let message = try DeviceProtocol.mqtt.callAnswer(request.payload, id: id, from: self.sender)
                return try self.send(message, for: .report)
            case .attributesRequest(let id, let family):
                let message = try DeviceProtocol.mqtt.attributeRequest(request.payload, from: self.sender)
                return try self.send(message, for: .attributes(topic: family.attributesResponse(id)))
            case .rpcRequest(let id, let family):
                return try self.call(request.payload, id: id, topic: family.rpcResponse(id))
            case .chunkRequest(let type, let id, let chunk):
                return try self.chunk(type, id: id, chunk: chunk, payload: request.payload)
            case .claim:
                let message = try DeviceProtocol.mqtt.claim(request.payload, from: self.sender)
                return try self.send(message, for: .claim)
            case .protobuf: throw DeviceProtocol.protobuf
            case .gateway: return .now(.ignored(.notAuthorized, DeviceProtocol.notAGateway.message))
            case .provision:
                return .now(.ignored(.topicNameInvalid, DeviceProtocol.alreadyProvisioned.message))
            case .badId(let text):
                // The topic is at fault, not the payload: no reason to end a connection.
                let error = DeviceProtocol.notANumber(text, MessageKey.requestId)
                return .now(.ignored(.topicNameInvalid, error.message))
            case .unknown:
                return .now(.ignored(.topicNameInvalid, DeviceProtocol.unknownResource.message))
            }
        } catch {
            return .now(self.failure(error, of: request))
        }
    }

    /// Carries out the rest of a request.
    func finish(_ request: Session.Request, after first: Wait) async -> Answer {
        var wait = first
        do throws(NodeError) {
            while true {
                let begun =
                    switch wait {
                    case .chain(let rest, let aim): try self.answer(await rest(), aim)
                    case .package(let chunk): try self.ask(for: chunk, of: try await self.package(chunk.type))
                    case .bytes(let reply, let topic): try await self.read(reply, topic: topic)
                    }
                switch begun {
                case .now(let answer): return answer
                case .suspended(let next): wait = next
                }
            }
        } catch {
            return self.failure(error, of: request)
        }
    }

    private func failure(_ error: NodeError, of request: Session.Request) -> Answer {
        if case .chunkRequest(let type, _, _) = request.topic { return Self.chunkFailure(type, error) }
        var answer = self.services.failure(error)
        if error.code == .badRequest, self.acknowledgesBadPayloads { answer.outcome.isTolerable = true }
        return answer
    }

    /// Tells the chain that the device's session began or ended; nobody waits for an answer.
    func tell(_ event: MessageType) async {
        _ = await self.services.outlet.send(DeviceProtocol.mqtt.sessionEvent(event, from: self.sender))
    }

    // MARK: The chain

    /// The device, as the one that sends what comes now.
    var sender: DeviceProtocol.Sender {
        DeviceProtocol.Sender(self.device, at: self.services.now(), session: self.session)
    }

    /// Sends a report, with the topic that it came on for chains of profiles that have topics of their own.
    private func report(_ message: consuming Message, _ request: Session.Request) throws(NodeError) -> Begun {
        if let topic = request.topicName { message.metadata[MessageKey.mqttTopic] = .string(topic) }
        return try self.send(message, for: .report)
    }

    /// Sends a message to the chain.
    func send(_ message: Message, for aim: Aim) throws(NodeError) -> Begun {
        switch self.services.outlet.begin(message, by: .success) {
        case .now(let outcome): try self.answer(outcome, aim)
        case .suspended(let rest): .suspended(.chain(rest, aim))
        }
    }

    /// Makes an answer of what the chain made of a message.
    private func answer(_ outcome: Outcome, _ aim: Aim) throws(NodeError) -> Begun {
        switch aim {
        case .report:
            _ = try DeviceProtocol.answer(outcome, to: .acknowledgement)
            return .now(.done)
        case .claim:
            do throws(NodeError) {
                _ = try DeviceProtocol.answer(outcome, to: .claim)
                return .now(.done)
            } catch {
                guard error.code == .notFound else { throw error }
                return .now(.ignored(ReasonCode(error.code), error.message))
            }
        case .attributes(let topic):
            return .now(.response(topic, try DeviceProtocol.json(outcome, to: .attributes).bytes))
        case .call(let topic): return .now(Self.result(outcome, topic: topic))
        case .chunk(let topic, let isElsewhere): return try self.answer(outcome, topic: topic, isElsewhere: isElsewhere)
        }
    }

    // MARK: Calls

    private func call(_ payload: ByteBuffer, id: Int64, topic: String) throws(NodeError) -> Begun {
        let message = try DeviceProtocol.mqtt.serverCall(payload, id: id, from: self.sender)
        if message.metadata[MessageKey.method] == "getSessionLimits" {
            return .now(.response(topic, self.sessionLimits.bytes))
        }
        return try self.send(message, for: .call(topic: topic))
    }

    /// Answers a call of the server by a device, also when it fails: a caller would wait for ever otherwise.
    private static func result(_ outcome: Outcome, topic: String) -> Answer {
        do throws(NodeError) {
            return .response(topic, try DeviceProtocol.json(outcome, to: .call).bytes)
        } catch {
            let problem = DeviceProtocol.told(error).message
            return .response(topic, JSON.object(["error": .string(problem)]).bytes, explanation: error.description)
        }
    }

    /// What clients that adapt to limits ask for on each connection.
    private var sessionLimits: JSON {
        let perSecond = self.services.rateLimits.deviceRequestsPerSecondMax
        // Messages and seconds, joined by a colon; without a limit there is none to tell.
        let rate = JSON.string("\(perSecond):1")
        return [
            "maxPayloadSize": .integer(Int64(self.services.limits.packetBytesMax)),
            "maxInflightMessages": .integer(Int64(self.services.limits.requestsMax)),
            "rateLimits": perSecond == 0 ? [:] : ["messages": rate, "telemetryMessages": rate],
        ]
    }
}
