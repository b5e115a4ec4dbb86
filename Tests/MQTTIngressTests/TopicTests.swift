import NIOCore
import NodeKit
import OTA
import Testing

@testable import MQTTIngress

@Suite("Topics") struct TopicTests {
    @Test(
        "a filter matches as MQTT 5 §4.7 says",
        arguments: [
            ("a", "a", true), ("a", "b", false), ("a", "a/b", false), ("a/b", "a", false),
            ("a/+/c", "a/b/c", true), ("a/+/c", "a/c", false), ("a/+", "a", false), ("a/+", "a/", true),
            ("+", "a", true), ("+", "/a", false), ("+/+", "/a", true), ("/+", "/a", true), ("+/a", "/a", true),
            ("#", "a/b/c", true), ("#", "/", true), ("a/#", "a", true), ("a/#", "a/b/c", true), ("a/#", "ab", false),
            ("a/+/#", "a/b", true), ("a/+/#", "a", false), ("a/b/#", "a", false),
            ("#", "$SYS/x", false), ("+/x", "$SYS/x", false), ("$SYS/#", "$SYS/x", true),
            ("v2/fw/response/+", "v2/fw/response/1/chunk/0", false),
            ("v2/fw/response/+/chunk/+", "v2/fw/response/1/chunk/0", true),
            ("v1/devices/me/#", "v1/devices/me/attributes", true),
        ]
    )
    func matches(filter: String, topic: String, isMatch: Bool) throws {
        #expect(try #require(TopicFilter(filter)).matches(topic) == isMatch)
    }

    @Test(
        "a filter with a misplaced wildcard is none",
        arguments: ["", "a#", "a/#/b", "#/a", "a+", "+a/b", "a/b+/c", "##", "a/++"]
    )
    func invalid(filter: String) { #expect(TopicFilter(filter) == nil) }

    @Test(
        "a filter with wildcards in their place is one",
        arguments: ["/", "//", "+", "#", "+/+/#", "a/#", "$share/g/a", " "]
    )
    func valid(filter: String) { #expect(TopicFilter(filter) != nil) }

    @Test(
        "a topic says what a device wants",
        arguments: [
            ("v1/devices/me/telemetry", DeviceTopic.telemetry), ("v2/t", .telemetry), ("v2/t/j", .telemetry),
            ("v1/devices/me/attributes", .attributes), ("v2/a", .attributes), ("v2/a/j", .attributes),
            ("v1/devices/me/attributes/request/7", .attributesRequest(id: 7, family: .v1)),
            ("v2/a/req/7", .attributesRequest(id: 7, family: .v2)),
            ("v2/a/req/j/7", .attributesRequest(id: 7, family: .v2JSON)),
            ("v1/devices/me/rpc/request/2147483647", .rpcRequest(id: 2_147_483_647, family: .v1)),
            ("v2/r/req/1", .rpcRequest(id: 1, family: .v2)), ("v2/r/req/j/1", .rpcRequest(id: 1, family: .v2JSON)),
            ("v1/devices/me/rpc/response/0", .rpcResponse(id: 0)), ("v2/r/res/3", .rpcResponse(id: 3)),
            ("v2/r/res/j/3", .rpcResponse(id: 3)),
            ("v2/fw/request/1/chunk/2", .chunkRequest(type: .firmware, id: "1", chunk: "2")),
            ("v2/sw/request/x/chunk/-2", .chunkRequest(type: .software, id: "x", chunk: "-2")),
            ("v2/fw/request/1/chunk/2/3", .unknown), ("v2/fw/request/1/piece/2", .unknown),
            ("v2/fw/request/", .unknown),
            ("x/v2/fw/request/1/chunk/2", .unknown), ("v1/devices/me/rpc/request/2147483648", .badId("2147483648")),
            ("v1/devices/me/rpc/request/+1", .badId("+1")), ("v1/devices/me/attributes/request/", .badId("")),
            ("v2/r/res/j/99999999999999999999", .badId("99999999999999999999")),
            ("v1/devices/me/telemetry/", .unknown),
            ("x", .unknown),
            ("v1/gateway/connect", .gateway), ("v1/gateway/telemetry", .gateway), ("v1/devices/me/claim", .claim),
            ("/provision/request", .provision), ("provision/request", .unknown),
            ("v2/t/p", .protobuf), ("v2/a/p", .protobuf), ("v2/a/req/p/1", .protobuf), ("v2/r/req/p/1", .protobuf),
            ("v2/r/res/p/1", .protobuf), ("v2/r/res/p/x", .badId("x")),
        ]
    )
    func deviceTopic(topic: String, meaning: DeviceTopic) { #expect(DeviceTopic(topic) == meaning) }
}

@Suite("Chunk requests") struct ChunkRequestTests {
    func request(_ payload: String, id: String = "1", chunk: String = "0") throws -> ChunkRequest {
        try ChunkRequest(
            type: .firmware,
            id: id,
            chunk: chunk,
            payload: ByteBuffer(string: payload),
            chunkBytesMax: 4096
        )
    }

    @Test(
        "an index or identifier that is none is refused",
        arguments: [
            "", "-1", "x", "1x", "2147483648", "+1", "1.0", "٣", "1" + String(repeating: "\u{301}", count: 9999),
        ]
    )
    func badNumber(text: String) {
        let error = #expect(throws: NodeError.self) { try self.request("", chunk: text) }
        #expect((error?.message.unicodeScalars.count ?? 0) < 200)
        #expect(throws: NodeError.self) { try self.request("", id: text) }
    }

    @Test("the largest index and identifier are taken")
    func largest() throws {
        let request = try self.request("", id: "2147483647", chunk: "2147483647")
        #expect(request.id == 2_147_483_647 && request.chunk == 2_147_483_647)
    }

    @Test("the downloads used last are remembered, and one more pushes out the oldest")
    func downloads() {
        var downloads = Downloads()
        let packageId = OtaPackageId.random()
        func key(_ id: Int) -> Downloads.Key { Downloads.Key(type: .firmware, id: Int64(id)) }
        for id in 0..<Downloads.countMax {
            let download = downloads.use(key(id))
            download.messages.packageId = packageId
            download.messages.size = 5
        }
        #expect(downloads.use(key(0)).messages.packageId == packageId)
        #expect(downloads.use(Downloads.Key(type: .software, id: 0)).messages.packageId == nil)
        #expect(downloads.count == Downloads.countMax)
        #expect(downloads.use(key(0)).messages.size == 5)
        #expect(downloads.use(key(1)).messages.packageId == nil)
    }
}
