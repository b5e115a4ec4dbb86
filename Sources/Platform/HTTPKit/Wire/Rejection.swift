/// Why a request is refused before anything is made of it.
public enum Rejection: Error, Hashable, Sendable {
    /// It cannot be understood, or a number in it is out of range.
    case badRequest(String)
    /// Its sender did not prove who it is.
    case unauthorized
    /// There is nothing at this path.
    case notFound
    /// The path exists for other methods only; `allow` names them.
    case methodNotAllowed(allow: String)
    /// The body is larger than `limit` bytes.
    case tooLarge(limit: Int)
    /// An expectation other than `100-continue`.
    case expectationFailed
    /// Too many bodies are being received.
    case noRoom
    /// The body did not come in time.
    case tooSlow
    /// The header is too large.
    case headerTooLarge
    /// A body in a content coding, such as gzip (RFC 9110 §8.4).
    case encodingNotSupported
    /// A transfer coding other than `chunked` (RFC 9112 §6.1).
    case codingNotSupported
    /// A version of HTTP other than 1.
    case versionNotSupported

    /// It is no HTTP, or leaves open where it ends.
    static var malformed: Rejection { .badRequest("the request is not well-formed HTTP") }
}
