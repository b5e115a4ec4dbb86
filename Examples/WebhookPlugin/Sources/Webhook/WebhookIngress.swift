import HTTPKit
public import NodeKit

/// Takes in JSON that other programs post, and answers with what the chain says.
///
/// `POST /hooks/{name}` becomes a message `WEBHOOK` with `{name}` as its `hook` and the body as its data. The reply of the chain
/// is the answer; without one it is an empty 200.
public struct WebhookIngress: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "ingress",
        summary: "Takes in JSON that is posted to /hooks/, and answers with what the chain says.",
        relations: [RelationDescriptor(.success, "Every post that has the secret.")],
        attributes: HTTPServer.attributes + [
            .string("secret", summary: "What the header X-Hook-Secret of each post must say.")
        ],
        variables: [VariableDescriptor("hook", "The last part of the path.")]
    )

    private let server: HTTPServer
    private let secret: String
    private let services: NodeServices

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.server = try HTTPServer(configuration)
        self.secret = configuration.string("secret")
        self.services = services
    }

    /// Serves until the host stops.
    public func run(_ outlet: any Outlet) async throws {
        let hooks = Hooks(secret: self.secret, outlet: outlet, now: self.services.now)
        try await self.server.run(hooks, at: ["/hooks/"], services: self.services) { outlet.ready($0) }
    }
}

/// Finds the route of each request.
private struct Hooks: HTTPSite {
    /// The largest body that is taken, in bytes.
    static let bodyBytesMax = 65_536

    let secret: String
    let outlet: any Outlet
    let now: @Sendable () -> Timestamp

    func route(_ method: RequestMethod, _ target: RequestTarget) throws(Rejection) -> HTTPRoute {
        var segments = target.segments
        guard segments.next() != nil, let name = segments.next(), !name.isEmpty, segments.next() == nil else {
            throw .notFound
        }
        guard method == .post else { throw .methodNotAllowed(allow: "POST") }
        return HTTPRoute(
            Post(hook: try name.pathText(), hooks: self),
            bodyBytesMax: Self.bodyBytesMax,
            keepsFields: true
        )
    }
}

/// Answers one request.
private struct Post: HTTPResponder {
    let hook: String
    let hooks: Hooks

    func refusal(of request: Request) async -> Response? {
        // Compares all bytes, so that a client cannot learn from the time how many of them are right.
        let (given, secret) = ((request.field("X-Hook-Secret") ?? "").utf8, self.hooks.secret.utf8)
        let isSame = given.count == secret.count && zip(given, secret).reduce(0) { $0 | $1.0 ^ $1.1 } == 0
        return isSame ? nil : .empty(401)
    }

    func begin(_ request: Request) -> HTTPAnswer {
        .suspended(Suspension { await self.answer(request) })
    }

    private func answer(_ request: Request) async -> Response {
        if let refusal = await self.refusal(of: request) { return refusal }
        do {
            let message = Message(
                originator: .unknown(name: self.hook),
                type: "WEBHOOK",
                metadata: ["hook": .string(self.hook)],
                data: .json(try await request.json()),
                timestamp: self.hooks.now()
            )
            return .outcome(await self.hooks.outlet.send(message), of: request, at: self.hooks.now()) ?? .empty(200)
        } catch {
            return .failure(error, at: self.hooks.now())
        }
    }
}
