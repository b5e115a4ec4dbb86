public import NIOCore
public import NodeKit

/// What a node serves below its paths on a listener: says of each request which route it is.
///
/// ``HTTPServer/run(_:at:services:ready:)`` puts it on a listener.
public protocol HTTPSite: Sendable {
    /// Finds the route of a request by its first line, before anything else of it is read.
    ///
    /// Called once for each request below the site's paths, on the event loop of its connection, which it must not block.
    ///
    /// - Parameters:
    ///   - method: The method. `HEAD` is answered like `GET`; the body is left out by the server.
    ///   - target: The path and the query; valid only during the call.
    /// - Returns: The route.
    /// - Throws: ``Rejection`` if there is none, such as ``Rejection/notFound`` and ``Rejection/methodNotAllowed(allow:)``.
    func route(_ method: RequestMethod, _ target: RequestTarget) throws(Rejection) -> HTTPRoute
}

/// What a request is for: how much of it is read, and who answers it.
public struct HTTPRoute: Sendable {
    /// The largest body in bytes; a larger one gets 413.
    ///
    /// `nil` if no body belongs to it: one of up to 64 KiB is read and thrown away.
    public var bodyBytesMax: Int?
    /// Whether the sender says who it is.
    ///
    /// All other bodies get half of the room that there is for bodies, so that they cannot take all of it.
    public var isKnown: Bool
    /// Whether the answer needs the header fields (``Request/fields``).
    public var keepsFields: Bool
    /// Whether the answer needs the client's certificate (``Request/certificate``).
    public var needsCertificate: Bool
    /// How long the answer may wait for news, as that of a long poll does; `nil` for any other.
    ///
    /// The task of such an answer is cancelled at the end of that time, when the client leaves, and when the node stops; what
    /// it then returns is sent if the client is still there. The task of any other answer is never cancelled.
    public var waitsAtMost: TimeAmount?
    /// Who answers.
    public var responder: any HTTPResponder

    /// Describes a route.
    ///
    /// - Parameters:
    ///   - responder: Who answers; made for each request, or once for all.
    ///   - bodyBytesMax: The largest body in bytes; `nil` for none.
    ///   - isKnown: Whether the sender says who it is.
    ///   - keepsFields: Whether the answer needs the header fields.
    ///   - needsCertificate: Whether the answer needs the client's certificate.
    ///   - waitsAtMost: How long the answer may wait for news; `nil` for one that is no long poll.
    public init(
        _ responder: any HTTPResponder,
        bodyBytesMax: Int? = nil,
        isKnown: Bool = false,
        keepsFields: Bool = false,
        needsCertificate: Bool = false,
        waitsAtMost: TimeAmount? = nil
    ) {
        self.responder = responder
        self.bodyBytesMax = bodyBytesMax
        self.isKnown = isKnown
        self.keepsFields = keepsFields
        self.needsCertificate = needsCertificate
        self.waitsAtMost = waitsAtMost
    }
}

/// Answers requests, on the event loop of their connection, which it must not block.
public protocol HTTPResponder: Sendable {
    /// Answers a request that is completely here. Called once for each.
    func begin(_ request: Request) -> HTTPAnswer

    /// Says what a request is refused with before more of its body is read than came with its head.
    ///
    /// Bodies that are being received take room, which a sender without a right to it could take from all others. Called for
    /// bodies only that are not yet here, before ``begin(_:)`` and with a request whose body is empty.
    ///
    /// - Returns: The answer, with which the connection ends; `nil` if the client may send its body.
    func refusal(of request: Request) async -> Response?
}

extension HTTPResponder {
    /// Takes every body.
    public func refusal(of request: Request) async -> Response? { nil }
}

/// What is sent for a request, or what is to be called once, on the event loop of the connection, to know it.
public typealias HTTPAnswer = Step<Response, Suspension<Response>>

/// What of a request is for its route.
public struct Request: Sendable {
    /// Which bytes of a content are wanted, and on what condition; for ``Response/content(_:conditions:)``.
    public var conditions: ConditionFields?
    /// The body; empty if there is none.
    public var body = ByteBuffer()
    /// The header fields in order, if the route keeps them.
    public var fields: [HeaderField] = []
    /// The client's certificate in DER form, if the route needs it and the client has shown one.
    public var certificate: [UInt8]?

    /// The value of the first header field with a name, which is compared without case; `nil` if there is none, or the route
    /// does not keep fields.
    public func field(_ name: String) -> String? {
        self.fields.first { $0.name.lowercased() == name.lowercased() }?.value
    }

    /// From how many bytes on a body is parsed away from the event loop, which serves others meanwhile.
    static let parseAside = 64 * 1024

    /// The body as JSON.
    ///
    /// - Throws: ``NodeError`` with code `bad-request` if there is none, or it is no JSON.
    public func json() async throws(NodeError) -> JSON {
        guard self.body.readableBytes > 0 else { throw NodeError(.badRequest, "Required request body is missing") }
        let body = self.body
        do {
            if body.readableBytes < Self.parseAside { return try JSON(parsing: body) }
            return try await withTaskExecutorPreference(globalConcurrentExecutor) { try JSON(parsing: body) }
        } catch let error as JSONSyntaxError {
            throw NodeError(unreadable: "the body", error)
        } catch {
            throw NodeError(wrapping: error)
        }
    }
}
