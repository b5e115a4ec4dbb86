public import NIOCore

/// What connections of one peer have in common: its IPv4 address, or the network of 64 bits that an IPv6 peer has to itself
/// (RFC 6177 §2), within which it may take any address it likes.
public struct PeerNetwork: Hashable, Sendable {
    private let bits: UInt64

    /// The network of an address; `nil` if it is none of the Internet.
    public init?(_ address: SocketAddress?) {
        switch address {
        case .v4(let address):
            self.bits = Self.mapped(UInt32(bigEndian: address.address.sin_addr.s_addr))
        case .v6(let address):
            self.bits = withUnsafeBytes(of: address.address.sin6_addr) { bytes in
                let high = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
                let low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                // RFC 4291 §2.5.5.2: an IPv4 peer of a listener on '::'.
                return high == 0 && low >> 32 == 0xFFFF ? Self.mapped(UInt32(truncatingIfNeeded: low)) : high
            }
        case .unixDomainSocket, nil:
            return nil
        }
    }

    /// No network begins with 64 bits like these (RFC 4291 §2.5.2, §2.5.3).
    private static func mapped(_ address: UInt32) -> UInt64 { 0xFFFF << 32 | UInt64(address) }
}
