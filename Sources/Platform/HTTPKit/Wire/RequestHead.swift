/// What the head of a request says that matters here.
///
/// An object, as it is large and passes through many hands of one connection.
final class RequestHead {
    /// The method.
    var method: RequestMethod
    /// Who answers it; `nil` if it is refused, or if no routes are looked for.
    var route: HTTPRoute?
    /// Whose paths the target is below, if anyone's.
    var mount: Mount?
    /// Why it is refused; `nil` if it is not.
    private(set) var refusal: Rejection?
    /// Whether another request may follow on the connection.
    var isKeepAlive = true
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
    /// The target, if no routes are looked for.
    var target = ""
    /// All fields in order, if the route asks for them or no routes are looked for.
    var fields: [HeaderField] = []

    init(method: RequestMethod, isOldVersion: Bool) {
        self.method = method
        self.isOldVersion = isOldVersion
    }

    /// Whether the answer goes without its body.
    var isHead: Bool { self.method == .head }

    /// Whether a body follows.
    var hasBody: Bool { self.isChunked || (self.contentLength ?? 0) > 0 }

    /// Notes why it is not served.
    func refuse(_ rejection: Rejection) {
        self.refusal = rejection
        self.route = nil
    }
}

/// A field of a head, as it came but for the white space around its value.
public struct HeaderField: Hashable, Sendable {
    /// The name; compare it without case (RFC 9110 §5.1).
    public var name: String
    /// The value.
    public var value: String
}

/// The fields that say which bytes of a content the client wants, and on what condition.
public struct ConditionFields: Hashable, Sendable {
    /// `Range`, for a `GET` only (RFC 9110 §14.2); empty if there are several.
    var range: String?
    /// The field `If-Range`; empty if there are several.
    var ifRange: String?
    /// The field `If-Match`; several are one list.
    var ifMatch: String?
    /// The field `If-None-Match`; several are one list.
    var ifNoneMatch: String?
}
