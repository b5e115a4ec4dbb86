import NIOCore
import NodeKit
import OTA
import Testing

@testable import Management

/// Texts in requests: those that only look the same are different, and those with U+0000 are refused.
@Suite struct TextTests {
    private static func refusal(_ field: String) -> String { "'\(field)' must not have the character U+0000 in it" }

    @Test(
        "U+0000 in a body is a bad request that names the field",
        .bug(id: "D1.3"),
        arguments: [
            ("/api/device", #"{"name":"a\u0000b"}"#, "name"),
            ("/api/device", #"{"name":"a","label":"\u0000"}"#, "label"),
            ("/api/device", #"{"name":"a","additionalInfo":{"x":["\u0000"]}}"#, "additionalInfo.x[0]"),
            ("/api/deviceProfile", #"{"name":"p","description":"\u0000"}"#, "description"),
            ("/api/deviceProfile", #"{"name":"p","unknown":{"\u0000":1}}"#, #"unknown.\u0000"#),
            ("/api/otaPackage", #"{"type":"FIRMWARE","title":"t","version":"1\u0000"}"#, "version"),
            ("/api/auth/login", #"{"username":"u\u0000","password":"p"}"#, "username"),
            (
                "/api/entitiesQuery/count", #"{"entityFilter":{"type":"entityName","entityNameFilter":"\u0000"}}"#,
                "entityFilter.entityNameFilter"
            ),
        ]
    )
    func bodies(path: String, body: String, field: String) async throws {
        try await TestServer.run { server in
            let response = try await server.send(.POST, path, [:], ByteBuffer(string: body), token: server.token)
            try response.expectError(400, 31, Self.refusal(field))
        }
    }

    @Test(
        "U+0000 and bytes that are not UTF-8 in a path or a query is a bad request that names the field",
        .bug(id: "D1.3"),
        arguments: [
            ("/api/tenant/devices?deviceName=a%00", "deviceName", true),
            ("/api/tenant/devices?deviceName=%FF", "deviceName", false),
            ("/api/tenant/devices?pageSize=1&page=0&textSearch=%00", "textSearch", true),
            ("/api/tenant/devices?x%00=1", "the name of a parameter", true), ("/api/device/a%00", "id", true),
            ("/api/device/%C3", "id", false), ("/api/tenant/devices?unknown=%E9", "unknown", false),
        ]
    )
    func queries(path: String, field: String, isNull: Bool) async throws {
        try await TestServer.run { server in
            let response = try await server.get(path)
            try response.expectError(400, 31, isNull ? Self.refusal(field) : "'\(field)' is not UTF-8")
        }
    }

    @Test(
        "U+0000 in a field of a form or a file's name is a bad request that names the field, and leaves no package",
        .bug(id: "D1.3"),
        arguments: [
            ("form-data; name=\"file\"; filename=\"a\u{0}.bin\"", "1", "filename"),
            ("form-data; name=\"file\"; filename*=utf-8''a%00.bin", "1", "filename*"),
            ("form-data; name=\"file\"; filename=a\u{0}", "1", "filename"),
            ("form-data; name=\"fi\u{0}le\"", "1", "name"),
            ("form-data; name=\"file\"; filename=\"a\"", "1\u{0}", "version"),
        ]
    )
    func forms(disposition: String, version: String, field: String) async throws {
        try await TestServer.run { server in
            let form = """
                --XX\r\nContent-Disposition: form-data; name="title"\r\n\r\nt\r\n\
                --XX\r\nContent-Disposition: form-data; name="type"\r\n\r\nFIRMWARE\r\n\
                --XX\r\nContent-Disposition: form-data; name="version"\r\n\r\n\(version)\r\n\
                --XX\r\nContent-Disposition: \(disposition)\r\n\r\nbytes\r\n--XX--
                """
            let response = try await server.send(
                .POST,
                "/api/otaPackage",
                ["Content-Type": "multipart/form-data; boundary=XX"],
                ByteBuffer(string: form),
                token: server.token
            )
            try response.expectError(400, 31, Self.refusal(field))
            let list = try await server.get("/api/otaPackages?pageSize=1&page=0")
            #expect(try list.json["totalElements"] == 0)
        }
    }

    @Test("a quote or semicolon before a mark that combines with it is one all the same", .bug(id: "D1.2"))
    func combiningMarks() {
        let header =
            "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\u{301}a\"\u{301};x=1\r\n\r\n1\r\n--XX--"
        let outcome = MultipartParserTests.parse([ByteBuffer(string: header)])
        #expect(outcome.parts.map(\.fileName?.exact) == ["\u{301}a".exact])
        let query = try? PercentEncoding.query("a=1&\u{301}b=2&c=\u{301}")
        #expect(query == ["a": "1", "\u{301}b": "2", "c": "\u{301}"])
    }

    @Test("devices and members whose names only look the same are two", .bug(id: "D1.2"))
    func equivalents() async throws {
        try await TestServer.run { server in
            var ids: [String] = []
            for name in ["caf\u{E9}", "cafe\u{301}"] {
                ids.append(try await server.post("/api/device", ["name": .string(name)]).json.entityId)
            }
            #expect(Set(ids).count == 2)
            let found = try await server.get("/api/tenant/devices?deviceName=cafe%CC%81").json
            #expect(found.entityId == ids[1] && found["name"] == "cafe\u{301}")
            // What looks like a member that is known is one that is not, and is kept.
            let name = "provisionDevice\u{212A}ey"
            let profile = try await server.post("/api/deviceProfile", ["name": "p", name: "x"] as JSON).json
            #expect(profile[name] == "x" && profile["provisionDeviceKey"] == .null)
            let values: JSON = .object(["caf\u{E9}": 1, "cafe\u{301}": 2])
            let path = "/api/plugins/telemetry/DEVICE/\(ids[0])"
            #expect(try await server.post("\(path)/attributes/SERVER_SCOPE", values).status == 200)
            #expect(try await server.get("\(path)/keys/attributes/SERVER_SCOPE").json.array?.count == 2)
            let read = try await server.get("\(path)/values/attributes/SERVER_SCOPE?keys=cafe%CC%81").json
            #expect(read.array?.map { $0["value"] } == [2])
        }
    }
}
