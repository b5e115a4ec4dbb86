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

    var reason: ReasonCode
    /// What went wrong, for the log.
    var explanation: String?
    var response: Response?

    static let done = Answer(reason: .success)

    static func failure(_ error: NodeError) -> Answer {
        Answer(reason: ReasonCode(error.code), explanation: error.description)
    }

    static func response(_ topic: String, _ bytes: ByteBuffer, explanation: String? = nil) -> Answer {
        Answer(reason: .success, explanation: explanation, response: Response(topic: topic, body: .bytes(bytes)))
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
    private let device: Originator
    private let outlet: any Outlet
    private let packages: any OtaPackageService
    private let now: @Sendable () -> Timestamp
    private let limits: Limits
    private var downloads = Downloads()

    init(
        device: Originator,
        outlet: any Outlet,
        packages: any OtaPackageService,
        now: @escaping @Sendable () -> Timestamp,
        limits: Limits
    ) {
        self.device = device
        self.outlet = outlet
        self.packages = packages
        self.now = now
        self.limits = limits
    }

    /// Carries a request out.
    ///
    /// Returns when the chain is done with it and what it stored is stored.
    func answer(_ request: Session.Request) async -> Answer {
        do throws(NodeError) {
            switch request.topic {
            case .telemetry:
                return try await self.post(.postTelemetryRequest, try Self.json(request.payload))
            case .attributes:
                let values = try Self.json(request.payload)
                guard values.object != nil else { throw NodeError(.badRequest, "attributes must be an object") }
                return try await self.post(.postAttributesRequest, values)
            case .rpcResponse(let id):
                let data = try Self.json(request.payload)
                return try await self.post(.toServerRPCResponse, data, [(MessageKey.requestId, .integer(id))])
            case .attributesRequest(let id, let family):
                return try await self.attributes(request.payload, topic: family.attributesResponse(id))
            case .rpcRequest(let id, let family):
                return try await self.call(request.payload, id: id, topic: family.rpcResponse(id))
            case .chunkRequest(let type, let id, let chunk):
                return try await self.chunk(type, id: id, chunk: chunk, payload: request.payload)
            case .unknown:
                return Answer(reason: .topicNameInvalid, explanation: "a message came on a topic that has no meaning")
            }
        } catch {
            return .failure(error)
        }
    }

    private static func json(_ payload: ByteBuffer) throws(NodeError) -> JSON {
        do {
            return try JSON(parsing: payload)
        } catch {
            throw NodeError(.badRequest, "the payload is \(error)", cause: error)
        }
    }

    private func message(_ type: MessageType, _ data: MessageData, _ metadata: [(String, JSON)]) -> Message {
        var all: Metadata = [MessageKey.transport: "mqtt"]
        for (name, value) in metadata { all[name] = value }
        return Message(originator: self.device, type: type, metadata: all, data: data, timestamp: self.now())
    }

    /// Sends a message to the chain and gives back its reply.
    private func send(_ message: Message) async throws(NodeError) -> Reply? {
        switch await self.outlet.send(message) {
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

    /// What clients that adapt to limits ask for on each connection; there are no rate limits to tell.
    private var sessionLimits: JSON {
        [
            "maxPayloadSize": .integer(Int64(self.limits.packetBytesMax)),
            "maxInflightMessages": .integer(Int64(self.limits.requestsMax)),
            "rateLimits": [:],
        ]
    }

    // MARK: Packages

    /// The code for a package whose bytes are not stored here.
    private static let elsewhere: NodeError.Code = "package-elsewhere"

    private func chunk(
        _ type: OtaPackageType,
        id: String,
        chunk: String,
        payload: ByteBuffer
    ) async throws(NodeError) -> Answer {
        do throws(NodeError) {
            let request = try ChunkRequest(
                type: type,
                id: id,
                chunk: chunk,
                payload: payload,
                chunkBytesMax: self.limits.chunkBytesMax
            )
            return try await self.chunk(request)
        } catch {
            return Self.chunkFailure(type, error)
        }
    }

    private func chunk(_ request: ChunkRequest) async throws(NodeError) -> Answer {
        var download = self.downloads.use(Downloads.Key(type: request.type, id: request.id))
        let size = request.size ?? download.size
        var isElsewhere = false
        if download.packageId == nil {
            let found: EffectivePackage?
            do {
                found = try await self.packages.effectivePackage(for: DeviceId(self.device.id), type: request.type)
            } catch {
                throw NodeError(wrapping: error)
            }
            isElsewhere = found.map { $0.content == nil } ?? false
            download.packageId = isElsewhere ? nil : found?.package.id
        }
        download.size = size
        self.downloads.update(download)
        var metadata: [(String, JSON)] = [
            (MessageKey.packageType, .string(request.type.rawValue)),
            (MessageKey.chunk, .integer(request.chunk)),
            (MessageKey.size, .integer(size)),
        ]
        if let packageId = download.packageId {
            metadata.append((MessageKey.packageId, .string(packageId.description)))
        }
        let answer: Reply?
        do throws(NodeError) {
            answer = try await self.send(self.message(.packageChunkRequest, .none, metadata))
        } catch {
            throw error.code == .notFound && isElsewhere ? NodeError(Self.elsewhere, error.message) : error
        }
        guard case .content(let reply) = answer else {
            throw NodeError(.notFound, "the chain has no package for this device")
        }
        let count = reply.range.upperBound - reply.range.lowerBound
        let topic = "v2/\(request.type.prefix)/response/\(request.id)/chunk/\(request.chunk)"
        // What fits one piece is read before anything is acknowledged, so that a failure can still be told.
        guard count <= Int64(Limits.pieceBytes) else {
            return Answer(reason: .success, response: Answer.Response(topic: topic, body: .content(reply)))
        }
        do {
            return .response(topic, count == 0 ? ByteBuffer() : try await reply.content.read(reply.range))
        } catch {
            throw NodeError(wrapping: error)
        }
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
