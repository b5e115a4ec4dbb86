import IngressKit
import NIOCore
import NodeKit

/// What an operator can set, with its defaults written once, in the descriptor.
struct CoAPSettings: Sendable {
    /// Attributes of the node, beside `port` and `host`.
    static let attributes: [AttributeDescriptor] =
        [
            .integer(
                "block-size-bytes",
                default: 1024,
                in: 16...1024,
                unit: "bytes",
                summary:
                    "Largest block of an answer: 16, 32, 64, 128, 256, 512 or 1024; a device may ask for smaller ones."
            ),
            .integer(
                "datagram-bytes-max",
                default: 1500,
                in: 1152...8192,
                unit: "bytes",
                summary: "Longest datagram that is read; a longer request gets 4.13."
            ),
            .integer(
                "body-bytes-max",
                default: 65536,
                in: 1024...1_048_576,
                unit: "bytes",
                summary: "Largest body of a request, put together from its blocks; a larger one gets 4.13."
            ),
            .integer(
                "exchanges-max",
                // As many as writes may wait in the store; three quarters are for peers that are not known yet.
                default: 100_000,
                in: 1...1_000_000,
                summary: "Requests carried out at the same time; further ones get 5.03."
            ),
            .integer(
                "observers-max",
                default: 20_000,
                in: 1...1_000_000,
                summary: "Observers of all devices; further ones are answered without being registered."
            ),
            .integer(
                "observers-per-device-max",
                default: 4,
                in: 1...64,
                summary: "Observers of one device; a further one ends the oldest."
            ),
            .duration(
                "piggyback-milliseconds",
                .milliseconds,
                default: 500,
                in: 1...60_000,
                summary:
                    "How long an answer may take to go into the acknowledgement; after that it is a message of its own."
            ),
            .duration(
                "ack-timeout-milliseconds",
                .milliseconds,
                default: 2000,
                in: 10...60_000,
                summary:
                    "How long a device may take to acknowledge, at least, before a message is sent again (ACK_TIMEOUT)."
            ),
            .integer(
                "retransmit-max",
                default: 4,
                in: 0...10,
                summary: "How often a message that is not acknowledged is sent again (MAX_RETRANSMIT)."
            ),
            .integer(
                "token-bytes-max",
                default: 512,
                in: 8...1024,
                unit: "bytes",
                summary: "Longest token of a request (RFC 8974); one with a longer token gets 4.00."
            ),
            .string(
                "echo",
                default: AddressVerification.Mode.underPressure.rawValue,
                oneOf: AddressVerification.Mode.allCases.map(\.rawValue),
                summary:
                    "When a device must show that its address is not forged before it gets a large answer (RFC 9175): never, always, or when more of these are asked for than the next two attributes allow."
            ),
            .integer(
                "unproven-answers-per-second-max",
                default: 20_000,
                in: 0...1_000_000_000,
                summary: "Large answers in a second to all whose address may be forged; 0 for no limit."
            ),
            .integer(
                "address-unproven-answers-per-second-max",
                default: 1000,
                in: 0...1_000_000_000,
                summary: "Large answers in a second to one address that may be forged; 0 for no limit."
            ),
            .duration(
                "observe-refresh-seconds",
                .seconds,
                default: 43_200,
                in: 1...86_400,
                summary: "How long an observer hears nothing, at most, before it is asked whether it is still there."
            ),
        ] + RateLimits.attributes

    var blockExponent: UInt8
    var datagramBytesMax: Int
    var exchanges = Exchanges.Limits()
    var transmissions = Transmissions<CoAPHandler.Owner>.Parameters()
    var assemblies = BodyAssemblies.Limits()
    var observers = Observers.Limits()
    var verification = AddressVerification.Limits()
    var tokenBytesMax: Int
    var rates: RateLimits

    /// Reads what the operator wrote.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` for a block size that CoAP does not have.
    init(_ configuration: Configuration) throws(NodeError) {
        let blockSize = configuration.integer("block-size-bytes")
        guard let exponent = Block.exponent(ofSize: Int(blockSize)) else {
            throw NodeError(
                "bad-value",
                "'block-size-bytes' cannot be \(blockSize); CoAP has blocks of 16, 32, 64, 128, 256, 512 and 1024 bytes"
            )
        }
        self.blockExponent = exponent
        self.datagramBytesMax = Int(configuration.integer("datagram-bytes-max"))
        self.assemblies.bodyBytesMax = Int(configuration.integer("body-bytes-max"))
        self.exchanges.activeMax = Int(configuration.integer("exchanges-max"))
        self.exchanges.piggybackWindow = TimeAmount(configuration.duration("piggyback-milliseconds"))
        self.transmissions.ackTimeout = TimeAmount(configuration.duration("ack-timeout-milliseconds"))
        self.transmissions.maxRetransmit = Int(configuration.integer("retransmit-max"))
        self.observers.countMax = Int(configuration.integer("observers-max"))
        self.observers.perDeviceMax = Int(configuration.integer("observers-per-device-max"))
        self.observers.refresh = TimeAmount(configuration.duration("observe-refresh-seconds"))
        // One for each observer that is being told something, and one for each request that is being answered.
        self.transmissions.countMax = self.observers.countMax + self.exchanges.activeMax
        self.tokenBytesMax = Int(configuration.integer("token-bytes-max"))
        self.verification.mode =
            AddressVerification.Mode(rawValue: configuration.string("echo")) ?? AddressVerification.Limits().mode
        self.verification.answersPerSecondMax = Int(configuration.integer("unproven-answers-per-second-max"))
        self.verification.addressAnswersPerSecondMax =
            Int(configuration.integer("address-unproven-answers-per-second-max"))
        self.rates = RateLimits(configuration)
    }
}
