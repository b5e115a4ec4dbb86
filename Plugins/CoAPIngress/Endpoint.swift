import NIOCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where a datagram came from and answers go: an address and a port.
///
/// As plain numbers: a `SocketAddress` has its bytes in a box, which is slow to hash and compare, and counted whenever it is
/// passed on; of the tables of a node nearly all are looked through for every request.
struct Endpoint: Hashable, Sendable {
    /// The first eight bytes of an IPv6 address; of an IPv4 address nothing.
    private let network: UInt64
    /// The last eight bytes of an IPv6 address; of an IPv4 address all of it.
    private let interface: UInt64
    /// Which link a link-local address is on (RFC 4007 §6).
    private let scope: UInt32
    /// The port.
    let port: UInt16
    private let isIPv4: Bool

    /// Takes an address of the Internet apart; `nil` for any other.
    init?(_ address: SocketAddress) {
        switch address {
        case .v4(let address):
            let bytes = address.address
            self.network = 0
            self.interface = UInt64(UInt32(bigEndian: bytes.sin_addr.s_addr))
            self.scope = 0
            self.port = UInt16(bigEndian: bytes.sin_port)
            self.isIPv4 = true
        case .v6(let address):
            let bytes = address.address
            (self.network, self.interface) = withUnsafeBytes(of: bytes.sin6_addr) {
                (
                    UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                    UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
                )
            }
            self.scope = bytes.sin6_scope_id
            self.port = UInt16(bigEndian: bytes.sin6_port)
            self.isIPv4 = false
        case .unixDomainSocket:
            return nil
        }
    }

    /// The address as a socket takes it; without a text for people, which nobody reads and which is dear to make.
    var socketAddress: SocketAddress {
        if self.isIPv4 {
            var bytes = sockaddr_in()
            bytes.sin_family = sa_family_t(AF_INET)
            bytes.sin_addr.s_addr = UInt32(truncatingIfNeeded: self.interface).bigEndian
            bytes.sin_port = self.port.bigEndian
            return SocketAddress(bytes, host: "")
        }
        var bytes = sockaddr_in6()
        bytes.sin6_family = sa_family_t(AF_INET6)
        withUnsafeMutableBytes(of: &bytes.sin6_addr) {
            $0.storeBytes(of: self.network.bigEndian, as: UInt64.self)
            $0.storeBytes(of: self.interface.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        bytes.sin6_scope_id = self.scope
        bytes.sin6_port = self.port.bigEndian
        return SocketAddress(bytes, host: "")
    }

    /// Appends the address and the port, for an authentication code.
    func write(into bytes: inout ByteBuffer) {
        if self.isIPv4 {
            bytes.writeInteger(UInt32(truncatingIfNeeded: self.interface))
        } else {
            bytes.writeMultipleIntegers(self.network, self.interface)
        }
        bytes.writeInteger(self.port)
    }

    /// The address without its port, for what is counted by address.
    var address: AddressKey {
        // RFC 4291 §2.5.5.2: an IPv4 address, as a socket for both kinds shows it.
        self.isIPv4 || self.network == 0 && self.interface >> 32 == 0xFFFF
            ? AddressKey(v4: UInt32(truncatingIfNeeded: self.interface))
            : AddressKey(network: self.network, isLoopback: self.network == 0 && self.interface == 1)
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(self.network)
        hasher.combine(self.interface)
        hasher.combine(UInt64(self.scope) << 32 | UInt64(self.port) << 1 | (self.isIPv4 ? 1 : 0))
    }
}

/// An address without its port, for what is counted by address.
///
/// Of IPv6 the network counts: who has one address of it has all 2^64.
struct AddressKey: Hashable, Sendable {
    private let network: UInt64
    /// Whether it is this machine's own: such an address cannot be forged from outside (RFC 1122 §3.2.1.3, RFC 4291
    /// §2.5.3).
    let isLoopback: Bool

    /// No network of IPv6 that is in use begins with 0xFFFFFFFF.
    init(v4 address: UInt32) {
        self.init(network: 0xFFFF_FFFF << 32 | UInt64(address), isLoopback: address >> 24 == 127)
    }

    init(network: UInt64, isLoopback: Bool) {
        self.network = network
        self.isLoopback = isLoopback
    }
}
