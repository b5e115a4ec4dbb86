import HTTPKit
import IngressKit
import NodeKit
import OTA

/// Devices over HTTP/1.1, with the device API of ThingsBoard and the headers of the requirement.
struct HTTPIngress: IngressNode {
    static let descriptor = NodeDescriptor(
        type: "ingress",
        summary: "Takes in requests of devices over HTTP and answers them with what the chain says.",
        relations: [RelationDescriptor(.success, "Every request of a device that proved who it is.")],
        attributes: HTTPServer.attributes + DeviceLimits.attributes + [RateLimits.deviceRequests],
        variables: MessageKey.variables
    )

    /// The listener, and what configures it.
    var server: HTTPServer
    /// Whether a device still exists whose credentials no longer count.
    private var exists: @Sendable (DeviceId) async throws -> Bool = { _ in true }
    /// The requests that wait for news.
    let quota: LongPollQuota
    private let limits: DeviceLimits
    private let requestsPerSecondMax: Int
    private let services: NodeServices
    private let authenticator: any DeviceAuthenticator
    private let sessions: DeviceSessions

    init(configuration: Configuration, services: NodeServices) throws {
        self.server = try HTTPServer(configuration)
        self.limits = DeviceLimits(configuration)
        self.quota = LongPollQuota(total: self.limits.longPolls, perDevice: self.limits.longPollsPerDevice)
        self.requestsPerSecondMax = Int(configuration.integer(RateLimits.deviceRequests.name))
        self.services = services
        self.authenticator = try services.require((any DeviceAuthenticator).self)
        self.sessions = try services.require(DeviceSessions.self)
        if let devices = try? services.require((any DeviceService).self) {
            self.exists = { try await devices.findDeviceById($0) != nil }
        }
    }

    func run(_ outlet: any Outlet) async throws {
        try await self.server.run(self.site(outlet), at: DeviceSite.paths, services: self.services) { outlet.ready($0) }
    }

    /// What is served, before the chain behind an outlet.
    func site(_ outlet: any Outlet) -> DeviceSite {
        DeviceSite(
            api: DeviceAPI(
                authenticator: self.authenticator,
                exists: self.exists,
                links: try? self.services.require(DownloadLinks.self),
                requests: RateLimiter(perSecond: self.requestsPerSecondMax),
                sessions: self.sessions,
                polls: self.quota,
                outlet: outlet,
                now: self.services.now
            ),
            limits: self.limits
        )
    }
}
