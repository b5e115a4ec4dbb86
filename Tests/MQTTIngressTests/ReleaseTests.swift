import NIOCore
import NIOEmbedded
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import MQTTIngress

/// A host takes in connections for as long as it runs, so nothing of one may outlive it.
struct ReleaseTests {
    @Test("Nothing of a connection remains once it is closed", arguments: [false, true], [false, true])
    func closed(isConnected: Bool, hasRequests: Bool) async throws {
        let domain = try await TestServer.domain()
        let eventLoop = EmbeddedEventLoop()
        var services = domain.live()
        services.eventLoopGroup = eventLoop
        let node = try MQTTIngressNode.make(TestServer.patience, services: services)
        let shared = node.connectionServices(TestOutlet())
        weak var handler: ConnectionHandler?
        do {
            let channel = EmbeddedChannel(loop: eventLoop)
            try Endpoint(port: 0).configure(channel, services: shared, tls: nil)
            handler = try channel.pipeline.syncOperations.handler(type: ConnectionHandler.self)
            #expect(handler != nil)
            channel.connect(to: try SocketAddress(unixDomainSocketPath: "/client"), promise: nil)
            var bytes = ByteBuffer()
            if isConnected {
                let connect = ConnectPacket(version: .v5, keepAlive: 60, clientId: "c", userName: TestServer.token)
                Packet.connect(connect).write(into: &bytes, version: .v5)
            }
            if hasRequests {
                let publish = PublishPacket(
                    qos: .atLeastOnce,
                    topic: "v1/devices/me/telemetry",
                    packetId: 1,
                    payload: ByteBuffer(string: "{}")
                )
                Packet.publish(publish).write(into: &bytes, version: .v5)
            }
            try channel.writeInbound(bytes)
            eventLoop.run()
            _ = try channel.finish(acceptAlreadyClosed: true)
            eventLoop.run()
        }
        #expect(shared.connections.count == 0)
        #expect(handler == nil)
    }
}
