import NIOCore
import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct TelemetryTests {
    /// A device, and the path of its telemetry.
    private func device(_ server: TestServer) async throws -> (id: String, path: String) {
        let id = try await server.post("/api/device", ["name": "d"]).json.entityId
        return (id, "/api/plugins/telemetry/DEVICE/\(id)")
    }

    @Test(
        "Attributes are written on each of ThingsBoard's paths",
        arguments: ["ID/", "DEVICE/ID/", "DEVICE/ID/attributes/"]
    )
    func paths(path: String) async throws {
        try await TestServer.run { server in
            let (id, values) = try await self.device(server)
            let prefix = "/api/plugins/telemetry/\(path.replacing("ID", with: id))"
            let written = try await server.post("\(prefix)SHARED_SCOPE?scope=ANY", ["b": 1, "a": ["x": true]])
            #expect(written.status == 200)
            #expect(written.body.readableBytes == 0)
            let read = try await server.get("\(values)/values/attributes/SHARED_SCOPE").json
            #expect(
                read == [
                    ["lastUpdateTs": 1_700_000_000_000, "key": "a", "value": ["x": true]],
                    ["lastUpdateTs": 1_700_000_000_000, "key": "b", "value": 1],
                ]
            )
            #expect(try await server.delete("\(prefix)SHARED_SCOPE?keys=a%2Cc").status == 200)
            #expect(try await server.get("\(values)/keys/attributes/SHARED_SCOPE").json == ["b"])
        }
    }

    @Test func attributesAreReadByScopeAndByKey() async throws {
        try await TestServer.run { server in
            let (id, path) = try await self.device(server)
            _ = try await server.post("\(path)/SHARED_SCOPE", ["s": 1, "both": 1])
            _ = try await server.post("\(path)/SERVER_SCOPE", ["t": 2, "both": 2])
            try await server.store.saveAttributes(
                of: try #require(DeviceId(id)),
                scope: .client,
                ["c": "x"],
                at: Timestamp(milliseconds: 5)
            )
            #expect(try await server.get("\(path)/keys/attributes").json == ["c", "both", "s", "t"])
            let some = try await server.get("\(path)/values/attributes?keys=c,t").json
            #expect(some.array?.map { $0["key"] ?? .null } == ["c", "t"])
            #expect(some.array?.first == ["lastUpdateTs": 5, "key": "c", "value": "x"])
        }
    }

    @Test(
        "Attributes that cannot be written are refused",
        arguments: [
            ("CLIENT_SCOPE", "{\"a\":1}"), ("ANY_SCOPE", "{\"a\":1}"), ("SHARED_SCOPE", "{\"a\":null}"),
            ("SHARED_SCOPE", "{}"), ("SHARED_SCOPE", "[1]"), ("SHARED_SCOPE", ""), ("SHARED_SCOPE", "{\"\":1}"),
        ]
    )
    func refusedAttributes(scope: String, body: String) async throws {
        try await TestServer.run { server in
            let (_, path) = try await self.device(server)
            let response = try await server.send(
                .POST,
                "\(path)/\(scope)",
                [:],
                ByteBuffer(string: body),
                token: server.token
            )
            try response.expectError(400, 31)
        }
    }

    @Test func deletingNeedsKeys() async throws {
        try await TestServer.run { server in
            let (_, path) = try await self.device(server)
            for path in ["\(path)/SHARED_SCOPE", "\(path)/timeseries/delete?deleteAllDataForKeys=true"] {
                try (try await server.delete(path)).expectError(400, 31, "Parameter 'keys' can't be empty!")
            }
        }
    }

    @Test func telemetryIsWrittenAndItsLatestValuesReadAsTexts() async throws {
        try await TestServer.run { server in
            let (_, path) = try await self.device(server)
            #expect(try await server.post("\(path)/timeseries/ANY?scope=ANY", ["a": 1, "b": true]).status == 200)
            #expect(
                try await server.post("\(path)/timeseries/ANY/60", [["ts": 1000, "values": ["a": 0.5, "c": "x"]]])
                    .status
                    == 200
            )
            #expect(try await server.get("\(path)/keys/timeseries").json == ["a", "b", "c"])
            #expect(
                try await server.get("\(path)/values/timeseries").json == [
                    "a": [["ts": 1_700_000_000_000, "value": "1"]], "b": [["ts": 1_700_000_000_000, "value": "true"]],
                    "c": [["ts": 1000, "value": "x"]],
                ]
            )
            #expect(
                try await server.get("\(path)/values/timeseries?keys=a,zz&useStrictDataTypes=true").json == [
                    "a": [["ts": 1_700_000_000_000, "value": 1]], "zz": [["ts": 1_700_000_000_000, "value": nil]],
                ]
            )
            for body in [JSON.object([:]), [], 1, ["ts": "x", "values": [:]]] {
                try (try await server.post("\(path)/timeseries/ANY", body)).expectError(400, 31)
            }
        }
    }

    @Test("History is read on both of its paths", arguments: ["/history", ""])
    func history(suffix: String) async throws {
        try await TestServer.run { server in
            let (_, path) = try await self.device(server)
            let points = (1...150).map { JSON.object(["ts": .integer($0), "values": ["a": .integer($0)]]) }
            _ = try await server.post("\(path)/timeseries/ANY", .array(points))
            let history = "\(path)/values/timeseries\(suffix)?keys=a,b"
            let newest = try await server.get("\(history)&startTs=0&endTs=1000").json
            #expect(newest.object?.names == ["a"])
            #expect(newest["a"]?.array?.count == 100, "the limit that ThingsBoard has")
            #expect(newest["a"]?.array?.first == ["ts": 150, "value": "150"])
            let oldest = try await server.get(
                "\(history)&startTs=10&endTs=20&limit=3&agg=NONE&orderBy=ASC&useStrictDataTypes=true&interval=0"
            ).json
            #expect(oldest == ["a": [["ts": 10, "value": 10], ["ts": 11, "value": 11], ["ts": 12, "value": 12]]])
            for wrong in ["limit=0", "limit=50001", "limit=-1", "agg=MEAN", "limit=x", "orderBy=UP"] {
                try (try await server.get("\(history)&startTs=0&endTs=1000&\(wrong)")).expectError(400, 31)
            }
            #expect(try await server.get("\(history)&startTs=0&endTs=1000&limit=50000").status == 200)
        }
    }

    @Test func historyIsAggregatedAsThingsBoardDoes() async throws {
        try await TestServer.run { server in
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            let path = "/api/plugins/telemetry/DEVICE/\(id)"
            let points = (0..<40).map { JSON.object(["ts": .integer($0 * 100), "values": ["a": .integer($0)]]) }
            #expect(try await server.post("\(path)/timeseries/ANY", .array(points)).status == 200)
            let history = "\(path)/values/timeseries?keys=a,b&startTs=0&endTs=3500"
            #expect(
                try await server.get("\(history)&agg=avg&interval=1000&limit=1&useStrictDataTypes=true").json == [
                    "a": [
                        ["ts": 500, "value": 4.5], ["ts": 1500, "value": 14.5], ["ts": 2500, "value": 24.5],
                        ["ts": 3250, "value": 32.0],
                    ]
                ]
            )
            let counts = try await server.get("\(history)&agg=COUNT&interval=3500&orderBy=DESC").json
            #expect(counts == ["a": [["ts": 1750, "value": "35"]]])
            let plain = try await server.get("\(history)&agg=MAX&limit=1").json
            #expect(
                plain == ["a": [["ts": 3400, "value": "34"]]],
                "without an interval, and the end is not within the time"
            )
            try (try await server.get("\(history)&agg=MIN&interval=-1")).expectError(400, 31)
            try (try await server.get("\(history)&agg=MIN&interval=1&intervalType=MONTH")).expectError(
                400,
                31,
                "Interval type 'MONTH' is not supported; use MILLISECONDS with 'interval'"
            )
            let wide = "\(path)/values/timeseries?keys=a&startTs=0&endTs=701000&agg=SUM&interval=1000"
            try (try await server.get(wide)).expectError(
                400,
                31,
                "Incorrect TsKvQuery. Number of intervals is to high - 701. Please increase 'interval' parameter for your query "
                    + "or reduce the time range of the query."
            )
        }
    }

    @Test func historyNeedsItsParameters() async throws {
        try await TestServer.run { server in
            let (_, path) = try await self.device(server)
            let history = "\(path)/values/timeseries/history"
            for (query, name) in [
                ("startTs=0&endTs=1", "keys"), ("keys=a&endTs=1", "startTs"), ("keys=a&startTs=0", "endTs"),
            ] {
                try (try await server.get("\(history)?\(query)"))
                    .expectError(400, 31, "Parameter '\(name)' can't be empty!")
            }
            let keys = (0...256).map { "k\($0)" }
            let most = keys.dropLast().joined(separator: ",")
            #expect(try await server.get("\(path)/values/timeseries?keys=\(most)").status == 200)
            try (try await server.get("\(path)/values/timeseries?keys=\(keys.joined(separator: ","))"))
                .expectError(400, 31, "Parameter 'keys' has 257 elements; 256 are allowed")
        }
    }

    @Test func telemetryIsDeleted() async throws {
        try await TestServer.run { server in
            let (_, path) = try await self.device(server)
            let points = (0...3).map { JSON.object(["ts": .integer($0), "values": ["a": .integer($0), "b": 2]]) }
            _ = try await server.post("\(path)/timeseries/ANY", .array(points))
            let delete = "\(path)/timeseries/delete?keys=a"
            #expect(try await server.delete("\(delete)&startTs=1&endTs=2").status == 200)
            let history = "\(path)/values/timeseries?keys=a,b&startTs=0&endTs=9&useStrictDataTypes=true"
            let left = try await server.get(history).json
            #expect(left["a"] == [["ts": 3, "value": 3], ["ts": 0, "value": 0]])
            #expect(left["b"]?.array?.count == 4)
            #expect(try await server.delete("\(delete)&deleteAllDataForKeys=true").status == 200)
            #expect(try await server.get(history).json.object?.names == ["b"])
            #expect(try await server.get("\(path)/keys/timeseries").json == ["b"])
            try (try await server.delete("\(delete)&startTs=2&endTs=1")).expectError(400, 31)
            try (try await server.delete(delete)).expectError(400, 31, "Parameter 'startTs' can't be empty!")
        }
    }

    @Test func onlyDevicesHaveTelemetry() async throws {
        try await TestServer.run { server in
            try (try await server.get("/api/plugins/telemetry/ASSET/\(DeviceId.random())/keys/timeseries"))
                .expectError(400, 31)
        }
    }
}
