import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import Testing

@testable import HTTPIngress

@Suite(.timeLimit(.minutes(5))) struct LinkTests {
    private static func path(
        _ server: TestServer,
        _ device: UUID = TestDevices.device.id,
        _ package: OtaPackageId = .random(),
        expires: Timestamp = Timestamp.now.adding(.seconds(600))
    ) -> String {
        let link = DownloadLink(device: DeviceId(device), package: package, type: .software, expires: expires)
        return DownloadLinks.path + server.domain.links.text(of: link)
    }

    @Test(
        "a link gives the whole package without a token, and the chain is told whom it is for",
        arguments: ["", "/a.bin"]
    )
    func whole(name: String) async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server in
            let package = OtaPackageId.random()
            let response = try await server.get(Self.path(server, TestDevices.device.id, package) + name)
            #expect(response.status == 200 && response.body == content.slice(0..<1000))
            let message = try #require(server.messages.first)
            #expect(message.type == .packageChunkRequest && message.originator == TestDevices.device)
            #expect(
                message.metadata == [
                    "transport": "http", "packageType": "SOFTWARE", "chunk": 0, "size": 0,
                    "packageId": .string(package.description),
                ]
            )
        }
    }

    @Test("a link has ranges, HEAD and entity tags as any download")
    func ranges() async throws {
        let content = BufferContent(size: 1000)
        try await withServer(answer: serve(content)) { server in
            let path = Self.path(server)
            let range = try await server.get(path, fields: "Range: bytes=990-\r\n")
            #expect(range.status == 206 && range.body == content.slice(990..<1000))
            #expect(range["Content-Range"] == "bytes 990-999/1000")
            let head = try await server.exchange("HEAD \(path) HTTP/1.1\r\nHost: h\r\n\r\n", isHead: true)
            #expect(head.status == 200 && head["Content-Length"] == "1000")
            let tag = try #require(head["ETag"])
            #expect(try await server.get(path, fields: "If-None-Match: \(tag)\r\n").status == 304)
        }
    }

    @Test("what is no link, was changed, has expired or is of nobody gets 403, and the chain is not asked")
    func refused() async throws {
        try await withServer(answer: serve(BufferContent(size: 10))) { server in
            let good = Self.path(server)
            let paths = [
                DownloadLinks.path + "x", String(good.dropLast()) + (good.hasSuffix("A") ? "B" : "A"),
                Self.path(server, UUID.random()),
                Self.path(server, expires: Timestamp.now.adding(.seconds(-1))),
            ]
            for path in paths { #expect(try await server.get(path).status == 403) }
            let long = DownloadLinks.path + String(repeating: "x", count: 256)
            for path in ["/api/download", "/api/download/", good + "/a/b", long, "/api/upload/x"] {
                let status = try await server.get(path).status
                #expect(status == 404 || (path == "/api/download/" && status == 403))
            }
            #expect(try await server.exchange("DELETE \(good) HTTP/1.1\r\nHost: h\r\n\r\n").status == 405)
            #expect(server.messages.isEmpty)
        }
    }
}
