/// What went wrong: a code to branch on, a sentence to read, and the cause.
///
/// A node throws it to leave by ``Relation/failure``. If nothing in the chain handles that, the ingress turns the code into
/// its protocol's error.
public struct NodeError: Error, Sendable, CustomStringConvertible {
    /// Kinds of failure.
    ///
    /// The codes are stable; sentences may improve.
    public struct Code: Hashable, Sendable, RawRepresentable, ExpressibleByStringLiteral, CustomStringConvertible {
        /// The code as written in logs and errors.
        public let rawValue: String
        /// Makes a code of a plugin's own; an ingress answers it like ``internalError``.
        public init(rawValue: String) { self.rawValue = rawValue }
        /// Makes a code from a literal.
        public init(stringLiteral value: String) { self.rawValue = value }
        /// The code as written in logs and errors.
        public var description: String { self.rawValue }

        /// The peer sent something that cannot be understood or is out of range.
        ///
        /// HTTP 400, CoAP 4.00.
        public static let badRequest: Self = "bad-request"
        /// The peer did not prove who it is.
        ///
        /// HTTP 401, CoAP 4.01, MQTT 5 0x86.
        public static let unauthorized: Self = "unauthorized"
        /// The peer may not do this.
        ///
        /// HTTP 403, CoAP 4.03.
        public static let forbidden: Self = "forbidden"
        /// What the peer asked for is not there.
        ///
        /// HTTP 404, CoAP 4.04.
        public static let notFound: Self = "not-found"
        /// The request does not fit the present state.
        ///
        /// HTTP 409, CoAP 4.09.
        public static let conflict: Self = "conflict"
        /// More than the limit allows.
        ///
        /// HTTP 413, CoAP 4.13.
        public static let tooLarge: Self = "too-large"
        /// Too many requests.
        ///
        /// HTTP 429, CoAP 4.29.
        public static let tooManyRequests: Self = "too-many-requests"
        /// There is no room to store it.
        ///
        /// HTTP 507, CoAP 5.00.
        public static let storageFull: Self = "storage-full"
        /// Not possible now, worth trying again.
        ///
        /// HTTP 503, CoAP 5.03.
        public static let unavailable: Self = "unavailable"
        /// The time for it ran out.
        ///
        /// HTTP 504, CoAP 5.04.
        public static let timedOut: Self = "timed-out"
        /// Our own fault.
        ///
        /// HTTP 500, CoAP 5.00.
        public static let internalError: Self = "internal-error"
    }

    /// What to branch on.
    public let code: Code
    /// What could not be done, to what (in quotes), why, and what would help.
    ///
    /// Holds no token, payload or SQL argument.
    public let message: String
    /// The first cause, if another error led to this one.
    public let cause: (any Error)?

    /// Makes an error.
    public init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// Takes an error as it is if it is a ``NodeError``, and as the cause of an ``Code/internalError`` otherwise.
    public init(wrapping error: any Error) {
        if let error = error as? NodeError {
            self = error
        } else if error is CancellationError {
            self.init(.unavailable, "the host is shutting down", cause: error)
        } else {
            self.init(.internalError, "an unexpected error: \(error)", cause: error)
        }
    }

    /// Whether the same request may succeed later without being changed.
    public var isRetryable: Bool {
        [.unavailable, .timedOut, .tooManyRequests, .storageFull].contains(self.code)
    }

    /// The message and its code.
    public var description: String { "\(self.message) [\(self.code)]" }
}
