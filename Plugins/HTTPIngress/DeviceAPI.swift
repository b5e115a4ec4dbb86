import FoundationEssentials
import HTTPKit
import IngressKit
import NIOCore
import NodeKit
import OTA
import Synchronization
import Waiting

/// A whole request, ready to be answered.
struct DeviceRequest: Sendable {
    /// Who asks and what for.
    var route: Route
    /// Which bytes of a content are wanted, if that is said.
    var conditions: ConditionFields?
    /// The body; empty if there was none.
    var body: ByteBuffer
    /// The client's certificate in DER form, if that says who the device is.
    var certificate: [UInt8]?

    init(_ route: Route, _ request: Request) {
        self.route = route
        self.conditions = request.conditions
        self.body = request.body
        self.certificate = request.certificate
    }
}

/// The device API of HTTP: turns requests into messages, and what became of these into responses.
///
/// Knows no socket. Runs on the event loop of the connection.
final class DeviceAPI: Sendable {
    /// From how many bytes on a body is parsed away from the event loop, which serves others meanwhile.
    static let parseAside = 64 * 1024

    private let authenticator: any DeviceAuthenticator
    private let exists: @Sendable (DeviceId) async throws -> Bool
    private let links: DownloadLinks?
    private let requests: RateLimiter<UUID>
    private let sessions: DeviceSessions
    private let polls: LongPollQuota
    private let outlet: any Outlet
    private let now: @Sendable () -> Timestamp
    private let lastCall = Atomic<Int64>(0)

    /// Answers with what the chain behind an outlet says.
    ///
    /// - Parameters:
    ///   - authenticator: Tells who a device is.
    ///   - exists: Tells whether a device still exists whose credentials no longer count.
    ///   - links: What links to packages lead to; `nil` if there are none.
    ///   - requests: How often a device may ask.
    ///   - sessions: Where a long poll learns what there is to tell its device.
    ///   - polls: How many long polls may wait.
    ///   - outlet: Where messages go.
    ///   - now: The clock.
    init(
        authenticator: any DeviceAuthenticator,
        exists: @escaping @Sendable (DeviceId) async throws -> Bool = { _ in true },
        links: DownloadLinks? = nil,
        requests: RateLimiter<UUID> = RateLimiter(perSecond: 0),
        sessions: DeviceSessions,
        polls: LongPollQuota,
        outlet: any Outlet,
        now: @escaping @Sendable () -> Timestamp
    ) {
        self.authenticator = authenticator
        self.exists = exists
        self.links = links
        self.requests = requests
        self.sessions = sessions
        self.polls = polls
        self.outlet = outlet
        self.now = now
    }

    /// Answers a request as ``answer(_:)`` does, as far as nothing has to be waited for.
    ///
    /// That is for chunks, by far the most frequent that a device asks for: their devices and packages are in memory.
    func begin(_ request: DeviceRequest) -> HTTPAnswer {
        guard let token = request.route.token, request.certificate == nil,
            case .download(let download) = request.route.call,
            case .hit((let device, _)) = self.authenticator.known(accessToken: token)
        else { return .suspended(Suspension { await self.answer(request) }) }
        guard self.requests.admit(device.id, at: .now()) else { return .now(self.tooManyRequests) }
        let conditions = request.conditions
        switch self.outlet.begin(self.message(download, from: device), by: .success) {
        case .now(let outcome):
            return .now(self.answer(outcome, conditions: conditions, isDownload: true))
        case .suspended(let rest):
            return .suspended(
                Suspension { self.answer(await rest(), conditions: conditions, isDownload: true) }
            )
        }
    }

    /// Authenticates, asks the chain, and says what to send.
    func answer(_ request: DeviceRequest) async -> Response {
        do {
            let device: Originator
            switch (request.route.token, request.route.call) {
            case (let token?, _):
                guard let found = try await self.device(token, request.certificate) else {
                    return .empty(401)
                }
                device = found
            case (nil, .follow(let text)):
                guard let link = self.links?.link(text, at: self.now()),
                    let found = try await self.authenticator.device(link.device)
                else { return .error(403, "The link is none of this host, or has expired", at: self.now()) }
                guard self.requests.admit(found.id, at: .now()) else { return self.tooManyRequests }
                return await self.follow(link, of: found, request.conditions)
            case (nil, _):
                return try await self.provision(request)
            }
            guard self.requests.admit(device.id, at: .now()) else { return self.tooManyRequests }
            return try await self.answer(request, from: device)
        } catch {
            return .failure(NodeError(wrapping: error), isDownload: false, at: self.now())
        }
    }

