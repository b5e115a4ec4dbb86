public import NIOCore
public import NodeKit

/// What goes back to the client, before it is bytes.
public struct Response: Sendable {
    /// The part after the head.
    public enum Body: Sendable {
        /// Nothing.
        case none
        /// A JSON text.
        case json(ByteBuffer)
        /// A sentence.
        case text(StaticString)
        /// Bytes of a package, as zero-based offsets within its content.
        case content(ContentReply, Range<Int64>)
        /// Several ranges of a package.
        indirect case parts(ContentReply, Multipart)
    }

    /// The status code.
    public var status: Int
    /// The part after the head.
    public var body: Body = .none
    /// `Allow`, for 405.
    public var allow: String?
    /// The size that `Content-Range` tells, for 206 and 416.
    public var completeSize: Int64?
    /// Whether the connection ends with it.
    public var closes = false

    /// Makes an answer.
    ///
    /// - Parameters:
    ///   - status: The status code, 200…599.
    ///   - body: The part after the head.
    ///   - completeSize: The size that `Content-Range` tells, for 206 and 416.
    ///   - closes: Whether the connection ends with it.
    public init(status: Int, body: Body = .none, completeSize: Int64? = nil, closes: Bool = false) {
        self.status = status
        self.body = body
        self.completeSize = completeSize
        self.closes = closes
    }

    /// How many bytes the body has.
    public var bodyLength: Int64 {
        switch self.body {
        case .none: 0
        case .json(let bytes): Int64(bytes.readableBytes)
        case .text(let text): Int64(text.utf8CodeUnitCount)
        case .content(_, let range): Int64(range.count)
        case .parts(_, let multipart): multipart.length
        }
    }
}

extension Response {
    /// An answer without a body.
    public static func empty(_ status: Int) -> Response { Response(status: status) }

    /// A JSON value.
    public static func json(_ value: JSON) -> Response { Response(status: 200, body: .json(value.bytes)) }

    /// An error in the form of ThingsBoard.
    public static func error(_ status: Int, _ message: String, at timestamp: Timestamp) -> Response {
        let value: JSON = [
            "status": .integer(Int64(status)), "message": .string(message),
            "errorCode": .integer(Self.errorCode(status)), "timestamp": .integer(timestamp.rawValue),
        ]
        return Response(status: status, body: .json(value.bytes))
    }

    /// The answer to a request that is not handed to the chain.
    public static func rejection(_ rejection: Rejection, at timestamp: Timestamp) -> Response {
        switch rejection {
        case .badRequest(let message): return .error(400, message, at: timestamp)
        case .unauthorized: return .empty(401)
        case .notFound: return .error(404, "Not Found", at: timestamp)
        case .methodNotAllowed(let allow):
            var response = Response.error(405, "Request method is not supported", at: timestamp)
            response.allow = allow
            return response
        case .tooLarge(let limit):
            // ThingsBoard answers with a bare string here, not with its error object.
            let text = JSON.string("Payload size exceeds the limit of \(limit) bytes")
            return Response(status: 413, body: .json(text.bytes), closes: true)
        case .expectationFailed:
            var response = Response.error(417, "No expectation but 100-continue can be met", at: timestamp)
            response.closes = true
            return response
        case .noRoom:
            var response = Response.error(503, "Too many requests are being received", at: timestamp)
            response.closes = true
            return response
        case .tooSlow: return Response(status: 408, closes: true)
        case .headerTooLarge: return Response(status: 431, closes: true)
        case .encodingNotSupported:
            var response = Response.error(415, "A body must not have a Content-Encoding", at: timestamp)
            response.closes = true
            return response
        case .codingNotSupported: return Response(status: 501, closes: true)
        case .versionNotSupported: return Response(status: 505, closes: true)
        }
    }

