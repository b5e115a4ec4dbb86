import NIOCore
import Testing

@testable import CoAPIngress

@Suite("Addresses as numbers")
struct EndpointAddressTests {
    @Test(
        "an address of the Internet becomes itself again",
        arguments: ["192.0.2.1", "255.255.255.255", "::", "::1", "2001:db8::ff00:42:8329", "::ffff:192.0.2.1"],
        [1, 5683, 65535]
    )
    func again(text: String, port: Int) throws {
        let address = try SocketAddress(ipAddress: text, port: port)
        let endpoint = try #require(Endpoint(address))
        #expect(endpoint.socketAddress == address)
        #expect(endpoint.port == port)
    }

    @Test("a link-local address is another one on another link")
    func scope() throws {
        guard case .v6(let address) = try SocketAddress(ipAddress: "fe80::1", port: 5683) else {
            Issue.record("not an IPv6 address")
            return
        }
        var bytes = address.address
        bytes.sin6_scope_id = 7
        let scoped = SocketAddress(bytes)
        let endpoint = try #require(Endpoint(scoped))
        #expect(try endpoint != Endpoint("fe80::1", 5683))
        #expect(endpoint.socketAddress == scoped)
    }

    @Test("addresses, ports and the two kinds of addresses are told apart")
    func different() throws {
        let endpoints = [
            try Endpoint("192.0.2.1", 1), try Endpoint("192.0.2.1", 2), try Endpoint("192.0.2.2", 1),
            try Endpoint("::192.0.2.1", 1), try Endpoint("::ffff:192.0.2.1", 1), try Endpoint("2001:db8::192.0.2.1", 1),
        ]
        #expect(Set(endpoints).count == endpoints.count)
    }

    @Test("an IPv4 address is the same one, however a socket shows it; of IPv6 the network counts")
    func withoutPort() throws {
        #expect(try Endpoint("192.0.2.1", 1).address == Endpoint("::ffff:192.0.2.1", 2).address)
        #expect(try Endpoint("2001:db8::1", 1).address == Endpoint("2001:db8::2", 2).address)
        #expect(try Endpoint("2001:db8::1", 1).address != Endpoint("2001:db8:0:1::1", 1).address)
    }

    @Test("what is not of the Internet is no endpoint")
    func other() throws { #expect(Endpoint(try SocketAddress(unixDomainSocketPath: "/tmp/x")) == nil) }
}