    private var tooManyRequests: Response { .error(429, "Too many requests of the device", at: self.now()) }

    /// The whole package that a link leads to, or the ranges of it that are asked for.
    private func follow(_ link: DownloadLink, of device: Originator, _ conditions: ConditionFields?) async -> Response {
        let message = Message(
            originator: device,
            type: .packageChunkRequest,
            metadata: [
                MessageKey.transport: "http", MessageKey.packageType: .string(link.type.rawValue),
                MessageKey.packageId: .string(link.package.description),
            ],
            timestamp: self.now()
        )
        return await self.ask(message, conditions: conditions, isDownload: true)
    }

    /// What a request is refused with before all of its body is here; `nil` if it may go on.
    func refusal(of request: DeviceRequest) async -> Response? {
        guard let token = request.route.token else { return nil }
        do {
            return try await self.device(token, request.certificate) == nil ? .empty(401) : nil
        } catch {
            return .failure(NodeError(wrapping: error), isDownload: false, at: self.now())
        }
    }

    private func device(_ token: String, _ certificate: [UInt8]?) async throws -> Originator? {
        if let certificate { return try await self.authenticator.device(certificate: certificate) }
        if case .hit((let device, _)) = self.authenticator.known(accessToken: token) { return device }
        return try await self.authenticator.device(accessToken: token)
    }

    /// Waits for something to tell a device, until the task is cancelled.
    private func wait(for interests: DeviceInterests, of device: Originator) async -> Response {
        guard self.polls.enter(device.id) else { return .error(429, "Too many long polls", at: self.now()) }
        let news = OneShot<DeviceNotification?>()
        // What a poll does not take, because it waits for something else or has its answer, waits for another.
        let subscription = self.sessions.subscribeSelectively(device.id, interests: interests) { notification in
            switch notification {
            case .attributesUpdated, .attributesDeleted: guard interests == .attributes else { return false }
            case .rpcRequest: guard interests == .calls else { return false }
            case .credentialsRevoked: break
            }
            return news.finish(notification)
        }
        let notification = await news.value(cancelled: nil)
        self.sessions.unsubscribe(subscription)
        self.polls.leave(device.id)
        return switch notification {
        case .attributesUpdated(let attributes): .json(.object(attributes))
        case .attributesDeleted(let keys): .json(["deleted": .array(keys.map(JSON.string))])
        case .rpcRequest(let id, let method, let params):
            .json(["id": .integer(Int64(id)), "method": .string(method), "params": params])
        case .credentialsRevoked: await self.response(toEndOf: device)
        case nil: .empty(408)
        }
    }

    /// What a long poll sends whose device may no longer wait: as ThingsBoard, where a device that is gone is told so, and one
    /// whose credentials changed only that its session ended.
    private func response(toEndOf device: Originator) async -> Response {
        do {
            guard try await !self.exists(DeviceId(device.id)) else { return .empty(408) }
            return Response(status: 403, body: .text("Device was deleted!"))
        } catch {
            return .failure(NodeError(wrapping: error), isDownload: false, at: self.now())
        }
    }

    private func answer(_ request: DeviceRequest, from device: Originator) async throws -> Response {
        switch request.route.call {
        case .readAttributes(let clientKeys, let sharedKeys):
            var message = self.message(.getAttributesRequest, from: device)
            if let clientKeys { message.metadata[MessageKey.clientKeys] = .string(clientKeys) }
            if let sharedKeys { message.metadata[MessageKey.sharedKeys] = .string(sharedKeys) }
            return await self.ask(message, conditions: request.conditions)
        case .writeAttributes:
            let data = try await self.json(request.body)
            guard case .object = data else { throw NodeError(.badRequest, "attributes must be a JSON object") }
            return await self.tell(self.message(.postAttributesRequest, from: device, data), request.conditions)
        case .writeTelemetry:
            let data = try await self.json(request.body)
            guard data.isTelemetryShaped else {
                throw NodeError(.badRequest, "telemetry must be a JSON object or an array of objects")
            }
            return await self.tell(self.message(.postTelemetryRequest, from: device, data), request.conditions)
        case .awaitAttributes:
            return await self.wait(for: .attributes, of: device)
        case .awaitCall:
            return await self.wait(for: .calls, of: device)
        case .answerCall(let id):
            var message = self.message(.toServerRPCResponse, from: device, try await self.json(request.body))
            message.metadata[MessageKey.requestId] = .integer(id)
            return await self.tell(message, request.conditions)
        case .callServer:
            let data = try await self.json(request.body)
            guard let method = data["method"]?.string, !method.isEmpty else {
                throw NodeError(.badRequest, "a call must be a JSON object with the member 'method'")
            }
            var message = self.message(.toServerRPCRequest, from: device, data["params"] ?? .null)
            message.metadata[MessageKey.method] = .string(method)
            let id = self.lastCall.wrappingAdd(1, ordering: .relaxed).newValue
            message.metadata[MessageKey.requestId] = .integer(id)
            return await self.ask(message, conditions: request.conditions, timedOut: .empty(408))
        case .claim:
            let data = request.body.readableBytes == 0 ? [:] : try await self.json(request.body)
            guard case .object = data else { throw NodeError(.badRequest, "a claim must be a JSON object") }
            return await self.ask(self.message(.claimRequest, from: device, data), conditions: request.conditions)
        case .provision, .follow:
            return try await self.provision(request)
        case .download(let download):
            let message = self.message(download, from: device)
            return await self.ask(message, conditions: request.conditions, isDownload: true)
        }
    }

