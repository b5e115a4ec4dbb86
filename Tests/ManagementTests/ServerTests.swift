import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NodeKit
import OTA
import ServiceLifecycle
import Synchronization
import Testing

@testable import Management

@Suite(.timeLimit(.minutes(5))) struct ServerTests {
    @Test func healthNeedsNoLoginAndTellsWhatIsNotReady() async throws {
        try await TestServer.run { server in
            let well = try await server.send(.GET, "/health", [:], ByteBuffer(), token: nil)
            #expect(well.status == 200)
            #expect(try well.json == ["live": true, "ready": true, "parts": ["chains": true, "store": true]])
            server.parts.isReady.withLock { $0 = false }
            let ill = try await server.send(.GET, "/health", [:], ByteBuffer(), token: nil)
            #expect(ill.status == 503)
            #expect(try ill.json == ["live": true, "ready": false, "parts": ["chains": false, "store": true]])
        }
    }

    @Test func whatIsNotThereIsToldInThingsBoardsShape() async throws {
        try await TestServer.run { server in
            try (try await server.get("/api/nothing")).expectError(404, 32, "Not Found")
            try (try await server.send(.GET, "/nothing", [:], ByteBuffer(), token: nil)).expectError(
                404,
                32,
                "Not Found"
            )
            let response = try await server.send(.PUT, "/api/device", json: [:])
            try response.expectError(405, 31, "Request method 'PUT' is not supported")
            #expect(response.headers.first(name: "Allow") == "POST")
            let head = try await server.send(.HEAD, "/health")
            #expect(head.status == 200)
            #expect(head.body.readableBytes == 0)
        }
    }

    @Test(
        "Broken requests are told why",
        arguments: [
            ("/api/device/abc", "Invalid UUID string: abc"),
            ("/api/otaPackages?page=0", "Parameter 'pageSize' can't be empty!"),
            ("/api/otaPackages?pageSize=10", "Parameter 'page' can't be empty!"),
            ("/api/otaPackages?pageSize=0&page=0", "Incorrect page link page size '0'. It must be between 1 and 1000."),
            (
                "/api/otaPackages?pageSize=1001&page=0",
                "Incorrect page link page size '1001'. It must be between 1 and 1000."
            ),
            (
                "/api/otaPackages?pageSize=10&page=-1",
                "Incorrect page link page '-1'. It must be between 0 and 2147483647."
            ),
            (
                "/api/otaPackages?pageSize=10&page=9223372036854775807",
                "Incorrect page link page '9223372036854775807'. It must be between 0 and 2147483647."
            ),
            ("/api/otaPackages?pageSize=ten&page=0", "Parameter 'pageSize' must be a whole number, not 'ten'"),
            ("/api/tenant/device", "Parameter 'deviceName' can't be empty!"),
            ("/api/devices", "Parameter 'deviceIds' can't be empty!"),
            (
                "/api/devices/count/HARDWARE/13814000-1dd2-11b2-8080-808080808080",
                "'HARDWARE' is no package type; it must be FIRMWARE or SOFTWARE"
            ),
        ]
    )
    func broken(path: String, message: String) async throws {
        try await TestServer.run { server in try (try await server.get(path)).expectError(400, 31, message) }
    }

    @Test func pageLimitsAreTakenAtTheLimit() async throws {
        try await TestServer.run { server in
            let response = try await server.get("/api/otaPackages?pageSize=1000&page=2147483647")
            #expect(response.status == 200)
        }
    }

    @Test(
        "A body that cannot be read is told why",
        arguments: [
            ("", "Required request body is missing"), ("[]", "The request body must be a JSON object"),
            ("{", "The request body is not valid JSON at byte 1: a member name in quotes should be here"),
            ("{\"name\":1}", "'name' must be a string, not a number"),
            ("{\"name\":\"a\",\"firmwareId\":{\"id\":\"x\"}}", "Invalid UUID string: x"),
            ("{\"name\":\"a\",\"firmwareId\":true}", "'firmwareId' must be an identifier, not a truth value"),
        ]
    )
    func brokenBody(body: String, message: String) async throws {
        try await TestServer.run { server in
            let response = try await server.send(
                .POST,
                "/api/deviceProfile",
                [:],
                ByteBuffer(string: body),
                token: server.token
            )
            try response.expectError(400, 31, message)
        }
    }

    /// Checks the answer to a request for which a service throws an error.
    private func failing(_ error: NodeError, _ check: (TestResponse) throws -> Void) async throws {
        let parts = try TestServer.Parts { $0.register(FailingAudit(error: error), as: (any AuditService).self) }
        try await TestServer.run(on: parts) { server in
            try check(try await server.get("/api/audit/logs?pageSize=1&page=0"))
        }
    }

    @Test(
        "What a service throws is answered by its code",
        arguments: [
            (.badRequest, 400, 31), (.unauthorized, 401, 10), (.forbidden, 403, 20), (.notFound, 404, 32),
            (.conflict, 409, 35), (.tooLarge, 413, 31), (.tooManyRequests, 429, 33), (.storageFull, 507, 2),
            (.unavailable, 503, 2), (.timedOut, 504, 2), ("own", 500, 2),
        ] as [(NodeError.Code, Int, Int64)]
    )
    func codes(code: NodeError.Code, status: Int, errorCode: Int64) async throws {
        try await self.failing(NodeError(code, "the reason")) { response in
            try response.expectError(status, errorCode, "the reason")
        }
    }

    @Test func whatNobodyExpectedKeepsItsTextToItself() async throws {
        try await self.failing(NodeError(.internalError, "SELECT secret")) { response in
            try response.expectError(500, 2)
            #expect(!response.text.contains("secret"))
        }
    }

    @Test("A body may be as long as the limit and no longer", arguments: [0, 1])
    func bodyLimit(excess: Int) async throws {
        try await TestServer.run { server in
            let start = "{\"name\":\"a\",\"x\":\""
            let filler = String(repeating: "x", count: 1024 * 1024 - start.utf8.count - 2 + excess)
            let response = try await server.send(
                .POST,
                "/api/deviceProfile",
                [:],
                ByteBuffer(string: "\(start)\(filler)\"}"),
                token: server.token
            )
            if excess == 0 {
                #expect(response.status == 200)
            } else {
                try response.expectError(413, 31, "The body is longer than 1048576 bytes")
            }
        }
    }

    @Test func aBodyInChunksIsLimitedToo() async throws {
        try await TestServer.run { options in
            options.bodyBytesMax = 200
        } _: { server in
            let text = try await server.raw { inbound, outbound, _ in
                let chunk = String(repeating: "7b\r\n\(String(repeating: "x", count: 123))\r\n", count: 2)
                let head = "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                try await outbound.write(ByteBuffer(string: "\(head)\(chunk)0\r\n\r\n"))
                var received = ""
                for try await bytes in inbound {
                    received += String(buffer: bytes)
                    if received.contains("timestamp") { break }
                }
                return received
            }
            #expect(text.hasPrefix("HTTP/1.1 413 "))
        }
    }

    @Test("A request's header may be as long as the limit and no longer", arguments: [(0, 200), (1, 431)])
    func headerLimit(excess: Int, status: Int) async throws {
        try await TestServer.run { options in
            options.headerBytesMax = 1024
        } _: { server in
            let text = try await server.raw { inbound, outbound, _ in
                // The path and the Host field count, too.
                let name = "X-Long"
                let path = "/health"
                let value = String(repeating: "x", count: 1024 - path.count - "Hosta".count - name.count + excess)
                try await outbound.write(
                    ByteBuffer(string: "GET \(path) HTTP/1.1\r\nHost: a\r\n\(name): \(value)\r\n\r\n")
                )
                for try await bytes in inbound { return String(buffer: bytes) }
                return ""
            }
            #expect(text.hasPrefix("HTTP/1.1 \(status) "), "\(text)")
        }
    }

    @Test func aSilentConnectionIsClosed() async throws {
        // On a busy machine a login might be too slow for this time-out, too.
        try await TestServer.run({ $0.idleTimeout = .milliseconds(50) }, logsIn: false) { server in
            try await server.raw { inbound, outbound, _ in
                let head = "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{"
                // The server may have closed before.
                try? await outbound.write(ByteBuffer(string: head))
                try await Self.readToEnd(inbound)
            }
        }
    }

    /// Reads until the server closes, in whatever way: with unread bytes it resets the connection.
    private static func readToEnd(_ inbound: NIOAsyncChannelInboundStream<ByteBuffer>) async throws {
        do {
            for try await _ in inbound {}
        } catch is IOError {}
    }

    @Test func anEndlessBodyAfterARefusalEndsTheConnection() async throws {
        try await TestServer.run { options in
            options.bodyBytesMax = 1000
        } _: { server in
            // Ends only because the server closes; the client would go on for ever.
            try await server.raw { inbound, outbound, _ in
                let head = "POST /api/otaPackage/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n"
                try await outbound.write(ByteBuffer(string: head))
                let piece = ByteBuffer(repeating: 0x78, count: 4096)
                while (try? await outbound.write(piece)) != nil {}
                var received = ""
                do {
                    for try await bytes in inbound { received += String(buffer: bytes) }
                } catch is IOError {}
                #expect(received.isEmpty || received.hasPrefix("HTTP/1.1 401 "))
            }
        }
    }

    @Test func aClientThatAsksFirstIsToldToContinue() async throws {
        try await TestServer.run { server in
            let text = try await server.raw { inbound, outbound, _ in
                let head =
                    "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
                try await outbound.write(ByteBuffer(string: head))
                var received = ""
                for try await bytes in inbound {
                    received += String(buffer: bytes)
                    if received == "HTTP/1.1 100 Continue\r\n\r\n" {
                        try await outbound.write(ByteBuffer(string: "{}"))
                    }
                    if received.contains("timestamp") { break }
                }
                return received
            }
            #expect(text.contains("HTTP/1.1 401 "), "\(text)")
        }
    }

    @Test func aGracefulShutdownEndsEvenWithARequestUnderWay() async throws {
        let parts = try TestServer.Parts()
        let (listeners, continuation) = AsyncStream.makeStream(of: Listener.self)
        let server = try await TestServer.make(
            parts,
            { $0.shutdownTimeout = .milliseconds(50) },
            onListening: { continuation.yield($0) }
        )
        let services = ServiceGroup(
            services: [server],
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await services.run() }
            var iterator = listeners.makeAsyncIterator()
            let port = try #require(await iterator.next()).port
            let test = TestServer(parts: parts, port: port)
            try await test.raw { inbound, outbound, _ in
                let head = "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{"
                try await outbound.write(ByteBuffer(string: head))
                _ = try await test.send(.GET, "/health", [:], ByteBuffer(), token: nil)
                await services.triggerGracefulShutdown()
                try await Self.readToEnd(inbound)
            }
            try await group.waitForAll()
        }
    }

    @Test func aHostWithoutAServiceIsToldWhich() throws {
        let error = #expect(throws: NodeError.self) {
            _ = try ManagementServer(
                options: .init(),
                services: ServiceRegistry(),
                eventLoopGroup: MultiThreadedEventLoopGroup.singleton,
                logger: Logger(label: "test"),
                health: { [:] },
                onListening: { _ in }
            )
        }
        #expect(error?.code == "missing-service")
        #expect(error?.message.contains("OtaPackageService") == true)
    }

    @Test func aPortThatIsTakenIsAnError() async throws {
        try await TestServer.run { server in
            let parts = try TestServer.Parts()
            let second = try await TestServer.make(parts, { $0.port = server.port }, onListening: { _ in })
            await #expect(throws: (any Error).self) { try await second.run() }
        }
    }
}
