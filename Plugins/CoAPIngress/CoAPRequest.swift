import IngressKit
import NIOCore
import NodeKit

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

    /// An argument of the query.
    struct Argument: Hashable, Sendable {
        @ExactText var name: String
        /// What follows the first `=`; empty if there is none.
        @ExactText var value: String

        init(_ text: String) {
            let name = text.utf8.prefix { $0 != UInt8(ascii: "=") }
            self.name = String(name) ?? text
            self.value = String(text.utf8[name.endIndex...].dropFirst()) ?? ""
        }
    }

    var method: CoAPCode
    var token: CoAPMessage.Token
    /// The segments of the path.
    var path: [String] = []
    /// The arguments, in order.
    var query: [Argument] = []
    var observe: Observe?
    var block1: Block?
    var block2: Block?
    /// How many bytes the whole body has, if the peer says so.
    var size1: UInt32?
    /// Whether the peer wants to know how many bytes the answer has in all (RFC 7959 §4).
    var wantsSize2 = false
    var contentFormat: UInt32?
    var accept: UInt32?
    /// Entity tags that the peer has answers of (RFC 7252 §5.10.6.2).
    var etags: [CoAPOption] = []
    /// Entity tags of which the resource must have one, an empty one standing for any (RFC 7252 §5.10.8.1).
    var ifMatch: [CoAPOption] = []
    /// Whether the resource must not exist (RFC 7252 §5.10.8.2).
    var ifNoneMatch = false
    /// What tells bodies in blocks apart (RFC 9175 §3).
    var requestTags: [CoAPOption] = []
    /// What we gave the peer to show that it receives what we send to its address (RFC 9175 §2).
    var echo: CoAPOption?
    /// Classes of answers that the peer does not want, a bit each (RFC 7967 §2).
    var noResponse: UInt32 = 0
    var payload: ByteBuffer

    /// Takes the options of a request apart.
    init(_ message: borrowing CoAPMessage) throws(Fault) {
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
        let length = option.length
        switch option.number {
        case .uriPath:
            guard length <= 255 else { return false }
            self.path.append(try Self.text(option, "Uri-Path"))
        case .uriQuery:
            guard length <= 255 else { return false }
            self.query.append(Argument(try Self.text(option, "Uri-Query")))
        case .ifMatch:
            guard length <= 8 else { return false }
            self.ifMatch.append(option)
        case .etag:
            guard (1...8).contains(length) else { return false }
            self.etags.append(option)
        case .requestTag:
            guard length <= 8 else { return false }
            self.requestTags.append(option)
        case _ where isRepeated:
            return false
        case .uriHost:
            // We serve whatever host the client takes us for.
            return (1...255).contains(length)
        case .uriPort:
            return length <= 2
        case .proxyURI, .proxyScheme:
            throw .proxying
        case .ifNoneMatch:
            guard length == 0 else { return false }
            self.ifNoneMatch = true
        case .contentFormat:
            guard length <= 2 else { return false }
            self.contentFormat = option.uint
        case .accept:
            guard length <= 2 else { return false }
            self.accept = option.uint
        case .observe:
            guard length <= 3 else { return false }
            // RFC 7641 §2: other values are for responses.
            if self.method == .get, let value = option.uint {
                self.observe = value == 0 ? .register : value == 1 ? .deregister : nil
            }
        case .block1:
            guard length <= 3 else { return false }
            self.block1 = try Self.block(option)
        case .block2:
            guard length <= 3 else { return false }
            self.block2 = try Self.block(option)
        case .size1:
            guard length <= 4 else { return false }
            self.size1 = option.uint
        case .size2:
            guard length <= 4 else { return false }
            self.wantsSize2 = true
        case .echo:
            guard (1...40).contains(length) else { return false }
            self.echo = option
        case .noResponse:
            guard length <= 1 else { return false }
            self.noResponse = option.uint ?? 0
        default:
            return false
        }
        return true
    }

    /// The values of an argument, joined by commas: `a=1&a=2` is the same as `a=1,2`; `nil` if it is absent.
    func list(_ name: String) -> String? {
        let values = self.query.filter { $0.$name == name.exact && !$0.value.isEmpty }.map(\.value)
        return values.isEmpty ? nil : values.joined(separator: ",")
    }

    /// The value of an argument that may be given once; `nil` if it is absent.
    func argument(_ name: String) throws(NodeError) -> String? {
        guard let first = self.query.firstIndex(where: { $0.$name == name.exact }) else { return nil }
        guard !self.query[(first + 1)...].contains(where: { $0.$name == name.exact }) else {
            throw DeviceProtocol.repeated(name)
        }
        return self.query[first].value
    }

    /// Whether the resource is, or may be, in the state that the peer makes a condition (RFC 7252 §5.10.8).
    ///
    /// - Parameter etag: The entity tag of what a GET would be answered with; `nil` for what has none, as nothing that is
    ///   posted to has.
    /// - Returns: Whether the request may be carried out.
    func conditionHolds(etag: UInt64?) -> Bool {
        // All our resources exist.
        if self.ifNoneMatch { return false }
        return self.ifMatch.isEmpty || self.ifMatch.contains { $0.length == 0 || etag != nil && $0.opaque == etag }
    }

    private static func text(_ option: CoAPOption, _ name: String) throws(Fault) -> String {
        guard let text = option.text else { throw .badRequest("the path or query is not UTF-8") }
        guard !text.utf8.contains(0) else {
            // The name of an argument says more than that of its option.
            let argument = text.utf8.prefix { $0 != UInt8(ascii: "=") && $0 != 0 }
            let isArgument = option.number == .uriQuery && !argument.isEmpty
            throw .badRequest(NullCharacter(in: isArgument ? String(Substring(argument)) : name).description)
        }
        return text
    }

    private static func block(_ option: CoAPOption) throws(Fault) -> Block {
        guard let block = Block(option) else {
            throw .badRequest("block size exponent 7 is reserved; it may be 0 to 6")
        }
        return block
    }
}