    /// Asks for somebody who is no device yet to become one.
    private func provision(_ request: DeviceRequest) async throws -> Response {
        let data = try await self.json(request.body)
        guard case .object = data else {
            throw NodeError(.badRequest, "a provisioning request must be a JSON object")
        }
        let device = Originator.unknown(name: data["deviceName"]?.string ?? "")
        return await self.ask(self.message(.provisionRequest, from: device, data), conditions: request.conditions)
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

    private func message(_ download: DeviceCall.Download, from device: Originator) -> Message {
        Message(
            originator: device,
            type: .packageChunkRequest,
            metadata: Metadata(
                JSON.Object([
                    (MessageKey.transport, "http"), (MessageKey.packageType, .string(download.type.rawValue)),
                    (MessageKey.title, .string(download.title)), (MessageKey.version, .string(download.version)),
                    (MessageKey.chunk, .integer(download.chunk)), (MessageKey.size, .integer(download.size)),
                ])
            ),
            timestamp: self.now()
        )
    }

    /// Sends a message that wants something: no reply means that it is not there.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - conditions: Which bytes of a content are wanted.
    ///   - isDownload: Whether it asks for bytes of a package.
    ///   - timedOut: What is answered if the chain's time runs out, unless 504.
    /// - Returns: The answer.
    private func ask(
        _ message: Message,
        conditions: ConditionFields?,
        isDownload: Bool = false,
        timedOut: Response? = nil
    ) async -> Response {
        self.answer(
            await self.outlet.send(message),
            conditions: conditions,
            isDownload: isDownload,
            timedOut: timedOut
        )
    }

    /// Sends a message that brings something: no reply means that all is well.
    private func tell(_ message: Message, _ conditions: ConditionFields?) async -> Response {
        self.response(to: await self.outlet.send(message), conditions: conditions, isDownload: false) ?? .empty(200)
    }

    /// What to answer to a message that wanted something.
    private func answer(
        _ outcome: Outcome,
        conditions: ConditionFields?,
        isDownload: Bool,
        timedOut: Response? = nil
    ) -> Response {
        self.response(to: outcome, conditions: conditions, isDownload: isDownload, timedOut: timedOut)
            ?? .failure(
                NodeError(.notFound, "nothing in the chain answered the request"),
                isDownload: isDownload,
                at: self.now()
            )
    }

    private func response(
        to outcome: Outcome,
        conditions: ConditionFields?,
        isDownload: Bool,
        timedOut: Response? = nil
    ) -> Response? {
        switch outcome {
        case .completed(nil): nil
        case .completed(.empty): .empty(200)
        case .completed(.json(let value)): .json(value)
        case .completed(.content(let reply)): .content(reply, conditions: conditions)
        case .completed(.refused(let error)), .failed(let error):
            if error.code == .timedOut, let timedOut {
                timedOut
            } else {
                .failure(error, isDownload: isDownload, at: self.now())
            }
        }
    }

    private func json(_ body: ByteBuffer) async throws -> JSON {
        guard body.readableBytes > 0 else { throw NodeError(.badRequest, "Required request body is missing") }
        do {
            if body.readableBytes < Self.parseAside { return try JSON(parsing: body) }
            return try await withTaskExecutorPreference(globalConcurrentExecutor) { try JSON(parsing: body) }
        } catch let error as JSONSyntaxError {
            throw NodeError(unreadable: "the body", error)
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
