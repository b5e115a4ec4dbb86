import NIOCore
import NodeKit

/// A device that talks CoAP: it observes its attributes and fetches block by block.
struct CoAPDevice: DemoDevice {
    let name: String
    let transport = "coap"
    /// The host's CoAP listener.
    let endpoint: DemoEndpoint
    /// The device's access token.
    let token: String

    func connect() async throws -> any DeviceLink {
        CoAPLink(client: try await CoAPClient(self.endpoint), token: self.token)
    }
}

private struct CoAPLink: DeviceLink {
    /// Block size exponent that the device asks for: 1024 bytes, the most there is.
    static let szx: UInt8 = 6
    /// How many blocks a file may have: their numbers have 20 bits (RFC 7959 §2.2).
    static let blockCountMax = 1 << 20

    let client: CoAPClient
    let token: String

    func report(_ telemetry: JSON.Object) async throws {
        var request = CoAPMessage.request(
            .post,
            path: ["api", "v1", self.token, "telemetry"],
            payload: JSON.object(telemetry).bytes
        )
        // application/json (RFC 7252 §12.3).
        request.options.append((CoAPMessage.Option.contentFormat, [50]))
        let reply = try await self.client.ask(request)
        guard reply.code.isSuccess else { throw DemoError("telemetry was answered with \(reply.code)") }
    }

    func offer() async throws -> FirmwareOffer {
        var attributes = SharedAttributes()
        var state = try await self.client.observe(
            .request(.get, path: ["api", "v1", self.token, "attributes"])
        )
        let clock = ContinuousClock()
        let deadline = clock.now + DemoLimits.offerWait
        while true {
            guard state.code.isSuccess || state.code == .notFound else {
                throw DemoError("observing attributes was answered with \(state.code)")
            }
            if state.code.isSuccess, state.payload.readableBytes > 0 {
                let change = try JSON(parsing: state.payload)
                // A plain answer, to a server that does not let itself be observed, has groups.
                attributes.merge(change["shared"] ?? change)
            }
            if let offer = attributes.offer {
                self.client.stopObserving()
                return offer
            }
            guard clock.now < deadline else { break }
            state = try await self.client.receive(within: TimeAmount(deadline - clock.now))
        }
        throw DemoError("no firmware was offered within \(DemoLimits.offerWait)")
    }

    func download(_ offer: FirmwareOffer, receive: (ByteBuffer) throws -> Void) async throws {
        var etag: [UInt8]?
        var block = CoAPBlock(number: 0, more: true, szx: Self.szx)
        while block.more {
            guard block.number < Self.blockCountMax else { throw DemoError("the file is too long for CoAP") }
            var request = CoAPMessage.request(
                .get,
                path: ["fw", self.token],
                query: ["title=\(offer.title)", "version=\(offer.version)"]
            )
            request.options.append(
                (CoAPMessage.Option.block2, CoAPBlock(number: block.number, more: false, szx: block.szx).value)
            )
            let reply = try await self.client.ask(request)
            guard reply.code == .content else {
                throw DemoError("block \(block.number) was answered with \(reply.code)")
            }
            // Blocks of different representations must not be joined (RFC 7959 §2.4).
            let tag = reply.option(CoAPMessage.Option.etag)
            guard block.number == 0 || tag == etag else { throw DemoError("the file changed while it was fetched") }
            etag = tag
            guard let value = reply.option(CoAPMessage.Option.block2) else {
                guard block.number == 0 else { throw DemoError("block \(block.number) came without its number") }
                return try receive(reply.payload)
            }
            // The server may want smaller blocks, but only from the first on (RFC 7959 §2.4).
            guard let got = CoAPBlock(value), got.number == block.number, got.szx == block.szx || block.number == 0,
                !got.more || reply.payload.readableBytes == got.size
            else { throw DemoError("block \(block.number) was answered with another one") }
            try receive(reply.payload)
            block = CoAPBlock(number: got.number + 1, more: got.more, szx: got.szx)
        }
    }

    func close() async { await self.client.close() }
}
