/// The method of a request (RFC 9110 §9): those of the IANA's registry that clients, crawlers and tools do send.
///
/// A request with any other is more likely no HTTP at all.
public enum RequestMethod: String, Hashable, Sendable, CaseIterable {
    case get = "GET"
    case post = "POST"
    case head = "HEAD"
    case put = "PUT"
    case delete = "DELETE"
    case options = "OPTIONS"
    case patch = "PATCH"
    case connect = "CONNECT"
    case trace = "TRACE"
    case copy = "COPY"
    case lock = "LOCK"
    case makeCollection = "MKCOL"
    case move = "MOVE"
    case findProperties = "PROPFIND"
    case patchProperties = "PROPPATCH"
    case search = "SEARCH"
    case unlock = "UNLOCK"
    case bind = "BIND"
    case rebind = "REBIND"
    case unbind = "UNBIND"
    case accessControl = "ACL"
    case report = "REPORT"
    case makeActivity = "MKACTIVITY"
    case checkout = "CHECKOUT"
    case merge = "MERGE"
    case multicastSearch = "M-SEARCH"
    case notify = "NOTIFY"
    case subscribe = "SUBSCRIBE"
    case unsubscribe = "UNSUBSCRIBE"
    case purge = "PURGE"
    case makeCalendar = "MKCALENDAR"
    case link = "LINK"
    case unlink = "UNLINK"

    /// Reads a method; `nil` for one that is not known.
    init?(_ bytes: HeadBytes) {
        if bytes.equals("GET") {
            self = .get
        } else if bytes.equals("POST") {
            self = .post
        } else {
            guard let method = Self.allCases.first(where: { bytes.elementsEqual($0.rawValue.utf8) }) else { return nil }
            self = method
        }
    }

    /// Whether bytes may be the beginning of a method.
    static func mayBegin(_ bytes: HeadBytes) -> Bool {
        bytes.count <= Self.lengthMax
            && bytes.allSatisfy { byte in
                (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) || byte == UInt8(ascii: "-")
            }
    }

    /// How many bytes the longest has.
    private static let lengthMax = 11
}
