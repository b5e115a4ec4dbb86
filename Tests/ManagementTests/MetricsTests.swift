import NIOCore
import NodeKit
import Testing

@testable import Management

@Suite struct MetricsTests {
    @Test("numbers are written in Prometheus' text format, with everything escaped that must be")
    func text() {
        let text = MetricsText.write([
            MetricFamily("windlass_a_total", .counter, "Back\\slash\nand line.", [MetricSample(value: 12)]),
            MetricFamily(
                "windlass_b_seconds",
                .summary,
                "Time.",
                [
                    MetricSample(suffix: "_sum", labels: [.init("x", "a\"b\\c\nd"), .init("y", "")], value: 0.25),
                    MetricSample(suffix: "_count", labels: [.init("x", "ü")], value: 9_007_199_254_740_992),
                ]
            ),
            MetricFamily("windlass_c", .gauge, "Odd.", [.infinity, -.infinity, .nan].map { MetricSample(value: $0) }),
            MetricFamily("windlass_d", .gauge, "Nothing yet.", []),
        ])
        #expect(
            text == """
                # HELP windlass_a_total Back\\\\slash\\nand line.
                # TYPE windlass_a_total counter
                windlass_a_total 12
                # HELP windlass_b_seconds Time.
                # TYPE windlass_b_seconds summary
                windlass_b_seconds_sum{x="a\\"b\\\\c\\nd",y=""} 0.25
                windlass_b_seconds_count{x="ü"} 9007199254740992
                # HELP windlass_c Odd.
                # TYPE windlass_c gauge
                windlass_c +Inf
                windlass_c -Inf
                windlass_c NaN
                # HELP windlass_d Nothing yet.
                # TYPE windlass_d gauge

                """
        )
    }

    @Test("numbers and health are for whoever can connect", arguments: ["/metrics", "/livez", "/readyz", "/health"])
    func noLogin(path: String) async throws {
        try await TestServer.run(logsIn: false) { server in
            let response = try await server.send(.GET, path, [:], ByteBuffer(), token: nil)
            #expect(response.status == 200)
            #expect(try await server.send(.HEAD, path, [:], ByteBuffer(), token: nil).body.readableBytes == 0)
            #expect(try await server.send(.POST, path, [:], ByteBuffer(), token: nil).status != 200)
        }
    }

    @Test("a host that is not ready is alive all the same")
    func readiness() async throws {
        try await TestServer.run(logsIn: false) { server in
            server.parts.isReady.withLock { $0 = false }
            let live = try await server.send(.GET, "/livez", [:], ByteBuffer(), token: nil)
            #expect(live.status == 200)
            #expect(try live.json == ["live": true])
            let ready = try await server.send(.GET, "/readyz", [:], ByteBuffer(), token: nil)
            #expect(ready.status == 503)
            #expect(try ready.json == ["live": true, "ready": false, "parts": ["chains": false, "store": true]])
        }
    }
}
