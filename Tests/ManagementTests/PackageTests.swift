import FoundationEssentials
import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import Management

/// What becomes of the uploads of a server.
private final class UploadWatch: Sendable {
    /// How many were given up.
    let cancelled = Mutex(0)
    /// What writing throws.
    let failure = Mutex<NodeError?>(nil)
    private let (cancellations, continuation) = AsyncStream.makeStream(of: Void.self)

    /// Waits until an upload is given up.
    func cancellation() async { for await _ in self.cancellations { return } }

    private struct Upload: OtaPackageUpload {
        let upload: any OtaPackageUpload
        let watch: UploadWatch

        func write(_ bytes: ByteBuffer) async throws {
            if let failure = self.watch.failure.withLock({ $0 }) { throw failure }
            try await self.upload.write(bytes)
        }

        func finish(
            fileName: String?,
            contentType: String?,
            algorithm: ChecksumAlgorithm,
            checksum: String?
        ) async throws -> OtaPackage {
            try await self.upload.finish(
                fileName: fileName,
                contentType: contentType,
                algorithm: algorithm,
                checksum: checksum
            )
        }

        func cancel() async {
            await self.upload.cancel()
            self.watch.cancelled.withLock { $0 += 1 }
            self.watch.continuation.yield()
        }
    }

    /// Runs a server whose uploads are watched.
    static func run(_ body: (TestServer, UploadWatch) async throws -> Void) async throws {
        let domain = try TestDomain()
        let watch = UploadWatch()
        let packages = WrappedUploads(packages: domain.store) { Upload(upload: $0, watch: watch) }
        let parts = try TestServer.Parts(domain) { $0.register(packages, as: (any OtaPackageService).self) }
        try await TestServer.run(on: parts) { try await body($0, watch) }
    }
}

@Suite struct PackageTests {
    static let members = [
        "id", "createdTime", "tenantId", "deviceProfileId", "type", "title", "version", "tag", "url", "hasData",
        "fileName", "contentType", "checksumAlgorithm", "checksum", "dataSize", "additionalInfo", "externalId", "name",
    ]

    /// Checksums of `hello`.
    static let md5 = "5d41402abc4b2a76b9719d911017c592"
    static let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    static let sha512 =
        "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca7"
        + "2323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043"

    private func create(_ server: TestServer, version: String = "1", _ more: JSON.Object = [:]) async throws -> JSON {
        var body: JSON.Object = [
            "deviceProfileId": [
                "entityType": "DEVICE_PROFILE", "id": .string(try await server.defaultProfile.description),
            ],
            "type": "FIRMWARE", "title": "fw", "version": .string(version), "tag": "fw 1", "usesUrl": false,
        ]
        for member in more.members { body[member.name] = member.value }
        return try await server.post("/api/otaPackage", .object(body)).json
    }

    private func form(_ bytes: String, _ fields: [(String, String)] = [], fileFirst: Bool = true) -> String {
        let file =
            "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n"
            + "Content-Type: application/x-firmware\r\n\r\n\(bytes)\r\n"
        let others = fields.map { "--XX\r\nContent-Disposition: form-data; name=\"\($0.0)\"\r\n\r\n\($0.1)\r\n" }
            .joined()
        return fileFirst ? "\(file)\(others)--XX--\r\n" : "\(others)\(file)--XX--\r\n"
    }

