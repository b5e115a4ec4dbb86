import NodeKit
import NodeTesting
import OTA
import Testing

@testable import HTTPIngress

@Suite(.timeLimit(.minutes(5))) struct LongPollTests {
    private static let updates = "GET /api/v1/A1/attributes/updates?timeout=60000 HTTP/1.1\r\nHost: h\r\n\r\n"
    private static let calls = "GET /api/v1/A1/rpc?timeout=60000 HTTP/1.1\r\nHost: h\r\n\r\n"

    @Test("one change of shared attributes ends the wait")
    func update() async throws {
        try await withServer { server in
            let client = try await server.connect()
            for value in ["1.0", "1.1"] {
                try await client.send(Self.updates)
                try await server.notify(.attributesUpdated(["fw_version": .string(value)]))
                let response = try await client.response()
                #expect(response.status == 200)
                #expect(response.text == "{\"fw_version\":\"\(value)\"}")
            }
            #expect(server.sessions.notify(TestDevices.device.id, .attributesUpdated([:])) == 0)
            try await client.send(Self.updates)
            try await server.notify(.attributesDeleted(["a", "b"]))
            #expect(try await client.response().text == #"{"deleted":["a","b"]}"#)
            try await client.close()
        }
    }

    @Test("a call waits for calls and attributes for attributes, each of its own device")
    func kinds() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send(Self.calls)
            try await server.until { server.quota.count == 1 }
            #expect(server.sessions.notify(TestDevices.device.id, .attributesUpdated(["a": 1])) == 0)
            #expect(server.sessions.notify(TestDevices.other.id, .rpcRequest(id: 1, method: "x", params: 1)) == 0)
            try await server.notify(.rpcRequest(id: 5, method: "reboot", params: ["now": true]))
            #expect(try await client.response().text == #"{"id":5,"method":"reboot","params":{"now":true}}"#)
            try await client.close()
        }
    }

    @Test("a poll takes one call, and leaves the next one to the next poll")
    func oneCall() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send(Self.calls)
            try await server.notify(.rpcRequest(id: 1, method: "x", params: .null))
            #expect(
                server.sessions.notify(TestDevices.device.id, .rpcRequest(id: 2, method: "x", params: 2)) == 0
            )
            #expect(try await client.response().text == #"{"id":1,"method":"x","params":null}"#)
            try await client.close()
        }
    }

    @Test("the time-out is an empty 408, and the connection lives", arguments: ["attributes/updates", "rpc"])
    func timeout(path: String) async throws {
        try await withServer { server in
            let client = try await server.connect()
            for _ in 0..<2 {
                try await client.send("GET /api/v1/A1/\(path)?timeout=20 HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try await client.response()
                #expect(response.status == 408)
                #expect(response["Content-Length"] == "0")
                #expect(response["Connection"] == nil)
            }
            try await client.close()
        }
    }

    @Test("a device whose credentials changed learns that its session ended")
    func revoked() async throws {
        try await withServer { server in
            let client = try await server.connect()
            try await client.send(Self.updates)
            try await server.notify(.credentialsRevoked)
            let response = try await client.response()
            #expect(response.status == 408)
            #expect(response["Content-Length"] == "0")
            try await client.close()
        }
    }

    @Test("a client that leaves is no longer listened for", arguments: [true, false])
    func leaving(onlyHalf: Bool) async throws {
        try await withServer(["long-polls-max": "1"]) { server in
            let client = try await server.connect()
            try await client.send(Self.updates)
            try await server.until { server.quota.count == 1 }
            if onlyHalf { try await client.closeOutput() } else { try await client.close() }
            try await server.until { server.quota.count == 0 }
            #expect(server.sessions.notify(TestDevices.device.id, .attributesUpdated([:])) == 0)
            // The place it took is free again.
            let next = try await server.connect()
            try await next.send(Self.updates)
            try await server.notify(.attributesUpdated(["a": 1]))
            #expect(try await next.response().status == 200)
            try await next.close()
        }
    }

    @Test("one device waits so many times and no more, and all devices together")
    func quotas() async throws {
        try await withServer(["long-polls-per-device-max": "2", "long-polls-max": "3"]) { server in
            let first = try await server.connect()
            let second = try await server.connect()
            try await first.send(Self.calls)
            try await second.send(Self.calls)
            try await server.until { server.quota.count == 2 }
            #expect(try await server.get("/api/v1/A1/rpc").status == 429)
            let other = try await server.connect()
            try await other.send("GET /api/v1/B2/rpc HTTP/1.1\r\nHost: h\r\n\r\n")
            try await server.until { server.quota.count == 3 }
            #expect(try await server.get("/api/v1/B2/rpc").status == 429)
            for client in [first, second, other] { try await client.close() }
        }
    }

    @Test("when the node stops, whoever waits gets 408 and the connection ends")
    func stopping() async throws {
        var waiting: RawHTTPClient?
        try await withServer(stopping: .minutes(5)) { server in
            let client = try await server.connect()
            try await client.send(Self.updates)
            try await server.until { server.quota.count == 1 }
            waiting = client
        }
        let client = try #require(waiting)
        let response = try await client.response()
        #expect(response.status == 408)
        #expect(response["Connection"] == "close")
        #expect(await client.rest() == "")
    }
}
