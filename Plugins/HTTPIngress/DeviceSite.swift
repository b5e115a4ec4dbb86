import HTTPKit
import NIOCore

/// The device API on a listener.
struct DeviceSite: HTTPSite {
    /// Where it is served.
    static let paths = ["/api/v1/", "/api/download/"]

    let api: DeviceAPI
    let limits: DeviceLimits

    func route(_ method: RequestMethod, _ target: RequestTarget) throws(Rejection) -> HTTPRoute {
        let route = try Route(method: method, target: target)
        return HTTPRoute(
            DeviceResponder(route, self.api),
            bodyBytesMax: self.limits.bodyBytes(for: route.call),
            isKnown: route.token != nil,
            needsCertificate: route.token == Route.tokenOfCertificate,
            waitsAtMost: route.call.waitsAtMost
        )
    }
}

/// Answers one request of the device API.
private final class DeviceResponder: HTTPResponder {
    private let route: Route
    private let api: DeviceAPI

    init(_ route: Route, _ api: DeviceAPI) {
        self.route = route
        self.api = api
    }

    func begin(_ request: Request) -> HTTPAnswer { self.api.begin(DeviceRequest(self.route, request)) }

    func refusal(of request: Request) async -> Response? {
        await self.api.refusal(of: DeviceRequest(self.route, request))
    }
}
