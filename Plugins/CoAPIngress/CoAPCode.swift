/// The code of a message: a method, a response code, or empty (RFC 7252 §3, §12.1).
struct CoAPCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// Class in the upper three bits, detail in the lower five.
    var rawValue: UInt8

    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Makes a code of its class, 0…7, and detail, 0…31.
    init(_ codeClass: UInt8, _ detail: UInt8) { self.rawValue = codeClass << 5 | detail & 0x1F }

    static let empty = Self(0, 0)
    static let get = Self(0, 1)
    static let post = Self(0, 2)
    static let put = Self(0, 3)
    static let delete = Self(0, 4)

    static let created = Self(2, 1)
    static let deleted = Self(2, 2)
    static let valid = Self(2, 3)
    static let changed = Self(2, 4)
    static let content = Self(2, 5)
    /// From RFC 7959 §2.9.1.
    static let `continue` = Self(2, 31)
    static let badRequest = Self(4, 0)
    static let unauthorized = Self(4, 1)
    static let badOption = Self(4, 2)
    static let forbidden = Self(4, 3)
    static let notFound = Self(4, 4)
    static let methodNotAllowed = Self(4, 5)
    static let notAcceptable = Self(4, 6)
    /// From RFC 7959 §2.9.2.
    static let requestEntityIncomplete = Self(4, 8)
    /// From RFC 8132 §4.
    static let conflict = Self(4, 9)
    static let preconditionFailed = Self(4, 12)
    static let requestEntityTooLarge = Self(4, 13)
    static let unsupportedContentFormat = Self(4, 15)
    /// From RFC 8516.
    static let tooManyRequests = Self(4, 29)
    static let internalServerError = Self(5, 0)
    static let serviceUnavailable = Self(5, 3)
    static let gatewayTimeout = Self(5, 4)
    static let proxyingNotSupported = Self(5, 5)

    /// The upper three bits: 0 for requests, 2, 4 and 5 for responses.
    var codeClass: UInt8 { self.rawValue >> 5 }
    /// Whether it is a method.
    var isRequest: Bool { self.codeClass == 0 && self != .empty }
    /// Whether it says that the request was carried out.
    var isSuccess: Bool { self.codeClass == 2 }
    /// As the documents write it: `2.05`.
    var description: String {
        let detail = self.rawValue & 0x1F
        return "\(self.codeClass).\(detail < 10 ? "0" : "")\(detail)"
    }
}
