import NIOCore
import NIOHTTP1
import NodeKit

/// A device that talks HTTP: it reads its attributes, waits for changes by long poll, and fetches chunk by chunk.
struct HTTPDevice: DemoDevice {
    let name: String
    let transport = "http"
    /// The host's device listener.
    let endpoint: DemoEndpoint
    /// The device's access token.
    let token: String

    func connect() async throws -> any DeviceLink {
        HTTPLink(client: HTTPClient(self.endpoint), path: "/api/v1/\(HTTPClient.escape(self.token))")
    }
}

private struct HTTPLink: DeviceLink {
    /// Bytes in each chunk.
    static let chunkBytes = 256 << 10
    /// How long one long poll lasts, in milliseconds: short, since a change between two of them is seen by reading anew.
    static let pollMilliseconds = 2_000

    let client: HTTPClient
    let path: String

    func report(_ telemetry: JSON.Object) async throws {
        let reply = try await self.client.send(
            .POST,
            "\(self.path)/telemetry",
            headers: ["Content-Type": "application/json"],
            body: JSON.object(telemetry).bytes
        )
        guard reply.status == .ok else { throw DemoError("telemetry was answered with \(reply.status)") }
    }

    func offer() async throws -> FirmwareOffer {
        let clock = ContinuousClock()
        let deadline = clock.now + DemoLimits.offerWait
        while clock.now < deadline {
            var attributes = SharedAttributes()
            let read = try await self.client.send(
                .GET,
                "\(self.path)/attributes?sharedKeys=\(HTTPClient.escape(FirmwareOffer.keys))"
            )
            guard read.status == .ok else { throw DemoError("reading attributes was answered with \(read.status)") }
            attributes.merge(try read.json()["shared"] ?? .null)
            if let offer = attributes.offer { return offer }

            let change = try await self.client.send(
                .GET,
                "\(self.path)/attributes/updates?timeout=\(Self.pollMilliseconds)"
            )
            switch change.status {
            case .ok:
                attributes.merge(try change.json())
                if let offer = attributes.offer { return offer }
            case .requestTimeout: continue
            default: throw DemoError("the long poll for attributes was answered with \(change.status)")
            }
        }
        throw DemoError("no firmware was offered within \(DemoLimits.offerWait)")
    }

    func download(_ offer: FirmwareOffer, receive: (ByteBuffer) throws -> Void) async throws {
        let title = HTTPClient.escape(offer.title)
        let version = HTTPClient.escape(offer.version)
        let count = (offer.size + Self.chunkBytes - 1) / Self.chunkBytes
        for index in 0..<count {
            let reply = try await self.client.send(
                .GET,
                "\(self.path)/firmware?title=\(title)&version=\(version)&size=\(Self.chunkBytes)&chunk=\(index)"
            )
            guard reply.status == .ok else { throw DemoError("chunk \(index) was answered with \(reply.status)") }
            try receive(reply.body)
        }
    }

    func close() async { await self.client.close() }
}
