import IngressKit
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
    /// In the order of their numbers.
    private(set) var options: [CoAPOption]
    var payload: ByteBuffer

    /// Makes an answer; the options must be in the order of their numbers.
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

    /// An error, by its code.
    init(_ error: NodeError) {
        let told = DeviceProtocol.told(error)
        let code: CoAPCode =
            switch told.code {
            case .badRequest: .badRequest
            case .unauthorized: .unauthorized
            case .forbidden: .forbidden
            case .notFound: .notFound
            case .conflict: .conflict
            case .tooLarge: .requestEntityTooLarge
            case .tooManyRequests: .tooManyRequests
            case .unavailable: .serviceUnavailable
            case .timedOut: .gatewayTimeout
            default: .internalServerError
            }
        self.init(code, diagnostic: told.message)
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

    /// What a peer that we are too busy for, or that asks too often, is told (RFC 7252 §5.9.3.4, RFC 8516).
    static func later(_ code: CoAPCode, seconds: UInt32) -> Self {
        Self(code, options: [CoAPOption(.maxAge, uint: seconds)])
    }

    /// A block of a JSON text, or all of it if it fits one block.
    ///
    /// JSON is declared as what the request's own body is, as ThingsBoard does.
    init(_ code: CoAPCode = .content, json: ByteBuffer, for request: CoAPRequest, exponentMax: UInt8) {
        let format = request.contentFormat.flatMap { ContentFormat.jsonLike.contains($0) ? $0 : nil }
        guard request.accept.map({ $0 == ContentFormat.json || $0 == format }) ?? true else {
            self.init(.notAcceptable, diagnostic: "this resource is JSON (content format 50)")
            return
        }
        self.init(
            code,
            body: json,
            format: request.accept ?? format ?? ContentFormat.json,
            for: request,
            exponentMax: exponentMax
        )
    }

    /// A block of bytes that are in memory.
    init(_ code: CoAPCode = .content, body: ByteBuffer, format: UInt32, for request: CoAPRequest, exponentMax: UInt8) {
        let etag = EntityTag.of(body)
        if let settled = Self.settled(request, etag: etag, code) {
            self = settled
            return
        }
        let size = Int64(body.readableBytes)
        let slice: BlockSlice
        do {
            slice = try BlockSlice(of: size, requested: request.block2, exponentMax: exponentMax)
        } catch {
            self.init(error, bodySize: size)
            return
        }
        let start = body.readerIndex + Int(slice.range.lowerBound)
        self.init(
            code,
            options: Self.options(slice, etag: etag, size: size, isSizeAsked: request.wantsSize2, format: format),
            payload: body.getSlice(at: start, length: slice.range.count) ?? ByteBuffer()
        )
    }

    /// The first block of what an observer is told.
    init(notification body: ByteBuffer, exponent: UInt8?, exponentMax: UInt8) {
        let size = Int64(body.readableBytes)
        let first = exponent.map { Block(number: 0, more: false, exponent: $0) }
        do {
            let slice = try BlockSlice(of: size, requested: first, exponentMax: exponentMax)
            self.init(
                .content,
                options: Self.options(
                    slice,
                    etag: EntityTag.of(body),
                    size: size,
                    isSizeAsked: false,
                    format: ContentFormat.json
                ),
                payload: body.getSlice(at: body.readerIndex, length: slice.range.count) ?? ByteBuffer()
            )
        } catch {
            self.init(error, bodySize: size)
        }
    }

    /// How far an answer came at once.
    typealias Begun = Step<CoAPResponse, Suspension<CoAPResponse>>

    /// The block of a package's bytes that a request asks for; only this block is read.
    static func reading(_ reply: ContentReply, for request: CoAPRequest, exponentMax: UInt8) -> Begun {
        guard request.accept == nil || request.accept == ContentFormat.octets else {
            return .now(Self(.notAcceptable, diagnostic: "this resource is bytes (content format 42)"))
        }
        let etag = reply.entityTag.map(EntityTag.of)
        if let settled = Self.settled(request, etag: etag, .content) { return .now(settled) }
        let size = reply.range.upperBound - reply.range.lowerBound
        let slice: BlockSlice
        do {
            slice = try BlockSlice(of: size, requested: request.block2, exponentMax: exponentMax)
        } catch {
            return .now(Self(error, bodySize: size))
        }
        let options = Self.options(
            slice,
            etag: etag,
            size: size,
            isSizeAsked: request.wantsSize2,
            format: ContentFormat.octets
        )
        guard !slice.range.isEmpty else { return .now(Self(.content, options: options)) }
        let start = reply.range.lowerBound
        let range = start + slice.range.lowerBound..<start + slice.range.upperBound
        if let payload = reply.content.readAtOnce(range) {
            return .now(Self(.content, options: options, payload: payload))
        }
        return .suspended(
            Suspension { [content = reply.content] in
                do {
                    return Self(.content, options: options, payload: try await content.read(range))
                } catch {
                    return Self(NodeError(wrapping: error))
                }
            }
        )
    }

    /// What answers a GET without its body: that the peer has it already, or that it is not what the peer wants it to be.
    ///
    /// Which of its blocks the peer has is not known, so 2.03 answers only who asks from the start (RFC 7252 §5.10.6.2).
    private static func settled(_ request: CoAPRequest, etag: UInt64?, _ code: CoAPCode) -> Self? {
        guard request.method == .get, code == .content else { return nil }
        guard request.conditionHolds(etag: etag) else { return Self(.preconditionFailed) }
        guard let etag, request.observe == nil, request.block2.map({ $0.number == 0 }) ?? true,
            request.etags.contains(where: { $0.opaque == etag })
        else { return nil }
        return Self(.valid, options: [CoAPOption(.etag, opaque: etag)])
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

    private static func options(
        _ slice: BlockSlice,
        etag: UInt64?,
        size: Int64,
        isSizeAsked: Bool,
        format: UInt32
    ) -> [CoAPOption] {
        var options: [CoAPOption] = []
        options.reserveCapacity(4)
        if let etag { options.append(CoAPOption(.etag, opaque: etag)) }
        options.append(CoAPOption(.contentFormat, uint: format))
        if let block = slice.block { options.append(block.option(.block2)) }
        if slice.block != nil || isSizeAsked { options.append(CoAPOption(.size2, uint: UInt32(clamping: size))) }
        return options
    }

    /// Adds an option.
    mutating func add(_ option: CoAPOption) { self.options.insertInOrder(option) }

    /// Makes it a notification of an observer, or the answer that registers one (RFC 7641 §4.2).
    ///
    /// - Parameters:
    ///   - sequence: The sequence number, of 24 bits.
    ///   - maxAge: How long it may be trusted, in seconds.
    mutating func observing(_ sequence: UInt32, maxAge: UInt32) {
        self.add(CoAPOption(.observe, uint: sequence))
        self.add(CoAPOption(.maxAge, uint: maxAge))
    }

    /// At least as many bytes as the message that carries the answer has.
    func sizeEstimate(_ token: CoAPMessage.Token) -> Int {
        CoAPMessage.sizeEstimate(token, self.options, self.payload)
    }

    /// Appends the message that carries the answer.
    func write(_ kind: CoAPMessage.Kind, messageID: UInt16, token: CoAPMessage.Token, into bytes: inout ByteBuffer) {
        CoAPMessage.write(kind, self.code, messageID, token, self.options, self.payload, into: &bytes)
    }

    /// The message that carries the answer.
    func message(_ kind: CoAPMessage.Kind, messageID: UInt16, token: CoAPMessage.Token) -> CoAPMessage {
        CoAPMessage(
            kind,
            self.code,
            messageID: messageID,
            token: token,
            ordered: self.options,
            payload: self.payload
        )
    }
}

/// Entity tags of eight bytes (RFC 7252 §5.10.6): the same for the same body, also after a restart.
enum EntityTag {
    /// The tag of a body.
    static func of(_ body: ByteBuffer) -> UInt64 { Self.hash(body.readableBytesView) }

    /// The tag for what a chain calls a body: the first eight bytes of a checksum in hexadecimal, or a hash of another
    /// text.
    static func of(_ name: String) -> UInt64 {
        Self.hexadecimal(name) ?? Self.hash(name.utf8)
    }

    /// The number that the first 16 digits of a text are; `nil` if it has fewer.
    private static func hexadecimal(_ text: String) -> UInt64? {
        var number: UInt64 = 0
        var count = 0
        for character in text.utf8.prefix(16) {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = character - UInt8(ascii: "A") + 10
            default: return nil
            }
            number = number << 4 | UInt64(digit)
            count += 1
        }
        return count == 16 ? number : nil
    }

    /// FNV-1a: well spread and always the same, which `Hasher` is not.
    private static func hash(_ bytes: some Sequence<UInt8>) -> UInt64 {
        bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
