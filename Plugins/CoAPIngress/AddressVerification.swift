import Crypto
import FoundationEssentials
import IngressKit
import NIOCore

/// Whether a large answer may go to an address that may be forged (RFC 9175 §2.4, RFC 7252 §11.3).
///
/// A request in somebody else's name makes us send them what is many times as large. So who asks can be made to show
/// first, with the Echo option, that what we send arrives: the answer is then 4.01 with a value, which the client repeats
/// with its request.
///
/// Many devices in the field do not know the option, and to them a 4.01 is the end. So unless told otherwise we ask for
/// it only under pressure: when so many large answers go to unproven endpoints, of one address or in all, that they could
/// hurt somebody. An address of this machine cannot be forged and causes no pressure.
///
/// An object, not a value: its owner, itself an object, would copy all parts of a value to ask it, which is for each answer.
final class AddressVerification {
    /// When the Echo option is asked for.
    enum Mode: String, Sendable, CaseIterable {
        case off
        case underPressure = "under-pressure"
        case always
    }

    /// When to ask, and how much is too much.
    struct Limits: Hashable, Sendable {
        /// When the option is asked for.
        var mode = Mode.underPressure
        /// Large answers that all unproven endpoints together get in a second; 0 for no limit.
        var answersPerSecondMax = 20_000
        /// Large answers that the unproven endpoints of one address get in a second; 0 for no limit.
        var addressAnswersPerSecondMax = 1000
    }

    /// How many times as long as its request an answer may be in any case (RFC 9175 §2.4, as RFC 9000 §8 for QUIC).
    static let amplificationMax = 3
    /// How long, in bytes, an answer may be in any case: one frame of a constrained network (RFC 9175 §2.4).
    static let harmlessBytesMax = 136
    /// How long a value that we gave may be repeated.
    static let echoLifetime = TimeAmount.seconds(60)
    /// How long an endpoint is taken to be where it showed to be.
    static let proofLifetime = TimeAmount.minutes(10)
    /// How many endpoints that have shown where they are we remember, at least.
    static let provenMax = 16384

    private let limits: Limits
    private let key: SymmetricKey
    private let all: RateLimiter<Bool>
    private let each: RateLimiter<AddressKey>
    private var proven = RecentValues<Endpoint, NIODeadline>(halfMax: AddressVerification.provenMax)

    /// Prepares for endpoints; the key makes our Echo values ours, and should be random.
    init(limits: Limits, key: SymmetricKey = SymmetricKey(size: .bits256)) {
        self.limits = limits
        self.key = key
        self.all = RateLimiter(perSecond: limits.answersPerSecondMax)
        self.each = RateLimiter(perSecond: limits.addressAnswersPerSecondMax)
    }

    /// An endpoint has repeated what only it can have received.
    func proved(_ peer: Endpoint, now: NIODeadline) {
        guard self.limits.mode != .off else { return }
        self.proven.set(now + Self.proofLifetime, for: peer)
    }

    /// Looks at an Echo option of a request.
    func received(_ echo: CoAPOption, from peer: Endpoint, now: NIODeadline) {
        guard self.limits.mode != .off, self.isFresh(echo, from: peer, now: now) else { return }
        self.proved(peer, now: now)
    }

    /// Whether an answer may be sent, which is then counted.
    ///
    /// - Parameters:
    ///   - bytes: How long the answer is.
    ///   - requestBytes: How long its request was.
    ///   - peer: Where it goes.
    ///   - now: The time.
    /// - Returns: Whether it goes; if not, ask for the Echo option.
    func admits(_ bytes: Int, requestBytes: Int, to peer: Endpoint, now: NIODeadline) -> Bool {
        guard self.limits.mode != .off, bytes > max(Self.harmlessBytesMax, Self.amplificationMax * requestBytes)
        else { return true }
        if self.limits.mode == .underPressure {
            let address = peer.address
            if address.isLoopback { return true }
            if self.isProven(peer, now: now) { return true }
            return self.each.admit(address, at: now) && self.all.admit(true, at: now)
        }
        return self.isProven(peer, now: now)
    }

    private func isProven(_ peer: Endpoint, now: NIODeadline) -> Bool {
        self.proven.peek(peer).map { now < $0 } ?? false
    }

    // MARK: Echo values

    /// A value for an endpoint to repeat: when it was given, and a tag that only we can make.
    ///
    /// Nothing is kept of it: values for forged addresses cost no memory.
    func echo(for peer: Endpoint, now: NIODeadline) -> CoAPOption {
        let time = Self.seconds(now)
        var value = ByteBuffer(integer: time)
        value.writeInteger(self.tag(time, peer))
        return CoAPOption(.echo, value)
    }

    private func isFresh(_ echo: CoAPOption, from peer: Endpoint, now: NIODeadline) -> Bool {
        var value = echo.value
        guard let (time, tag) = value.readMultipleIntegers(as: (UInt32, UInt64).self), value.readableBytes == 0,
            Self.seconds(now) &- time <= UInt32(Self.echoLifetime.nanoseconds / 1_000_000_000)
        else { return false }
        // Two numbers are compared in one step, whatever is in them, so the time that it takes tells nothing.
        return self.tag(time, peer) == tag
    }

    private static func seconds(_ now: NIODeadline) -> UInt32 {
        UInt32(truncatingIfNeeded: now.uptimeNanoseconds / 1_000_000_000)
    }

    /// The first eight bytes of an HMAC of time, address and port.
    private func tag(_ time: UInt32, _ peer: Endpoint) -> UInt64 {
        var input = ByteBuffer(integer: time)
        peer.write(into: &input)
        var code = HMAC<SHA256>(key: self.key)
        code.update(data: Array(input.readableBytesView))
        return code.finalize().withUnsafeBytes { $0.loadUnaligned(as: UInt64.self).bigEndian }
    }
}
