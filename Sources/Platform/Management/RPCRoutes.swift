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
            return [(.notAcceptable, "The device answers with something else than JSON")]
                + (self == .v1 ? failures : [(.gatewayTimeout, "The device is not connected or does not answer")])
        }
    }

    /// How long a call may take unless the client says otherwise, as in ThingsBoard.
    static let timeoutDefault = Duration.milliseconds(10_000)
    /// The shortest time that a call gets whatever the client says, as in ThingsBoard.
    static let timeoutMin = Duration.milliseconds(5_000)
    /// The longest time that a client may ask for.
    static let timeoutMax = Duration.seconds(3600)

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
    }

    private func call(_ request: APIRequest, _ version: Version, isOneWay: Bool) async throws -> Response {
        let id = try request.id(of: Device.self)
        let body = try await request.object()
        guard let method = try body.string("method"), !method.isEmpty else {
            throw APIError.badRequest("Invalid request body: 'method' is missing")
        }
        guard try body.bool("persistent") != true else {
            throw APIError.badRequest("Persistent calls are not supported; leave 'persistent' out, and retry yourself")
        }
        let timeout = try self.timeout(body)
        let device = try await self.services.device(id, for: request)
        request.trail.note("rpcMethod", .string(String(method.prefix(AuditLog.textLengthMax))))
        let type = try await self.services.devices.findDeviceProfileById(device.deviceProfileId)?.name ?? ""
        let call = RemoteCall(
            device: Originator(id: device.id.uuid, name: device.name, type: type),
            method: method,
            params: body["params"] ?? .null,
            isOneWay: isOneWay,
            timeout: timeout
        )
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
