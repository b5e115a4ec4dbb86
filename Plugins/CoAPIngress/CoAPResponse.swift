import NIOCore
import NodeKit

/// Numbers of Content-Format and Accept (RFC 7252 §12.3).
enum ContentFormat {
    static let text: UInt32 = 0
    static let link: UInt32 = 40
    static let octets: UInt32 = 42
    static let json: UInt32 = 50
    /// What a body that holds JSON may be declared as; clients in the field declare any of these, or nothing.
    static let jsonLike: Set<UInt32> = [text, octets, json]
}

/// The answer to a request, before it is known how the message layer carries it.
struct CoAPResponse: Hashable, Sendable {
    /// The longest text that goes with an error, in bytes (RFC 7252 §5.5.2 asks for brief ones).
    static let diagnosticBytesMax = 256

    var code: CoAPCode
    var options: [CoAPOption] = []
    var payload = ByteBuffer()

    init(_ code: CoAPCode, options: [CoAPOption] = [], payload: ByteBuffer = ByteBuffer()) {
        self.code = code
        self.options = options
        self.payload = payload
    }

    /// An error with a text for people.
    init(_ code: CoAPCode, diagnostic: String) {
        var text = diagnostic[...]
        while text.utf8.count > Self.diagnosticBytesMax { text.removeLast() }
        self.init(code, payload: ByteBuffer(substring: text))
    }

    /// An error of the chain, by its code; what went wrong inside the host is not told.
    init(_ error: NodeError) {
        switch error.code {
        case .badRequest: self.init(.badRequest, diagnostic: error.message)
        case .unauthorized: self.init(.unauthorized, diagnostic: error.message)
        case .forbidden: self.init(.forbidden, diagnostic: error.message)
        case .notFound: self.init(.notFound, diagnostic: error.message)
        case .conflict: self.init(.conflict, diagnostic: error.message)
        case .tooLarge: self.init(.requestEntityTooLarge, diagnostic: error.message)
        case .tooManyRequests: self.init(.tooManyRequests, diagnostic: error.message)
        case .unavailable: self.init(.serviceUnavailable, diagnostic: error.message)
        case .timedOut: self.init(.gatewayTimeout, diagnostic: error.message)
        case .storageFull: self.init(.internalServerError, diagnostic: "there is no room to store it")
        default: self.init(.internalServerError)
        }
    }

    /// Why a request cannot be taken apart.
    init(_ fault: CoAPRequest.Fault) {
        switch fault {
        case .badOption(let number):
            self.init(.badOption, diagnostic: "option \(number.rawValue) is not known, or not in this form")
        case .proxying: self.init(.proxyingNotSupported)
        case .badRequest(let text): self.init(.badRequest, diagnostic: text)
        }
    }

    /// A block of a JSON text, or all of it if it fits one block.
    init(_ code: CoAPCode = .content, json: ByteBuffer, for request: CoAPRequest, exponentMax: UInt8) {
        guard request.accept == nil || request.accept == ContentFormat.json else {
            self.init(.notAcceptable, diagnostic: "this resource is JSON (content format 50)")
            return
        }
        self.init(
            code,
            body: json,
            format: ContentFormat.json,
            etag: EntityTag.of(json),
            block2: request.block2,
            exponentMax: exponentMax
        )
    }

    /// A block of bytes that are in memory.
    init(_ code: CoAPCode, body: ByteBuffer, format: UInt32, etag: UInt64, block2: Block?, exponentMax: UInt8) {
        let slice: BlockSlice
        do {
            slice = try BlockSlice(of: Int64(body.readableBytes), requested: block2, exponentMax: exponentMax)
        } catch {
            self.init(error, bodySize: Int64(body.readableBytes))
            return
        }
        let start = body.readerIndex + Int(slice.range.lowerBound)
        self.init(
            code,
            options: Self.options(slice, etag: etag, size: Int64(body.readableBytes), format: format),
            payload: body.getSlice(at: start, length: slice.range.count) ?? ByteBuffer()
        )
    }

    /// The block of a package's bytes that a request asks for; only this block is read.
    static func reading(_ reply: ContentReply, for request: CoAPRequest, exponentMax: UInt8) async throws -> Self {
        guard request.accept == nil || request.accept == ContentFormat.octets else {
            return Self(.notAcceptable, diagnostic: "this resource is bytes (content format 42)")
        }
        let size = reply.range.upperBound - reply.range.lowerBound
        let slice: BlockSlice
        do {
            slice = try BlockSlice(of: size, requested: request.block2, exponentMax: exponentMax)
        } catch {
            return Self(error, bodySize: size)
        }
        let start = reply.range.lowerBound
        let payload =
            slice.range.isEmpty
            ? ByteBuffer()
            : try await reply.content.read(start + slice.range.lowerBound..<start + slice.range.upperBound)
        let etag = reply.entityTag.map(EntityTag.of)
        return Self(
            .content,
            options: Self.options(slice, etag: etag, size: size, format: ContentFormat.octets),
            payload: payload
        )
    }

    private init(_ fault: BlockSlice.Fault, bodySize: Int64) {
        switch fault {
        case .pastEnd:
            self.init(.badRequest, diagnostic: "this block is past the end; the body has \(bodySize) bytes")
        case .tooManyBlocks:
            self.init(
                .badRequest,
                diagnostic:
                    "\(bodySize) bytes are more than 2^20 blocks; ask for larger blocks, or use 'size' and 'chunk'"
            )
        }
    }

    private static func options(_ slice: BlockSlice, etag: UInt64?, size: Int64, format: UInt32) -> [CoAPOption] {
        var options: [CoAPOption] = []
        options.reserveCapacity(4)
        if let etag { options.append(CoAPOption(.etag, ByteBuffer(integer: etag))) }
        options.append(CoAPOption(.contentFormat, uint: format))
        if let block = slice.block {
            options.append(block.option(.block2))
            options.append(CoAPOption(.size2, uint: UInt32(clamping: size)))
        }
        return options
    }

    /// Adds an option.
    mutating func add(_ option: CoAPOption) { self.options.append(option) }

    /// Makes it a notification of an observer, or the answer that registers one (RFC 7641 §4.2).
    ///
    /// - Parameters:
    ///   - sequence: The sequence number, of 24 bits.
    ///   - maxAge: How long it may be trusted, in seconds.
    mutating func observing(_ sequence: UInt32, maxAge: UInt32) {
        self.add(CoAPOption(.observe, uint: sequence))
        self.add(CoAPOption(.maxAge, uint: maxAge))
    }

    /// The message that carries the answer.
    func message(_ kind: CoAPMessage.Kind, messageID: UInt16, token: CoAPMessage.Token) -> CoAPMessage {
        CoAPMessage(
            kind,
            self.code,
            messageID: messageID,
            token: token,
            options: self.options,
            payload: self.payload
        )
    }
}

/// Entity tags of eight bytes (RFC 7252 §5.10.6): the same for the same body, also after a restart.
enum EntityTag {
    /// The tag of a body.
    static func of(_ body: ByteBuffer) -> UInt64 { Self.hash(body.readableBytesView) }

    /// The tag for what a chain calls a body: the first eight bytes of a checksum in hexadecimal, or a hash of another text.
    static func of(_ name: String) -> UInt64 {
        let utf8 = name.utf8
        if utf8.count >= 16, let prefix = UInt64(name.prefix(16), radix: 16) { return prefix }
        return Self.hash(utf8)
    }

    /// FNV-1a: well spread and always the same, which `Hasher` is not.
    private static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
        bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