    /// The answer to what became of a message.
    ///
    /// - Parameters:
    ///   - outcome: What the chain says.
    ///   - request: The request, which may want a part of a content.
    ///   - isDownload: Whether a package was asked for, as for ``failure(_:isDownload:at:)``.
    ///   - timestamp: The present time.
    /// - Returns: The reply, or the error; `nil` if nothing in the chain replied.
    public static func outcome(
        _ outcome: Outcome,
        of request: Request,
        isDownload: Bool = false,
        at timestamp: Timestamp
    ) -> Response? {
        switch outcome {
        // The last three are of messages that wait, which those of clients do not.
        case .completed(nil), .later, .superseded, .ended: nil
        case .completed(.empty): .empty(200)
        case .completed(.json(let value)): .json(value)
        case .completed(.content(let reply)): .content(reply, conditions: request.conditions)
        case .completed(.refused(let error)), .failed(let error):
            .failure(error, isDownload: isDownload, at: timestamp)
        }
    }

    /// The answer to what a chain could not do.
    ///
    /// - Parameters:
    ///   - error: What the chain says.
    ///   - isDownload: Whether a package was asked for, where ThingsBoard answers 400 and 404 with nothing more.
    ///   - timestamp: The present time.
    /// - Returns: The status of the error's code, with its text where a device may have it.
    public static func failure(_ error: NodeError, isDownload: Bool = false, at timestamp: Timestamp) -> Response {
        switch error.code {
        case .badRequest: isDownload ? .empty(400) : .error(400, error.message, at: timestamp)
        case .unauthorized: .empty(401)
        case .forbidden: .error(403, error.message, at: timestamp)
        case .notFound: isDownload ? .empty(404) : .error(404, error.message, at: timestamp)
        case .conflict: .error(409, error.message, at: timestamp)
        case .tooLarge: .error(413, error.message, at: timestamp)
        case .tooManyRequests: .error(429, error.message, at: timestamp)
        case .storageFull: .error(507, error.message, at: timestamp)
        case .unavailable: .error(503, error.message, at: timestamp)
        case .timedOut: .error(504, error.message, at: timestamp)
        // The text of our own faults is for the operator's log, not for a device.
        default: .error(500, "Internal Server Error", at: timestamp)
        }
    }

    /// Bytes of a package, or what the client's conditions make of them, in the order of RFC 9110 §13.2.2.
    public static func content(_ reply: ContentReply, conditions: ConditionFields?) -> Response {
        let whole = Response(status: 200, body: .content(reply, reply.range))
        guard let conditions else { return whole }
        let tag = ResponseEncoder.entityTag(reply)
        guard Conditions.holds(ifMatch: conditions.ifMatch, entityTag: tag) else { return .empty(412) }
        if Conditions.isUnchanged(ifNoneMatch: conditions.ifNoneMatch, entityTag: tag) {
            return Response(status: 304, body: .content(reply, reply.range.lowerBound..<reply.range.lowerBound))
        }
        // A chunk is asked for by its index; a range of a chunk is of no use to anyone.
        guard reply.chunkIndex == nil, let field = conditions.range,
            Conditions.holds(ifRange: conditions.ifRange, entityTag: tag)
        else { return whole }
        let size = Int64(reply.range.count)
        switch ByteRanges.selection(field, size: size) {
        case .whole: return whole
        case .unsatisfiable: return Response(status: 416, completeSize: size)
        case .parts(let parts):
            guard let part = parts.first, parts.count == 1 else {
                return Response(status: 206, body: .parts(reply, Multipart(parts, of: reply)))
            }
            let base = reply.range.lowerBound
            let range = base + part.lowerBound..<base + part.upperBound
            return Response(status: 206, body: .content(reply, range), completeSize: size)
        }
    }

    private static func errorCode(_ status: Int) -> Int64 {
        switch status {
        case 400, 405, 413, 415, 417: 31
        case 401: 10
        case 403: 20
        case 404: 32
        case 409: 35
        case 429: 33
        default: 2
        }
    }
}
