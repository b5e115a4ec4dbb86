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
        // What is not the client's doing is not its business, and may name what is inside.
        let reason = ReasonCode(error.code)
        let told = reason == .unspecifiedError ? nil : error.message
        return Answer(outcome: Outcome(reason: reason, explanation: error.description, told: told))
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
    let device: Originator
    private let services: ConnectionServices
    /// Whether a payload that makes no sense is acknowledged in MQTT 3.1.1, as the device's profile may say.
    private let acknowledgesBadPayloads: Bool
    private var downloads = Downloads()

    init(device: Originator, services: ConnectionServices, acknowledgesBadPayloads: Bool = false) {
        self.device = device
        self.services = services
        self.acknowledgesBadPayloads = acknowledgesBadPayloads
    }

    /// Carries a request out.
    ///
    /// Returns when the chain is done with it and what it stored is stored.
    func answer(_ request: Session.Request) async -> Answer {
        guard self.services.deviceLimiter.admit(self.device.id, at: .now()) else {
            let error = NodeError(.tooManyRequests, "the device sends more requests in a second than it may")
            // Only this answer is sure to reach a device that waits for a chunk.
            if case .chunkRequest(let type, _, _) = request.topic { return Self.chunkFailure(type, error) }
            return .failure(error)
        }
        do throws(NodeError) {
            switch request.topic {
            case .telemetry:
                return try await self.post(.postTelemetryRequest, try Self.json(request.payload), Self.topic(request))
            case .attributes:
                let values = try Self.json(request.payload)
                guard values.object != nil else { throw NodeError(.badRequest, "attributes must be an object") }
                return try await self.post(.postAttributesRequest, values, Self.topic(request))
            case .rpcResponse(let id):
                let data = try Self.json(request.payload)
                return try await self.post(.toServerRPCResponse, data, [(MessageKey.requestId, .integer(id))])
            case .attributesRequest(let id, let family):
                return try await self.attributes(request.payload, topic: family.attributesResponse(id))
            case .rpcRequest(let id, let family):
                return try await self.call(request.payload, id: id, topic: family.rpcResponse(id))
            case .chunkRequest(let type, let id, let chunk):
                return await self.chunk(type, id: id, chunk: chunk, payload: request.payload)
            case .claim: return try await self.claim(request.payload)
            case .protobuf: throw NodeError(.badRequest, "protobuf is not spoken here; use the topic of the JSON form")
            case .gateway: return .ignored(.notAuthorized, "the device is no gateway")
            case .provision: return .ignored(.topicNameInvalid, "a device that has credentials is provisioned already")
            case .unknown: return .ignored(.topicNameInvalid, "a message came on a topic that has no meaning")
            }
        } catch {
            var answer = Answer.failure(error)
            answer.outcome.isTolerable = error.code == .badRequest && self.acknowledgesBadPayloads
            return answer
        }
    }

    /// Where a report came, for chains of profiles that have topics of their own.
    private static func topic(_ request: Session.Request) -> [(String, JSON)] {
        request.topicName.map { [(MessageKey.mqttTopic, .string($0))] } ?? []
    }

    /// Tells the chain that the device's session began or ended; nobody waits for an answer.
    func tell(_ event: MessageType) async { _ = await self.services.outlet.send(self.message(event, .json([:]), [])) }

    static func json(_ payload: ByteBuffer) throws(NodeError) -> JSON {
        do {
            return try JSON(parsing: payload)
        } catch {
            throw NodeError(.badRequest, "the payload is \(error)", cause: error)
        }
    }

    private func message(_ type: MessageType, _ data: MessageData, _ metadata: [(String, JSON)]) -> Message {
        var all: Metadata = [MessageKey.transport: "mqtt"]
        for (name, value) in metadata { all[name] = value }
        return self.message(type, data, all)
    }

    private func message(_ type: MessageType, _ data: MessageData, _ metadata: Metadata) -> Message {
        Message(originator: self.device, type: type, metadata: metadata, data: data, timestamp: self.services.now())
    }

    /// Sends a message to the chain and gives back its reply.
    private func send(_ message: Message) async throws(NodeError) -> Reply? {
        try Self.reply(await self.services.outlet.send(message))
    }

    private static func reply(_ outcome: Outcome) throws(NodeError) -> Reply? {
        switch outcome {
        case .completed(.refused(let error)), .failed(let error): throw error
        case .completed(let reply): return reply
        }
    }

    private func post(_ type: MessageType, _ data: JSON, _ metadata: [(String, JSON)] = []) async throws(NodeError)
        -> Answer
    {
        _ = try await self.send(self.message(type, .json(data), metadata))
        return .done
    }

    private func claim(_ payload: ByteBuffer) async throws(NodeError) -> Answer {
        let request = payload.readableBytes == 0 ? [:] : try Self.json(payload)
        guard request.object != nil else { throw NodeError(.badRequest, "a claim must be an object") }
        guard try await self.send(self.message(.claimRequest, .json(request), [])) != nil else {
            return .ignored(.implementationSpecificError, "no node of the chain takes claims")
        }
        return .done
    }

    // MARK: Attributes and calls

    private func attributes(_ payload: ByteBuffer, topic: String) async throws(NodeError) -> Answer {
        let request = payload.readableBytes == 0 ? [:] : try Self.json(payload)
        guard let request = request.object else {
            throw NodeError(.badRequest, "a request for attributes must be an object")
        }
        var metadata: [(String, JSON)] = []
        for name in [MessageKey.clientKeys, MessageKey.sharedKeys] {
            guard let keys = request[name] else { continue }
            guard let keys = keys.string else {
                throw NodeError(.badRequest, "'\(name)' must be names joined by commas, in one string")
            }
            metadata.append((name, .string(keys)))
        }
        switch try await self.send(self.message(.getAttributesRequest, .none, metadata)) {
        case .json(let values): return .response(topic, values.bytes)
        case nil, .empty: return .response(topic, JSON.object([:]).bytes)
        case .content, .refused:
            throw NodeError(.internalError, "the chain answered a request for attributes with bytes")
        }
    }

    /// Answers a call of the server by a device, also when it fails: a caller would wait for ever otherwise.
    private func call(_ payload: ByteBuffer, id: Int64, topic: String) async throws(NodeError) -> Answer {
        guard let request = try Self.json(payload).object, let method = request["method"]?.string else {
            throw NodeError(.badRequest, "a call must be an object with a 'method'")
        }
        if method == "getSessionLimits" { return .response(topic, self.sessionLimits.bytes) }
        let message = self.message(
            .toServerRPCRequest,
            .json(request["params"] ?? [:]),
            [(MessageKey.method, .string(method)), (MessageKey.requestId, .integer(id))]
        )
        let problem: String
        do throws(NodeError) {
            switch try await self.send(message) {
            case .json(let value): return .response(topic, value.bytes)
            case .empty: return .response(topic, JSON.object([:]).bytes)
            case nil: problem = "no node of the chain answers this method"
            case .content, .refused: problem = "the chain answered with bytes"
            }
        } catch {
            problem = error.message
        }
        return .response(topic, JSON.object(["error": .string(problem)]).bytes, explanation: problem)
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

    // MARK: Packages

    /// The code for a package whose bytes are not stored here.
    private static let elsewhere: NodeError.Code = "package-elsewhere"

    // In few functions that wait: each costs more than all that is compared here.
    private func chunk(_ type: OtaPackageType, id: String, chunk: String, payload: ByteBuffer) async -> Answer {
        do throws(NodeError) {
            let request = try ChunkRequest(
                type: type,
                id: id,
                chunk: chunk,
                payload: payload,
                chunkBytesMax: self.services.limits.chunkBytesMax
            )
            var download = self.downloads.use(Downloads.Key(type: type, id: request.id))
            let isElsewhere = download.packageId == nil ? try await self.pin(&download) : false
            if let size = request.size { download.size = size }
            self.downloads.update(download)
            let metadata = download.metadata(ofChunk: request.chunk)
            let message = self.message(.packageChunkRequest, .none, metadata)
            let outcome = await self.services.outlet.send(message, by: .success)
            let reply = try Self.content(outcome, isElsewhere: isElsewhere)
            let count = reply.range.upperBound - reply.range.lowerBound
            let topic = "v2/\(type.prefix)/response/\(request.id)/chunk/\(request.chunk)"
            // What fits one piece is read before anything is acknowledged, so that a failure can still be told.
            guard count <= Int64(Limits.pieceBytes) else {
                return Answer(outcome: .success, response: Answer.Response(topic: topic, body: .content(reply)))
            }
            do {
                return .response(topic, count == 0 ? ByteBuffer() : try await reply.content.readAll(reply.range))
            } catch {
                throw NodeError(wrapping: error)
            }
        } catch {
            return Self.chunkFailure(type, error)
        }
    }

    /// Finds the package that a download begins with.
    ///
    /// - Returns: Whether there is one whose bytes are not stored here.
    private func pin(_ download: inout Downloads.Download) async throws(NodeError) -> Bool {
        do {
            let device = DeviceId(self.device.id)
            let found = try await self.services.packages.effectivePackage(for: device, type: download.key.type)
            guard let found else { return false }
            guard found.content != nil else { return true }
            download.packageId = found.package.id
            return false
        } catch {
            throw NodeError(wrapping: error)
        }
    }

    private static func content(_ outcome: Outcome, isElsewhere: Bool) throws(NodeError) -> ContentReply {
        let reply: Reply?
        do throws(NodeError) {
            reply = try Self.reply(outcome)
        } catch {
            throw error.code == .notFound && isElsewhere ? NodeError(Self.elsewhere, error.message) : error
        }
        guard case .content(let content) = reply else {
            throw NodeError(.notFound, "the chain has no package for this device")
        }
        return content
    }

    /// Tells on the error topic what is wrong with a chunk request; the session goes on, so that a device does not connect
    /// again and again.
    ///
    /// `NOT_FOUND`, `PAYLOAD_TOO_LARGE` and, for a package that is fetched from its URL, `FAILURE` are ThingsBoard's words,
    /// which devices compare. Where ThingsBoard has no word and closes the connection, `FAILURE` comes with a sentence.
    static func chunkFailure(_ type: OtaPackageType, _ error: NodeError) -> Answer {
        let text =
            switch error.code {
            case .notFound: "NOT_FOUND"
            case Self.elsewhere: "FAILURE"
            case .tooLarge: "PAYLOAD_TOO_LARGE"
            default: "FAILURE: \(error.message)"
            }
        return .response("v2/\(type.prefix)/error", ByteBuffer(string: text), explanation: error.description)
    }
}
