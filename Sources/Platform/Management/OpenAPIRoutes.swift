import Hummingbird
import NodeKit

/// `/openapi.json` and, where ThingsBoard has it, `/v3/api-docs`: what all routes do.
struct OpenAPIRoutes: Sendable {
    private static let paths = ["/v3/api-docs", "/openapi.json"]

    /// Describes all routes that were added before, and these.
    func add(to routes: inout RouteTable) {
        let operation = Operation("Reads this document", answer: .json(.document))
        // The document tells of the routes that hand it out, too.
        var described = routes
        for path in Self.paths { described.add(.get, path, for: .anyone, operation) { _ in .empty } }
        let document = OpenAPIDocument(described.routes).json.bytes
        for path in Self.paths {
            routes.add(.get, path, for: .anyone, operation) { _ in
                Response(
                    status: .ok,
                    headers: [.contentType: "application/json"],
                    body: ResponseBody(byteBuffer: document)
                )
            }
        }
    }
}
