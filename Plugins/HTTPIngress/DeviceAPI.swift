import NIOCore
import NodeKit
import OTA
import Synchronization

/// A whole request, ready to be answered.
struct DeviceRequest: Sendable {
    /// Who asks and what for.
    var route: Route
    /// What else the head says.
    var head: RequestHead
    /// The body; empty if there was none.
    var body: ByteBuffer
}

/// The device API of HTTP: turns requests into messages, and what became of these into responses.
///
/// Knows no socket. Runs on the event loop of the connection.
final class DeviceAPI: Sendable {
    /// What is to be done for a request.
    enum Answer: Sendable {
        /// Send this.
        case respond(Response)
        /// Wait for something to tell the device.
        case wait(WaitingFor)
    }

    /// What a long poll waits for.
    struct WaitingFor: Sendable {
        /// The device.
        var device: Originator
        /// Whether for a call of the server; otherwise for shared attributes.
        var isForCall: Bool
        /// How long.
        var timeout: TimeAmount

        /// Whether a notification ends the wait.
        func accepts(_ notification: DeviceNotification) -> Bool {
            switch notification {
            case .attributesUpdated, .attributesDeleted: !self.isForCall
            case .rpcRequest: self.isForCall
            case .credentialsRevoked: true
            }
        }
    }

    /// From how many bytes on a body is parsed away from the event loop, which serves others meanwhile.
    static let parseAside = 64 * 1024

    private let authenticator: any DeviceAuthenticator
    private let outlet: any Outlet
    private let now: @Sendable () -> Timestamp
    private let lastCall = Atomic<Int64>(0)

    /// Answers with what the chain behind an outlet says.
    init(authenticator: any DeviceAuthenticator, outlet: any Outlet, now: @escaping @Sendable () -> Timestamp) {
        self.authenticator = authenticator
        self.outlet = outlet
        self.now = now
    }

    /// Authenticates, asks the chain, and says what to send.
    func answer(_ request: DeviceRequest) async -> Answer {
        do {
            guard let device = try await self.authenticator.device(accessToken: request.route.token) else {
                return .respond(.empty(401))
            }
            return try await self.answer(request, from: device)
        } catch {
            return .respond(.failure(NodeError(wrapping: error), isDownload: false, at: self.now()))
        }
    }

    /// What a long poll that ended sends; `nil` if nobody is there to get it.
    func response(to result: LongPoll.Result) -> Response? {
        switch result {
        case .notified(.attributesUpdated(let attributes)): .json(.object(attributes))
        case .notified(.attributesDeleted(let keys)): .json(["deleted": .array(keys.map(JSON.string))])
        case .notified(.rpcRequest(let id, let method, let params)):
            .json(["id": .integer(Int64(id)), "method": .string(method), "params": params])
        case .notified(.credentialsRevoked): .empty(401)
        case .timedOut: .empty(408)
        case .stopping: Response(status: 408, closes: true)
        case .gone: nil
        }
    }

    private func answer(_ request: DeviceRequest, from device: Originator) async throws -> Answer {
        switch request.route.call {
        case .readAttributes(let clientKeys, let sharedKeys):
            var message = self.message(.getAttributesRequest, from: device)
            if let clientKeys { message.metadata[MessageKey.clientKeys] = .string(clientKeys) }
            if let sharedKeys { message.metadata[MessageKey.sharedKeys] = .string(sharedKeys) }
            return .respond(await self.ask(message, head: request.head))
        case .writeAttributes:
            let data = try await self.json(request.body)
            guard case .object = data else { throw NodeError(.badRequest, "attributes must be a JSON object") }
            return .respond(await self.tell(self.message(.postAttributesRequest, from: device, data), request.head))
        case .writeTelemetry:
            let data = try await self.json(request.body)
            guard data.isTelemetryShaped else {
                throw NodeError(.badRequest, "telemetry must be a JSON object or an array of objects")
            }
            return .respond(await self.tell(self.message(.postTelemetryRequest, from: device, data), request.head))
        case .awaitAttributes(let milliseconds):
            return .wait(WaitingFor(device: device, isForCall: false, timeout: .milliseconds(milliseconds)))
        case .awaitCall(let milliseconds):
            return .wait(WaitingFor(device: device, isForCall: true, timeout: .milliseconds(milliseconds)))
        case .answerCall(let id):
            var message = self.message(.toServerRPCResponse, from: device, try await self.json(request.body))
            message.metadata[MessageKey.requestId] = .integer(id)
            return .respond(await self.tell(message, request.head))
        case .callServer:
            let data = try await self.json(request.body)
            guard let method = data["method"]?.string, !method.isEmpty else {
                throw NodeError(.badRequest, "a call must be a JSON object with the member 'method'")
            }
            var message = self.message(.toServerRPCRequest, from: device, data["params"] ?? .null)
            message.metadata[MessageKey.method] = .string(method)
            let id = self.lastCall.wrappingAdd(1, ordering: .relaxed).newValue
            message.metadata[MessageKey.requestId] = .integer(id)
            return .respond(await self.ask(message, head: request.head))
        case .download(let type, let title, let version, let chunk, let size):
            var message = self.message(.packageChunkRequest, from: device)
            message.metadata[MessageKey.packageType] = .string(type.rawValue)
            message.metadata[MessageKey.title] = .string(title)
            message.metadata[MessageKey.version] = .string(version)
            message.metadata[MessageKey.chunk] = .integer(chunk)
            message.metadata[MessageKey.size] = .integer(size)
            return .respond(await self.ask(message, head: request.head, isDownload: true))
        }
    }

    private func message(_ type: MessageType, from device: Originator, _ data: JSON? = nil) -> Message {
        Message(
            originator: device,
            type: type,
            metadata: [MessageKey.transport: "http"],
            data: data.map(MessageData.json) ?? .none,
            timestamp: self.now()
        )
    }

    /// Sends a message that wants something: no reply means that it is not there.
    private func ask(_ message: Message, head: RequestHead, isDownload: Bool = false) async -> Response {
        await self.send(message, head: head, isDownload: isDownload)
            ?? .failure(
                NodeError(.notFound, "nothing in the chain answered the request"),
                isDownload: isDownload,
                at: self.now()
            )
    }

    /// Sends a message that brings something: no reply means that all is well.
    private func tell(_ message: Message, _ head: RequestHead) async -> Response {
        await self.send(message, head: head, isDownload: false) ?? .empty(200)
    }

    private func send(_ message: Message, head: RequestHead, isDownload: Bool) async -> Response? {
        switch await self.outlet.send(message) {
        case .completed(nil): nil
        case .completed(.empty): .empty(200)
        case .completed(.json(let value)): .json(value)
        case .completed(.content(let reply)): .content(reply, head: head)
        case .completed(.refused(let error)), .failed(let error):
            .failure(error, isDownload: isDownload, at: self.now())
        }
    }

    private func json(_ body: ByteBuffer) async throws -> JSON {
        guard body.readableBytes > 0 else { throw NodeError(.badRequest, "Required request body is missing") }
        do {
            if body.readableBytes < Self.parseAside { return try JSON(parsing: body) }
            return try await withTaskExecutorPreference(globalConcurrentExecutor) { try JSON(parsing: body) }
        } catch let error as JSONSyntaxError {
            throw NodeError(.badRequest, error.description)
        }
    }
}

extension JSON {
    /// Whether this is one of the forms of telemetry, as far as that can be seen without going through its values.
    fileprivate var isTelemetryShaped: Bool {
        switch self {
        case .object: true
        case .array(let elements): elements.allSatisfy { $0.object != nil }
        default: false
        }
    }
}
