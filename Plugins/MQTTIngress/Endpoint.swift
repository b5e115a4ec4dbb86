import IngressKit
import NIOCore
import NIOHTTP1
import NodeKit

/// One of the ports of the node, and what is spoken there below MQTT.
struct Endpoint: Sendable {
    var port: Int
    var isTLS = false
    /// The path of the WebSocket; `nil` if MQTT is spoken at once.
    var webSocketPath: String?

    /// The ports that are configured; the plain one always is.
    static func all(_ configuration: Configuration) -> [Endpoint] {
        let path = configuration.string("websocket-path")
        func port(_ name: String) -> Int? { configuration.integerIfPresent(name).map { Int($0) } }
        return [
            Endpoint(port: Int(configuration.integer("port"))),
            port("tls-port").map { Endpoint(port: $0, isTLS: true) },
            port("websocket-port").map { Endpoint(port: $0, webSocketPath: path) },
            port("websocket-tls-port").map { Endpoint(port: $0, isTLS: true, webSocketPath: path) },
        ].compactMap(\.self)
    }

    var scheme: String {
        switch (self.webSocketPath, self.isTLS) {
        case (nil, false): "mqtt"
        case (nil, true): "mqtts"
        case (_?, false): "ws"
        case (_?, true): "wss"
        }
    }

    /// Makes the pipeline of a new connection: TLS, WebSocket, MQTT.
    func configure(_ channel: any Channel, services: ConnectionServices, tls: TLSContext?) throws {
        let pipeline = channel.pipeline.syncOperations
        if self.isTLS, let tls { try pipeline.addHandler(tls.handler()) }
        if let path = self.webSocketPath {
            // A frame may hold as much as a packet; what is longer is cut into several by any client.
            let upgrader = WebSocketUpgrader(path: path, frameBytesMax: services.limits.packetBytesMax)
            let encoder = HTTPResponseEncoder()
            let decoder = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes))
            let refusal = WebSocketRefusal(path: path)
            let upgrade = HTTPServerUpgradeHandler(
                upgraders: [upgrader],
                httpEncoder: encoder,
                extraHTTPHandlers: [decoder, refusal],
                upgradeCompletionHandler: { _ in }
            )
            try pipeline.addHandlers([encoder, decoder, upgrade, refusal])
        }
        try pipeline.addHandler(ConnectionHandler(services: services, isTLS: self.isTLS))
    }
}
