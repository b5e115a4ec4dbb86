import NIOCore

/// What a request asks for: the method and the options that we know, checked.
struct CoAPRequest: Hashable, Sendable {
    /// Why the options of a request cannot be honoured.
    enum Fault: Error, Hashable, Sendable {
        /// A critical option that we do not know, or that is repeated or has a length that it must not have.
        case badOption(CoAPOption.Number)
        /// The request is for a proxy (RFC 7252 §5.10.2).
        case proxying
        /// A value that is malformed in a way that has its own code.
        case badRequest(String)
    }

    /// What the Observe option of a GET asks for (RFC 7641 §2).
    enum Observe: Hashable, Sendable {
        case register
        case deregister
    }

    var method: CoAPCode
    var token: CoAPMessage.Token
    /// The segments of the path.
    var path: [String] = []
    /// Name and value of the arguments, in order; an argument without `=` has an empty value.
    var query: [(name: String, value: String)] = []
    var observe: Observe?
    var block1: Block?
    var block2: Block?
    /// How many bytes the whole body has, if the peer says so.
    var size1: UInt32?
    var contentFormat: UInt32?
    var accept: UInt32?
    var payload: ByteBuffer

    /// Takes the options of a request apart.
    init(_ message: CoAPMessage) throws(Fault) {
        self.method = message.code
        self.token = message.token
        self.payload = message.payload
        self.path.reserveCapacity(5)
        var last: CoAPOption.Number?
        for option in message.options {
            // RFC 7252 §5.4.5: a further occurrence of an option that must not be repeated is like an unknown option.
            let isRepeated = option.number == last
            last = option.number
            guard try self.take(option, isRepeated: isRepeated) else {
                if option.number.isCritical { throw .badOption(option.number) }
                continue
            }
        }
    }

    /// Takes in one option.
    ///
    /// - Returns: Whether it is known and its length is right; if not, it counts as unknown (RFC 7252 §5.4.3).
    private mutating func take(_ option: CoAPOption, isRepeated: Bool) throws(Fault) -> Bool {
        let length = option.value.readableBytes
        switch option.number {
        case .uriPath:
            guard length <= 255 else { return false }
            self.path.append(try Self.text(option))
            return true
        case .uriQuery:
            guard length <= 255 else { return false }
            let argument = try Self.text(option)
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            self.query.append((String(parts[0]), parts.count > 1 ? String(parts[1]) : ""))
            return true
        case _ where isRepeated:
            return false
        case .uriHost:
            // We serve whatever host the client takes us for.
            return (1...255).contains(length)
        case .uriPort:
            return length <= 2
        case .proxyURI, .proxyScheme:
            throw .proxying
        case .contentFormat:
            guard length <= 2 else { return false }
            self.contentFormat = option.uint
            return true
        case .accept:
            guard length <= 2 else { return false }
            self.accept = option.uint
            return true
        case .observe:
            guard length <= 3 else { return false }
            // RFC 7641 §2: other values are for responses.
            if self.method == .get, let value = option.uint {
                self.observe = value == 0 ? .register : value == 1 ? .deregister : nil
            }
            return true
        case .block1:
            guard length <= 3 else { return false }
            self.block1 = try Self.block(option)
            return true
        case .block2:
            guard length <= 3 else { return false }
            self.block2 = try Self.block(option)
            return true
        case .size1:
            self.size1 = option.uint
            return length <= 4
        default:
            return false
        }
    }

    /// The values of an argument, joined by commas: `a=1&a=2` is the same as `a=1,2`; `nil` if it is absent.
    func list(_ name: String) -> String? {
        let values = self.query.filter { $0.name == name && !$0.value.isEmpty }.map(\.value)
        return values.isEmpty ? nil : values.joined(separator: ",")
    }

    /// The first value of an argument; `nil` if it is absent.
    func argument(_ name: String) -> String? { self.query.first { $0.name == name }?.value }

    private static func text(_ option: CoAPOption) throws(Fault) -> String {
        guard let text = option.text else { throw .badRequest("the path or query is not UTF-8") }
        return text
    }

    private static func block(_ option: CoAPOption) throws(Fault) -> Block {
        guard let block = Block(option) else {
            throw .badRequest("block size exponent 7 is reserved; it may be 0 to 6")
        }
        return block
    }

    static func == (a: Self, b: Self) -> Bool {
        a.method == b.method && a.token == b.token && a.path == b.path && a.observe == b.observe
            && a.query.elementsEqual(b.query, by: ==) && a.block1 == b.block1 && a.block2 == b.block2
            && a.size1 == b.size1 && a.contentFormat == b.contentFormat && a.accept == b.accept
            && a.payload == b.payload
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(self.method)
        hasher.combine(self.path)
    }
}
