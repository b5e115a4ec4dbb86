public import NIOCore

/// An HTTP request to a server elsewhere.
public struct OutsideCall: Sendable, Hashable {
    /// A header field.
    public struct Field: Sendable, Hashable {
        /// Its name.
        public var name: String
        /// Its value.
        public var value: String

        /// Makes a field.
        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// What a server answered.
    public struct Answer: Sendable, Hashable {
        /// The status code.
        public var status: Int
        /// As much of the body as was wanted.
        public var body: ByteBuffer

        /// Makes an answer.
        public init(status: Int, body: ByteBuffer = ByteBuffer()) {
            self.status = status
            self.body = body
        }
    }

    /// The method, such as `POST`.
    public var method: String
    /// Scheme and authority, such as `https://example.org:8443`.
    public var origin: String
    /// Path and query, such as `/hook?x=1`.
    public var target: String
    /// The header fields, in order.
    public var fields: [Field]
    /// The body; `nil` for a method that has none.
    public var body: ByteBuffer?

    /// Describes a request.
    public init(method: String, origin: String, target: String, fields: [Field], body: ByteBuffer?) {
        self.method = method
        self.origin = origin
        self.target = target
        self.fields = fields
        self.body = body
    }

    /// The whole URL.
    public var url: String { self.origin + self.target }
}

/// Makes calls to servers elsewhere on behalf of nodes.
///
/// A node brings its own. One that is registered with the services takes its place: so a test of a chain answers the calls that the
/// chain makes.
public protocol OutsideCalls: Sendable {
    /// Makes a call; how long that may take is the caller's business, who cancels the task.
    ///
    /// - Returns: Whatever the server answered.
    /// - Throws: ``NodeError`` with ``NodeError/Code/unavailable`` if there was no answer.
    func answer(to call: OutsideCall) async throws(NodeError) -> OutsideCall.Answer
}