    @Test func aPackageIsCreatedReadAndListed() async throws {
        try await TestServer.run { server in
            let package = try await self.create(server)
            #expect(package.object?.names == Self.members)
            #expect(package["id"]?["entityType"] == "OTA_PACKAGE")
            #expect(package["tenantId"]?["entityType"] == "TENANT")
            let profile = try await server.defaultProfile
            #expect(package["deviceProfileId"]?["id"]?.string == profile.description)
            #expect(package["type"] == "FIRMWARE")
            #expect(package["title"] == "fw")
            #expect(package["name"] == "fw")
            #expect(package["version"] == "1")
            #expect(package["tag"] == "fw 1")
            #expect(package["hasData"] == false)
            for name in ["url", "fileName", "contentType", "checksumAlgorithm", "checksum", "dataSize", "externalId"] {
                #expect(package[name] == .null)
            }
            let id = package.entityId
            #expect(try await server.get("/api/otaPackage/info/\(id)").json == package)
            server.advance(by: .seconds(1))
            let newest = try await self.create(server, version: "2")
            let page = try await server.get("/api/otaPackages?pageSize=1&page=0").json
            #expect(page.object?.names == ["data", "totalPages", "totalElements", "hasNext"])
            #expect(page["data"] == [newest])
            #expect(page["totalPages"] == 2)
            #expect(page["totalElements"] == 2)
            #expect(page["hasNext"] == true)
            #expect(try await server.get("/api/otaPackages?pageSize=1&page=1").json["data"] == [package])
            let ofProfile = "/api/otaPackages/\(profile)/FIRMWARE?pageSize=10&page=0"
            #expect(try await server.get(ofProfile).json["totalElements"] == 0, "only those with data")
            _ = try await server.upload(to: id, query: "?checksumAlgorithm=SHA256", self.form("x"))
            #expect(try await server.get(ofProfile).json["totalElements"] == 1)
            #expect(
                try await server.get(ofProfile.replacing("FIRMWARE", with: "SOFTWARE")).json["totalElements"] == 0
            )
        }
    }

    @Test func aPackageMayHaveAURL() async throws {
        try await TestServer.run { server in
            let package = try await self.create(server, ["usesUrl": true, "url": "http://example.com/a"])
            #expect(package["url"] == "http://example.com/a")
            #expect(package["hasData"] == true)
            try (try await server.get("/api/otaPackage/\(package.entityId)/download")).expectError(400, 31)
            let whole = try await server.get("/api/otaPackage/\(package.entityId)").json
            #expect(whole.object?.names == Self.members + ["data"])
            #expect(whole["data"] == .null)
        }
    }

    @Test(
        "What may not be saved is refused with ThingsBoard's sentence",
        arguments: [
            (["type": nil], "Type should be specified!"),
            (["title": nil], "OtaPackage title should be specified!"),
            (["version": nil], "OtaPackage version should be specified!"),
            (["usesUrl": true], "Ota package URL should be specified!"),
            (["usesUrl": true, "url": " "], "Ota package URL should be specified!"),
            (["type": "HARDWARE"], "'HARDWARE' is no package type; it must be FIRMWARE or SOFTWARE"),
        ] as [(JSON.Object, String)]
    )
    func refused(change: JSON.Object, message: String) async throws {
        try await TestServer.run { server in
            let answer = try await self.create(server, change)
            #expect(answer["errorCode"] == 31)
            #expect(answer["message"]?.string == message)
        }
    }

    @Test func savingAgainKeepsWhatIsNotSaid() async throws {
        try await TestServer.run { server in
            let package = try await self.create(server)
            let id: JSON = ["entityType": "OTA_PACKAGE", "id": .string(package.entityId)]
            let saved = try await server.post("/api/otaPackage", ["id": id, "additionalInfo": ["note": "n"]]).json
            #expect(saved["additionalInfo"] == ["note": "n"])
            #expect(saved["title"] == "fw")
            #expect(saved["createdTime"] == package["createdTime"])
            try (try await server.post("/api/otaPackage", ["id": id, "title": "other"]))
                .expectError(400, 31, "Updating otaPackage title is prohibited!")
            let unknown = OtaPackageId.random()
            try (try await server.post("/api/otaPackage", ["id": ["id": .string(unknown.description)]]))
                .expectError(404, 32, "Ota package with id [\(unknown)] is not found")
        }
    }

    @Test(
        "The checksum is taken from the query and from the form, before and after the file",
        arguments: [
            ("?checksumAlgorithm=sha256&checksum=\(Self.sha256)", [], true, "SHA256", Self.sha256),
            ("?checksumAlgorithm=MURMUR3_32&checksum=", [], true, "MURMUR3_32", "47fa8b24"),
            ("", [("checksumAlgorithm", "MD5"), ("checksum", Self.md5)], true, "MD5", Self.md5),
            ("", [("checksumAlgorithm", "CRC32")], false, "CRC32", "86a61036"),
            ("?checksumAlgorithm=SHA512", [("checksumAlgorithm", "MD5"), ("other", "x")], true, "SHA512", Self.sha512),
        ] as [(String, [(String, String)], Bool, String, String)]
    )
    func upload(query: String, fields: [(String, String)], fileFirst: Bool, algorithm: String, checksum: String)
        async throws
    {
        try await UploadWatch.run { server, watch in
            let id = try await self.create(server).entityId
            let response = try await server.upload(
                to: id,
                query: query,
                self.form("hello", fields, fileFirst: fileFirst)
            )
            #expect(response.status == 200, "\(response.text)")
            let package = try response.json
            #expect(package.object?.names == Self.members)
            #expect(package["fileName"] == "a.bin")
            #expect(package["contentType"] == "application/x-firmware")
            #expect(package["dataSize"] == 5)
            #expect(package["hasData"] == true)
            #expect(package["checksumAlgorithm"]?.string == algorithm)
            #expect(package["checksum"]?.string == checksum)
            #expect(watch.cancelled.withLock { $0 } == 0)
        }
    }

    @Test(
        "An upload that cannot be taken leaves nothing",
        arguments: [
            ("", "FILE", "Parameter 'checksumAlgorithm' can't be empty!"),
            ("?checksumAlgorithm=SHA256&checksum=wrong", "FILE", "Wrong otaPackage file!"),
            ("?checksumAlgorithm=SHA256", "--XX--", "Parameter 'file' can't be empty!"),
            (
                "?checksumAlgorithm=SHA256", "FILE-CUT",
                "the multipart form cannot be read: it ends before its last boundary"
            ),
            ("?checksumAlgorithm=SHA256", "FILE-TWICE", "The form has two parts 'file'; send one"),
            (
                "?checksumAlgorithm=SHA3", "FILE",
                "'SHA3' is no checksum algorithm; known are MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32, MURMUR3_128"
            ),
        ]
    )
    func refusedUpload(query: String, form: String, message: String) async throws {
        try await UploadWatch.run { server, watch in
            let id = try await self.create(server).entityId
            let file = self.form("hello")
            let text =
                switch form {
                case "FILE": file
                case "FILE-CUT": String(file.dropLast(9))
                case "FILE-TWICE": file.replacing("--XX--\r\n", with: "") + file
                default: form
                }
            let response = try await server.upload(to: id, query: query, text)
            try response.expectError(400, 31, message)
            #expect(try await server.get("/api/otaPackage/info/\(id)").json["hasData"] == false)
            let began = form.hasPrefix("FILE") && !query.contains("SHA3")
            #expect(watch.cancelled.withLock { $0 } == (began ? 1 : 0))
        }
    }

    @Test func anUploadToNothingOrAsNoFormIsRefused() async throws {
        try await TestServer.run { server in
            let unknown = OtaPackageId.random()
            try (try await server.upload(to: unknown.description, self.form("x")))
                .expectError(404, 32, "Ota package with id [\(unknown)] is not found")
            let id = try await self.create(server).entityId
            let response = try await server.post("/api/otaPackage/\(id)", [:])
            try response.expectError(
                415,
                31,
                "The file must be sent as multipart/form-data with a boundary, in the part 'file'"
            )
        }
    }

    @Test("A field of the form may be as long as the limit and no longer", arguments: [0, 1])
    func fieldLimit(excess: Int) async throws {
        try await TestServer.run { server in
            let id = try await self.create(server).entityId
            let field = ("note", String(repeating: "x", count: 4096 + excess))
            let response = try await server.upload(to: id, query: "?checksumAlgorithm=MD5", self.form("x", [field]))
            if excess == 0 {
                #expect(response.status == 200)
            } else {
                try response.expectError(400, 31, "The field 'note' is longer than 4096 bytes")
            }
        }
    }

    @Test("An upload may be as long as the limit and no longer", arguments: [0, 1])
    func uploadLimit(excess: Int) async throws {
        let form = self.form("hello")
        try await TestServer.run { options in
            options.uploadBytesMax = Int64(form.utf8.count - excess)
        } _: { server in
            let id = try await self.create(server).entityId
            let response = try await server.upload(to: id, query: "?checksumAlgorithm=MD5", form)
            if excess == 0 {
                #expect(response.status == 200)
            } else {
                try response.expectError(413, 31, "The upload is longer than \(form.utf8.count - 1) bytes")
            }
        }
    }

    @Test func aFullDiskIsToldAndTheUploadGivenUp() async throws {
        try await UploadWatch.run { server, watch in
            let id = try await self.create(server).entityId
            watch.failure.withLock { $0 = NodeError(.storageFull, "the disk is full") }
            let response = try await server.upload(to: id, query: "?checksumAlgorithm=MD5", self.form("x"))
            try response.expectError(507, 2, "the disk is full")
            #expect(watch.cancelled.withLock { $0 } == 1)
        }
    }

    @Test func anUploadThatTheClientCutsOffIsGivenUp() async throws {
        try await UploadWatch.run { server, watch in
            let id = try await self.create(server).entityId
            let form = self.form("hello")
            try await server.raw { _, outbound, _ in
                let head =
                    "POST /api/otaPackage/\(id)?checksumAlgorithm=MD5 HTTP/1.1\r\nHost: a\r\n"
                    + "X-Authorization: Bearer \(server.token)\r\nContent-Type: multipart/form-data; boundary=XX\r\n"
                    + "Content-Length: \(form.utf8.count)\r\n\r\n"
                // Swift takes a line break for one character, so this cuts in the middle of the file's bytes.
                try await outbound.write(ByteBuffer(string: head + String(form.dropLast(10))))
            }
            await watch.cancellation()
            #expect(try await server.get("/api/otaPackage/info/\(id)").json["hasData"] == false)
        }
    }

    @Test func aPackageIsDownloadedWholeAndAsBase64() async throws {
        try await TestServer.run { server in
            let id = try await self.create(server).entityId
            // Longer than several pieces, and no multiple of three.
            let bytes = String(repeating: "0123456789abcdef", count: 40_000) + "x"
            _ = try await server.upload(to: id, query: "?checksumAlgorithm=MD5", self.form(bytes))
            let file = try await server.get("/api/otaPackage/\(id)/download")
            #expect(file.status == 200)
            #expect(file.text == bytes)
            #expect(file.headers["Content-Disposition"] == ["attachment;filename=a.bin"])
            #expect(file.headers["x-filename"] == ["a.bin"])
            #expect(file.headers["Content-Length"] == ["640001"])
            #expect(file.headers["Content-Type"] == ["application/x-firmware"])
            #expect(file.headers["ETag"] == ["\"d230c1244461dd73533795026a1c642f030e9d4650656c737dca8c9ac28c928b\""])
            let whole = try await server.get("/api/otaPackage/\(id)")
            let json = try whole.json
            #expect(json.object?.names == Self.members + ["data"])
            #expect(whole.headers["Content-Length"] == ["\(whole.body.readableBytes)"])
            #expect(Data(base64Encoded: json["data"]?.string ?? "") == Data(bytes.utf8))
        }
    }

    @Test func aPackageWithoutBytesHasNothingToDownload() async throws {
        try await TestServer.run { server in
            let id = try await self.create(server).entityId
            try (try await server.get("/api/otaPackage/\(id)/download")).expectError(404, 32)
            #expect(try await server.get("/api/otaPackage/\(id)").json["data"] == .null)
        }
    }

    @Test("A package is sent as base64 up to the limit and no longer", arguments: [0, 1])
    func inlineLimit(excess: Int) async throws {
        try await TestServer.run { options in
            options.inlineBytesMax = 5
        } _: { server in
            let id = try await self.create(server).entityId
            let bytes = String(repeating: "x", count: 5 + excess)
            _ = try await server.upload(to: id, query: "?checksumAlgorithm=MD5", self.form(bytes))
            let response = try await server.get("/api/otaPackage/\(id)")
            if excess == 0 {
                #expect(try response.json["data"] == "eHh4eHg=")
            } else {
                try response.expectError(
                    413,
                    31,
                    "The package has 6 bytes and only 5 are sent as JSON; use /api/otaPackage/\(id)/download"
                )
            }
        }
    }

    @Test func aPackageIsDeletedUnlessItIsUsed() async throws {
        try await TestServer.run { server in
            let id = try await self.create(server).entityId
            #expect(try await server.upload(to: id, query: "?checksumAlgorithm=MD5", self.form("x")).status == 200)
            let device: JSON = ["name": "d", "firmwareId": ["entityType": "OTA_PACKAGE", "id": .string(id)]]
            let deviceId = try await server.post("/api/device", device).json.entityId
            try (try await server.delete("/api/otaPackage/\(id)"))
                .expectError(400, 31, "The otaPackage referenced by the devices cannot be deleted!")
            let count = "/api/devices/count/FIRMWARE/\(try await server.defaultProfile)"
            #expect(try await server.get(count).text == "0")
            _ = try await server.delete("/api/device/\(deviceId)")
            _ = try await server.post("/api/device", ["name": "e"])
            #expect(try await server.get(count).text == "1")
            let deleted = try await server.delete("/api/otaPackage/\(id)")
            #expect(deleted.status == 200)
            #expect(deleted.body.readableBytes == 0)
            for path in ["/api/otaPackage/info/\(id)", "/api/otaPackage/\(id)", "/api/otaPackage/\(id)/download"] {
                try (try await server.get(path)).expectError(404, 32, "Ota package with id [\(id)] is not found")
            }
            try (try await server.delete("/api/otaPackage/\(id)")).expectError(404, 32)
        }
    }
}
