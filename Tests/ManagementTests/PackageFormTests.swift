import NIOCore
import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct PackageFormTests {
    private static let info = [("title", "fw"), ("version", "1"), ("type", "FIRMWARE")]

    private func form(_ fields: [(String, String)], file: String?, then: [(String, String)] = []) -> String {
        func parts(_ fields: [(String, String)]) -> String {
            fields.map { "--XX\r\nContent-Disposition: form-data; name=\"\($0.0)\"\r\n\r\n\($0.1)\r\n" }.joined()
        }
        let file = file.map {
            "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n\($0)\r\n"
        }
        return "\(parts(fields))\(file ?? "")\(parts(then))--XX--\r\n"
    }

    private func send(_ server: TestServer, query: String = "", _ form: String) async throws -> TestResponse {
        try await server.send(
            .POST,
            "/api/otaPackage\(query)",
            ["Content-Type": "multipart/form-data; boundary=XX"],
            ByteBuffer(string: form),
            token: server.token
        )
    }

    @Test func aPackageIsMadeOfOneForm() async throws {
        try await TestServer.run { server in
            let profile = try await server.get("/api/deviceProfileInfo/default").json.entityId
            let fields =
                Self.info + [
                    ("tag", "t"), ("deviceProfileId", profile), ("additionalInfo", #"{"a":1}"#), ("usesUrl", "false"),
                    ("url", ""),
                ]
            let made = try await self.send(server, self.form(fields, file: "bytes")).json
            #expect(made["title"] == "fw")
            #expect(made["version"] == "1")
            #expect(made["tag"] == "t")
            #expect(made["additionalInfo"] == ["a": 1])
            #expect(made["deviceProfileId"]?["id"]?.string == profile)
            #expect(made["checksumAlgorithm"] == "SHA256")
            #expect(made["fileName"] == "a.bin")
            #expect(made["dataSize"] == 5)
            #expect(try await server.get("/api/otaPackage/\(made.entityId)/download").text == "bytes")
        }
    }

    @Test func theChecksumMayFollowTheFile() async throws {
        try await TestServer.run { server in
            let form = self.form(Self.info, file: "123456789", then: [("checksum", "2639f4cb")])
            let made = try await self.send(server, query: "?checksumAlgorithm=crc32", form).json
            #expect(made["checksumAlgorithm"] == "CRC32")
            #expect(made["checksum"] == "2639f4cb")
        }
    }

    @Test func aFormWithAURLNeedsNoFile() async throws {
        try await TestServer.run { server in
            let fields = [
                ("title", "e"), ("version", "1"), ("type", "SOFTWARE"), ("usesUrl", "true"), ("url", "http://a/b"),
                ("checksum", "ab"), ("checksumAlgorithm", "MD5"),
            ]
            let made = try await self.send(server, self.form(fields, file: nil)).json
            #expect(made["url"] == "http://a/b")
            #expect(made["checksumAlgorithm"] == "MD5")
            #expect(made["checksum"] == "ab")
            #expect(made["hasData"] == true)
        }
    }

    @Test(.bug(id: "D2.4")) func ofAFormThatIsRefusedNothingRemains() async throws {
        try await TestServer.run { server in
            let whole = self.form(Self.info, file: "bytes")
            let cases: [(String, String)] = [
                (self.form([], file: "bytes", then: Self.info), "Type should be specified!"),
                (self.form([("type", "FIRMWARE")], file: "bytes"), "OtaPackage title should be specified!"),
                (self.form(Self.info, file: ""), "OtaPackage data should be specified!"),
                (self.form(Self.info, file: "bytes", then: [("checksum", "no")]), "Wrong otaPackage file!"),
                (
                    self.form(Self.info + [("checksumAlgorithm", "MD4")], file: "bytes"),
                    "'MD4' is no checksum algorithm; known are MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32, MURMUR3_128"
                ),
                (
                    self.form(Self.info + [("usesUrl", "maybe")], file: "bytes"),
                    "'usesUrl' must be true or false, not 'maybe'"
                ),
                (
                    self.form(Self.info + [("id", "1")], file: "bytes"),
                    "A form makes a new package; leave 'id' out, or send JSON to change one"
                ),
                (
                    self.form(Self.info + [("additionalInfo", "{")], file: "bytes"),
                    "The field 'additionalInfo' is not valid JSON at byte 1: a member name in quotes should be here"
                ),
                (String(whole.dropLast(5)), "the multipart form cannot be read: it ends before its last boundary"),
                (self.form(Self.info + [("url", "http://a/b")], file: "bytes"), "File can't be saved if URL present!"),
            ]
            for (form, message) in cases {
                try (try await self.send(server, form)).expectError(400, 31, message)
                #expect(
                    try await server.get("/api/otaPackages?pageSize=9&page=0").json["totalElements"] == 0,
                    "\(message)"
                )
            }
            #expect(try await server.store.check() == [])
            #expect(try await self.send(server, whole).status == 200)
            try (try await self.send(server, whole))
                .expectError(400, 31, "OtaPackage with such title and version already exists!")
        }
    }
}
