/// What the head of a request says that matters here.
///
/// An object, as it is large and passes through many hands of one connection.
final class RequestHead {
    /// What is asked, or why it is refused.
    var route: Result<Route, Rejection>
    /// Whether the answer goes without its body.
    var isHead: Bool
    /// Whether another request may follow on the connection.
    var isKeepAlive: Bool
    /// Whether the version is 1.0, whose clients must be told that the connection stays.
    var isOldVersion: Bool
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    var expectsContinue = false
    /// The length of the body, if it is told beforehand.
    var contentLength: Int64?
    /// Whether the body comes in chunks.
    var isChunked = false
    /// Which bytes of a content are wanted; `nil` if nothing is said about that.
    var conditions: ConditionFields?

    init(route: Result<Route, Rejection>, isHead: Bool, isKeepAlive: Bool, isOldVersion: Bool) {
        self.route = route
        self.isHead = isHead
        self.isKeepAlive = isKeepAlive
        self.isOldVersion = isOldVersion
    }

    /// Whether a body follows.
    var hasBody: Bool { self.isChunked || (self.contentLength ?? 0) > 0 }
}

/// The fields that say which bytes of a content the client wants, and on what condition.
struct ConditionFields: Hashable, Sendable {
    /// `Range`, for a `GET` only (RFC 9110 §14.2); empty if there are several.
    var range: String?
    /// The field `If-Range`; empty if there are several.
    var ifRange: String?
    /// The field `If-Match`; several are one list.
    var ifMatch: String?
    /// The field `If-None-Match`; several are one list.
    var ifNoneMatch: String?
}
