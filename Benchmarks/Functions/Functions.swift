import Benchmark
import IngressKit
import NIOCore
import NodeKit
import OTA

@testable import CoAPIngress
@testable import HTTPIngress
@testable import HTTPKit
@testable import MQTTIngress

/// What a device sends to get 16 KiB of a package, and how the host takes it apart; what it reports; and checksums of a package.
let benchmarks: @Sendable () -> Void = {
    Benchmark.defaultConfiguration = .init(
        metrics: [.wallClock],
        timeUnits: .nanoseconds,
        warmupIterations: 3,
        scalingFactor: .kilo,
        maxDuration: .seconds(1)
    )
    decoders()
    checksums()
}

/// Finds the routes of the device API, and answers nothing.
private struct RouteSite: HTTPSite {
    private struct Responder: HTTPResponder {
        var route: Route

        func begin(_ request: Request) -> HTTPAnswer { .now(.empty(404)) }
    }

    func route(_ method: RequestMethod, _ target: RequestTarget) throws(Rejection) -> HTTPRoute {
        HTTPRoute(Responder(route: try Route(method: method, target: target)))
    }
}

private func decoders() {
    let request = ByteBuffer(
        string: """
            GET /api/v1/pmXg1Lw0rVVFkyEcCDgP/firmware?title=firmware&version=1.2.3&size=16384&chunk=7 HTTP/1.1\r
            Host: updates.example.org:8080\r
            User-Agent: curl/7.88.1\r
            Accept: */*\r
            \r

            """
    )
    let mount = Mount(RouteSite(), at: DeviceSite.paths, owner: "the node", metrics: TransportMetrics())
    Benchmark("HTTP: read a chunk request") { benchmark in
        let routes = RouteTable([mount])
        for _ in benchmark.scaledIterations {
            var input = request
            var decoder = RequestDecoder(bytesMax: 16_384, fieldsMax: 64, routes: routes)
            while let piece = decoder.next(from: &input) { blackHole(piece) }
        }
    }

    let publish = PublishPacket(
        qos: .atLeastOnce,
        topic: "v2/fw/request/1/chunk/7",
        packetId: 7,
        payload: ByteBuffer(string: "16384")
    )
    var packet = ByteBuffer()
    Packet.publish(publish).write(into: &packet, version: .v3_1_1)
    Benchmark("MQTT: read a chunk request") { [packet] benchmark in
        for _ in benchmark.scaledIterations {
            var input = packet
            var decoder = PacketDecoder(packetBytesMax: 65_536)
            blackHole(try decoder.next(in: &input))
        }
    }
    Benchmark("MQTT: write the header of a chunk") { benchmark in
        var output = ByteBuffer()
        for _ in benchmark.scaledIterations {
            output.clear()
            publish.writeHeader(into: &output, version: .v3_1_1, payloadSize: 16_384)
            blackHole(output)
        }
    }

    let options: [CoAPOption] = [
        CoAPOption(.uriPath, text: "fw"), CoAPOption(.uriPath, text: "pmXg1Lw0rVVFkyEcCDgP"),
        CoAPOption(.uriQuery, text: "title=firmware"), CoAPOption(.uriQuery, text: "version=1.2.3"),
        CoAPOption(.block2, uint: 7 << 4 | 6),
    ]
    let token = CoAPMessage.Token(ByteBuffer(string: "12345678"))
    var datagram = ByteBuffer()
    CoAPMessage(.confirmable, .get, messageID: 7, token: token, options: options).write(into: &datagram)
    Benchmark("CoAP: read a request for a block") { [datagram] benchmark in
        for _ in benchmark.scaledIterations { blackHole(try CoAPMessage(reading: datagram)) }
    }
    let block = CoAPMessage(
        .acknowledgement,
        .content,
        messageID: 7,
        token: token,
        options: [CoAPOption(.block2, uint: 7 << 4 | 0xE)],
        payload: ByteBuffer(repeating: 7, count: 1024)
    )
    Benchmark("CoAP: write a block") { benchmark in
        var output = ByteBuffer()
        for _ in benchmark.scaledIterations {
            output.clear()
            block.write(into: &output)
            blackHole(output)
        }
    }

    let report = ByteBuffer(
        string: #"{"fw_state":"DOWNLOADING","current_fw_version":"1.2.2","battery":70,"rssi":-71.5}"#
    )
    Benchmark("JSON: read a report") { benchmark in
        for _ in benchmark.scaledIterations { blackHole(try JSON(parsing: report)) }
    }
}

private func checksums() {
    let megabyte = ByteBuffer(bytes: (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31) })
    for algorithm in ChecksumAlgorithm.allCases {
        Benchmark(
            "\(algorithm.rawValue) of 1 MiB",
            configuration: .init(metrics: [.wallClock], timeUnits: .nanoseconds, maxDuration: .seconds(1))
        ) { _ in
            blackHole(Checksum.hexadecimal(of: megabyte, algorithm))
        }
    }
}
