import FoundationEssentials
import HTTPTypes
import Hummingbird
import NodeKit
import OTA

/// `/api/plugins/rpc` and `/api/rpc`: calls of methods of devices.
struct RPCRoutes: Sendable {
    /// Which statuses tell that a call failed: the same paths twice in ThingsBoard, with other words.
    private enum Version {
        case v1, v2

        var notConnected: HTTPResponse.Status { self == .v1 ? .conflict : .gatewayTimeout }
        var timedOut: HTTPResponse.Status { self == .v1 ? .requestTimeout : .gatewayTimeout }

        /// What may go wrong, for the document of the API.
        var failures: [(status: HTTPResponse.Status, reason: String)] {
            let failures = [
                (self.notConnected, "The device is not connected"), (self.timedOut, "The device does not answer"),
            ]
            return [
                (.notAcceptable, "The device answers with something else than JSON"),
                (.tooManyRequests, "Too many calls are stored"),
            ]
                + (self == .v1 ? failures : [(.gatewayTimeout, "The device is not connected or does not answer")])
        }
    }

    /// How long a call may take unless the client says otherwise, as in ThingsBoard.
    static let timeoutDefault = Duration.milliseconds(10_000)
    /// The shortest time that a call gets whatever the client says, as in ThingsBoard.
    static let timeoutMin = Duration.milliseconds(5_000)
    /// The longest time that a client may ask for.
    static let timeoutMax = Duration.seconds(3600)

    /// How often a stored call is sent again to a device that does not answer, unless the client says otherwise, as in
    /// ThingsBoard.
    static let retriesDefault: Int64 = 5
    /// How often at most.
    static let retriesMax: Int64 = 100

    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    func add(to routes: inout RouteTable) {
        for (path, version) in [("/api/plugins/rpc", Version.v1), ("/api/rpc", .v2)] {
            for (way, isOneWay) in [("oneway", true), ("twoway", false)] {
                routes.add(
                    .post,
                    "\(path)/\(way)/{id}",
                    for: .tenantAdministrators,
                    logs: .action(.rpcCall),
                    Operation(
                        isOneWay ? "Calls a method of a device" : "Calls a method of a device and waits for its answer",
                        body: .json(.call),
                        answer: .jsonOrNothing(.anyValue),
                        failures: version.failures
                    )
                ) {
                    request in
                    try await self.call(request, version, isOneWay: isOneWay)
                }
            }
        }
        PersistentCallRoutes(services: self.services).add(to: &routes)
    }

    private func call(_ request: APIRequest, _ version: Version, isOneWay: Bool) async throws -> Response {
        let id = try request.id(of: Device.self)
        let body = try await request.object()
        guard let method = try body.string("method"), !method.isEmpty else {
            throw APIError.badRequest("Invalid request body: 'method' is missing")
        }
        let isPersistent = try body.bool("persistent") == true
        let timeout = try isPersistent ? self.answerTimeout(body) : self.timeout(body)
        let device = try await self.services.device(id, for: request)
        request.trail.note("rpcMethod", .string(AuditLog.cut(method)))
        let type = try await self.services.profiles.findDeviceProfileById(device.deviceProfileId)?.name ?? ""
        let call = RemoteCall(
            device: Originator(id: device.id.uuid, name: device.name, type: type),
            method: method,
            params: body["params"] ?? .null,
            isOneWay: isOneWay,
            timeout: timeout
        )
        guard !isPersistent else { return try await self.store(call, body) }
        do {
            let answer = try await self.services.calls.call(call)
            // Whatever a chain answers: who wants no answer gets none.
            guard !isOneWay, let answer else { return .empty }
            return .json(answer)
        } catch {
            switch error.code {
            case .deviceNotConnected: throw APIError(version.notConnected, 2, error.message)
            case .timedOut: throw APIError(version.timedOut, 2, error.message)
            case .badAnswer: throw APIError(.notAcceptable, 2, error.message)
            default: throw error
            }
        }
    }

    /// Stores a call, and answers with its identifier.
    private func store(_ call: RemoteCall, _ body: BodyReader) async throws -> Response {
        let now = self.now()
        let retries = try body.integer("retries") ?? Self.retriesDefault
        guard (0...Self.retriesMax).contains(retries) else {
            throw APIError.badRequest("'retries' must be 0 to \(Self.retriesMax), not \(retries)")
        }
        let stored = PersistentCall(
            device: call.device,
            createdTime: now,
            // As in ThingsBoard, a call that does not say so waits no longer for its device than for an answer.
            expirationTime: try body.integer("expirationTime").map(Timestamp.init(milliseconds:))
                ?? now.adding(call.timeout),
            method: call.method,
            params: call.params,
            isOneWay: call.isOneWay,
            timeout: call.timeout,
            retriesLeft: Int(retries),
            additionalInfo: body["additionalInfo"]
        )
        try await self.services.storedCalls.addCall(stored)
        return .json(["rpcId": .string(stored.id.description)])
    }

    /// How long a device has to answer a stored call each time: `timeout` milliseconds.
    private func answerTimeout(_ body: BodyReader) throws -> Duration {
        let timeout = try body.integer("timeout").map { max(.milliseconds($0), Self.timeoutMin) } ?? Self.timeoutDefault
        guard timeout <= Self.timeoutMax else {
            throw APIError.badRequest("A call may take at most \(Self.timeoutMax.components.seconds) seconds")
        }
        return timeout
    }

    /// How long the call may take: until `expirationTime`, or for `timeout` milliseconds.
    private func timeout(_ body: BodyReader) throws -> Duration {
        let timeout: Duration
        if let expiration = try body.integer("expirationTime") {
            let now = self.now().rawValue
            // Two times after 1970: what is between them does not overflow.
            timeout = .milliseconds(expiration > now ? expiration - now : 0)
        } else if let milliseconds = try body.integer("timeout") {
            timeout = max(.milliseconds(milliseconds), Self.timeoutMin)
        } else {
            timeout = Self.timeoutDefault
        }
        guard timeout <= Self.timeoutMax else {
            throw APIError.badRequest("A call may take at most \(Self.timeoutMax.components.seconds) seconds")
        }
        return timeout
    }
}
