import NIOCore
import Testing

@testable import HTTPKit

@Suite struct PeerNetworkTests {
    private static func network(_ address: String) throws -> PeerNetwork? {
        PeerNetwork(try SocketAddress(ipAddress: address, port: 1))
    }

    @Test(
        "a peer is one IPv4 address or one IPv6 network of 64 bits",
        arguments: [
            ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false), ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false), ("::1", "0.0.0.0", false),
        ]
    )
    func peers(one: String, other: String, areOne: Bool) throws {
        #expect((try Self.network(one) == Self.network(other)) == areOne)
    }

    @Test("what has no address of the Internet is no peer")
    func none() throws {
        #expect(PeerNetwork(nil) == nil)
        #expect(PeerNetwork(try SocketAddress(unixDomainSocketPath: "/x")) == nil)
    }
}
