import FoundationEssentials
import HTTPKit
import IngressKit
import NIOCore
import NodeKit
import OTA
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
    private let messages = DeviceProtocol(transport: "http")

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
        let sender = DeviceProtocol.Sender(device, at: self.now())
        // Passed on without a name of its own: the chain changes a message in place only if nothing else refers to it.
        switch self.outlet.begin(self.messages.package(download, from: sender), by: .success) {
        case .now(let outcome):
            return .now(self.response(to: outcome, .package, conditions))
        case .suspended(let rest):
            return .suspended(Suspension { self.response(to: await rest(), .package, conditions) })
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
                else { throw DeviceProtocol.deadLink }
                guard self.requests.admit(found.id, at: .now()) else { return self.tooManyRequests }
                return await self.follow(link, of: found, request.conditions)
            case (nil, _):
                return try await self.answer(request, from: .unknown(name: ""))
            }
            guard self.requests.admit(device.id, at: .now()) else { return self.tooManyRequests }
            return try await self.answer(request, from: device)
        } catch {
            return self.failure(NodeError(wrapping: error))
        }
    }

    private var tooManyRequests: Response { self.failure(DeviceProtocol.tooManyRequests) }

    private func failure(_ error: NodeError, isDownload: Bool = false) -> Response {
        .failure(DeviceProtocol.told(error), isDownload: isDownload, at: self.now())
    }

    /// The whole package that a link leads to, or the ranges of it that are asked for.
    private func follow(_ link: DownloadLink, of device: Originator, _ conditions: ConditionFields?) async -> Response {
        let sender = DeviceProtocol.Sender(device, at: self.now())
        let message = self.messages.package(link.package, of: link.type, from: sender)
        return self.response(to: await self.outlet.send(message), .package, conditions)
    }

    /// What a request is refused with before all of its body is here; `nil` if it may go on.
    func refusal(of request: DeviceRequest) async -> Response? {
        guard let token = request.route.token else { return nil }
        do {
            return try await self.device(token, request.certificate) == nil ? .empty(401) : nil
        } catch {
            return self.failure(NodeError(wrapping: error))
        }
    }

    private func device(_ token: String, _ certificate: [UInt8]?) async throws -> Originator? {
        if let certificate { return try await self.authenticator.device(certificate: certificate) }
        if case .hit((let device, _)) = self.authenticator.known(accessToken: token) { return device }
        return try await self.authenticator.device(accessToken: token)
    }

    /// Waits for something to tell a device, until the task is cancelled.
    private func wait(for interests: DeviceInterests, of device: Originator) async -> Response {
        guard self.polls.enter(device.id) else { return self.failure(DeviceProtocol.tooManyWaiting) }
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
        case .attributesDeleted(let keys): .json(DeviceProtocol.attributesDeleted(keys))
        case .rpcRequest(let id, let method, let params):
            .json(DeviceProtocol.call(id: id, method: method, params: params))
        case .credentialsRevoked: await self.response(toEndOf: device)
        case nil: .empty(408)
        }
    }

    /// What a long poll sends whose device may no longer wait: as ThingsBoard, where a device that is gone is told so, and one
    /// whose credentials changed only that its session ended.
    private func response(toEndOf device: Originator) async -> Response {
        do {
            guard try await !self.exists(DeviceId(device.id)) else { return .empty(408) }
            return Response(status: 403, body: .text(DeviceProtocol.deleted))
        } catch {
            return self.failure(NodeError(wrapping: error))
        }
    }

    private func answer(_ request: DeviceRequest, from device: Originator) async throws -> Response {
        let call = request.route.call
        switch call {
        case .awaitAttributes: return await self.wait(for: .attributes, of: device)
        case .awaitCall: return await self.wait(for: .calls, of: device)
        default:
            // Only a request that follows a link makes no message, and such a request has no token.
            guard let message = try await self.message(request, from: device) else { throw DeviceProtocol.deadLink }
            return self.response(to: await self.outlet.send(message), call.wish, request.conditions)
        }
    }

    /// Makes the message of a request; away from the event loop if its body is long.
    private func message(_ request: DeviceRequest, from device: Originator) async throws -> Message? {
        let sender = DeviceProtocol.Sender(device, at: self.now())
        guard request.body.readableBytes >= Self.parseAside else {
            return try request.route.call.message(request.body, from: sender, by: self.messages)
        }
        return try await withTaskExecutorPreference(globalConcurrentExecutor) { [messages] in
            try request.route.call.message(request.body, from: sender, by: messages)
        }
    }

    /// What to send when the chain is done with a message.
    private func response(
        to outcome: Outcome,
        _ wish: DeviceProtocol.Wish,
        _ conditions: ConditionFields?
    ) -> Response {
        do throws(NodeError) {
            switch try DeviceProtocol.answer(outcome, to: wish) {
            case .empty: return .empty(200)
            case .json(let value): return .json(value)
            case .content(let reply): return .content(reply, conditions: conditions)
            }
        } catch {
            // As a long poll, which a device's call is in ThingsBoard, too.
            if error.code == .timedOut, wish == .call { return .empty(408) }
            return self.failure(error, isDownload: wish == .package)
        }
    }
}
