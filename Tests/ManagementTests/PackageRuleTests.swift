import NIOCore
import NodeKit
import OTA
import Testing

@testable import Management

/// Every rule of packages is broken over the API, which answers with ThingsBoard's sentence.
@Suite struct PackageRuleTests {
    /// Two profiles, each with a package of each type that has bytes; a package without, and a device of the first profile.
    private struct Fleet {
        let server: TestServer
        let profile: JSON
        let otherProfile: JSON
        let firmware: JSON
        let software: JSON
        let empty: JSON
        let external: JSON
        let foreign: JSON
        let device: JSON

        init(_ server: TestServer) async throws {
            self.server = server
            self.profile = try await server.post("/api/deviceProfile", ["name": "P"]).json
            self.otherProfile = try await server.post("/api/deviceProfile", ["name": "Q"]).json
            self.device = try await server.post("/api/device", ["name": "d", "type": "P"]).json
            func package(_ title: String, _ more: JSON.Object = [:], of profile: JSON, bytes: String?) async throws
                -> JSON
            {
                var body: JSON.Object = [
                    "title": .string(title), "version": "1", "type": "FIRMWARE", "tag": "t",
                    "deviceProfileId": profile["id"] ?? .null,
                ]
                for member in more.members { body[member.name] = member.value }
                let made = try await server.post("/api/otaPackage", .object(body)).json
                guard let bytes else { return made }
                return try await server.upload(
                    to: made.entityId,
                    query: "?checksumAlgorithm=MD5",
                    Fleet.form(bytes)
                ).json
            }
            self.firmware = try await package("fw", of: self.profile, bytes: "firmware")
            self.software = try await package("sw", ["type": "SOFTWARE"], of: self.profile, bytes: "software")
            self.empty = try await package("empty", of: self.profile, bytes: nil)
            self.external = try await package(
                "url",
                ["usesUrl": true, "url": "http://a/b"],
                of: self.profile,
                bytes: nil
            )
            self.foreign = try await package("foreign", of: self.otherProfile, bytes: "foreign")
        }

        static func form(_ bytes: String, name: String = "a.bin", type: String = "text/x") -> String {
            "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(name)\"\r\nContent-Type: \(type)\r\n\r\n"
                + "\(bytes)\r\n--XX--\r\n"
        }

        /// The package with other values, as a client sends it that read and changed it.
        func change(_ package: JSON, _ name: String, _ value: JSON) async throws -> TestResponse {
            var body = package.object ?? [:]
            body[name] = value
            return try await self.server.post("/api/otaPackage", .object(body))
        }

        func create(_ more: JSON.Object) async throws -> TestResponse {
            var body: JSON.Object = [
                "title": "new", "version": "1", "type": "FIRMWARE", "deviceProfileId": self.profile["id"] ?? .null,
            ]
            for member in more.members { body[member.name] = member.value }
            return try await self.server.post("/api/otaPackage", .object(body))
        }

        func upload(_ package: JSON, query: String = "?checksumAlgorithm=MD5", _ form: String) async throws
            -> TestResponse
        {
            try await self.server.upload(to: package.entityId, query: query, form)
        }

        func assign(_ id: JSON, as member: String, to entity: JSON) async throws -> TestResponse {
            var body = entity.object ?? [:]
            body[member] = id
            let isDevice = entity["id"]?["entityType"] == "DEVICE"
            return try await self.server.post(isDevice ? "/api/device" : "/api/deviceProfile", .object(body))
        }
    }

    private static func long(_ count: Int) -> String { String(repeating: "x", count: count) }

    @Test(
        "What is created must say what it is",
        arguments: [
            (["title": nil], "OtaPackage title should be specified!"),
            (["title": ""], "OtaPackage title should be specified!"),
            (["version": nil], "OtaPackage version should be specified!"), (["type": nil], "Type should be specified!"),
            (
                ["deviceProfileId": ["entityType": "DEVICE_PROFILE", "id": "13814000-1dd2-11b2-8080-808080808080"]],
                "OtaPackage is referencing to non-existent device profile!"
            ),
            (["version": "\u{0}1"], "'version' must not have the character U+0000 in it"),
            (["usesUrl": true], "Ota package URL should be specified!"),
            (["usesUrl": true, "url": "  "], "Ota package URL should be specified!"),
            (["title": .string(Self.long(256))], "title length must be equal or less than 255"),
            (["version": .string(Self.long(256))], "version length must be equal or less than 255"),
            (["tag": .string(Self.long(256))], "tag length must be equal or less than 255"),
            (["url": .string(Self.long(256))], "url length must be equal or less than 255"),
            (["url": "u", "fileName": .string(Self.long(256))], "file name length must be equal or less than 255"),
            (
                ["url": "u", "contentType": .string(Self.long(256))],
                "contentType length must be equal or less than 255"
            ),
            (["url": "u", "checksum": .string(Self.long(1021))], "checksum length must be equal or less than 1020"),
            (["title": "sw", "type": "FIRMWARE"], "OtaPackage with such title and version already exists!"),
        ] as [(JSON.Object, String)]
    )
    func creation(body: JSON.Object, message: String) async throws {
        try await TestServer.run { server in
            try (try await Fleet(server).create(body)).expectError(400, 31, message)
        }
    }

    @Test func textsMayBeAsLongAsTheLimit() async throws {
        try await TestServer.run { server in
            let most = JSON.string(Self.long(255))
            let made = try await Fleet(server).create([
                "title": most, "version": most, "tag": most, "url": most, "fileName": most, "contentType": most,
                "checksum": .string(Self.long(1020)), "checksumAlgorithm": "MD5",
            ])
            #expect(made.status == 200, "\(made.text)")
        }
    }

    @Test(
        "What is saved does not change",
        arguments: [
            ("type", "SOFTWARE", "Updating type is prohibited!"),
            ("title", "other", "Updating otaPackage title is prohibited!"),
            ("version", "2", "Updating otaPackage version is prohibited!"),
            ("tag", "u", "Updating otaPackage tag is prohibited!"),
            ("fileName", "b", "Updating otaPackage file name is prohibited!"),
            ("contentType", "text/y", "Updating otaPackage content type is prohibited!"),
            ("checksum", "00", "Updating otaPackage content type is prohibited!"),
            ("checksumAlgorithm", "CRC32", "Updating otaPackage content type is prohibited!"),
            ("dataSize", 1, "Updating otaPackage data size is prohibited!"),
            ("url", "http://c", "Updating otaPackage URL is prohibited!"),
        ] as [(String, JSON, String)]
    )
    func changes(member: String, value: JSON, message: String) async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            try (try await fleet.change(fleet.firmware, member, value)).expectError(400, 31, message)
            #expect(try await fleet.change(fleet.firmware, "additionalInfo", ["n": 1]).status == 200)
        }
    }

    @Test func theProfileAndTheBytesDoNotChange() async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            try (try await fleet.change(fleet.firmware, "deviceProfileId", fleet.otherProfile["id"] ?? .null))
                .expectError(400, 31, "Updating otaPackage deviceProfile is prohibited!")
            #expect(try await fleet.upload(fleet.firmware, Fleet.form("firmware")).status == 200, "the same once more")
            try (try await fleet.upload(fleet.firmware, query: "?checksumAlgorithm=CRC32", Fleet.form("firmware")))
                .expectError(400, 31, "Updating otaPackage content type is prohibited!")
            try (try await fleet.upload(fleet.firmware, Fleet.form("firmware", name: "b.bin")))
                .expectError(400, 31, "Updating otaPackage file name is prohibited!")
            try (try await fleet.upload(fleet.firmware, Fleet.form("longer firmware")))
                .expectError(400, 31, "Updating otaPackage content type is prohibited!")
        }
    }

    @Test(
        "An upload must be complete and right",
        arguments: [
            ("", Fleet.form("x"), "Parameter 'checksumAlgorithm' can't be empty!"),
            ("?checksumAlgorithm=MD5", Fleet.form("x", name: ""), "OtaPackage file name should be specified!"),
            ("?checksumAlgorithm=MD5", Fleet.form(""), "OtaPackage data should be specified!"),
            ("?checksumAlgorithm=MD5&checksum=00", Fleet.form("x"), "Wrong otaPackage file!"),
            (
                "?checksumAlgorithm=MD5", Fleet.form("x", name: Self.long(256)),
                "file name length must be equal or less than 255"
            ),
            (
                "?checksumAlgorithm=MD5", Fleet.form("x", type: Self.long(256)),
                "contentType length must be equal or less than 255"
            ),
        ] as [(String, String, String)]
    )
    func uploads(query: String, form: String, message: String) async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            try (try await fleet.upload(fleet.empty, query: query, form)).expectError(400, 31, message)
            #expect(try await server.get("/api/otaPackage/info/\(fleet.empty.entityId)").json["hasData"] == false)
            #expect(try await server.store.check() == [])
        }
    }

    @Test func bytesAreNotTakenBesideAURL() async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            try (try await fleet.upload(fleet.external, Fleet.form("x")))
                .expectError(400, 31, "File can't be saved if URL present!")
        }
    }

    @Test func onlyWhatFitsIsAssigned() async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            let unknown: JSON = ["entityType": "OTA_PACKAGE", "id": .string(OtaPackageId.random().description)]
            func id(_ package: JSON) -> JSON { package["id"] ?? .null }
            let cases: [(JSON, String, String)] = [
                (unknown, "firmwareId", "Can't assign non-existent firmware!"),
                (unknown, "softwareId", "Can't assign non-existent software!"),
                (id(fleet.software), "firmwareId", "Can't assign firmware with type: SOFTWARE"),
                (id(fleet.firmware), "softwareId", "Can't assign software with type: FIRMWARE"),
                (id(fleet.empty), "firmwareId", "Can't assign firmware with empty data!"),
                (id(fleet.foreign), "firmwareId", "Can't assign firmware with different deviceProfile!"),
            ]
            for entity in [fleet.device, fleet.profile] {
                for (package, member, message) in cases {
                    try (try await fleet.assign(package, as: member, to: entity)).expectError(400, 31, message)
                }
                #expect(try await fleet.assign(id(fleet.external), as: "firmwareId", to: entity).status == 200)
            }
        }
    }

    @Test func whatIsUsedIsNotDeleted() async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            let cases: [(JSON, String, JSON, String)] = [
                (
                    fleet.firmware, "firmwareId", fleet.device,
                    "The otaPackage referenced by the devices cannot be deleted!"
                ),
                (
                    fleet.software, "softwareId", fleet.device,
                    "The software referenced by the devices cannot be deleted!"
                ),
                (
                    fleet.firmware, "firmwareId", fleet.profile,
                    "The otaPackage referenced by the device profile cannot be deleted!"
                ),
                (
                    fleet.software, "softwareId", fleet.profile,
                    "The software referenced by the device profile cannot be deleted!"
                ),
            ]
            for (package, member, entity, message) in cases {
                #expect(try await fleet.assign(package["id"] ?? .null, as: member, to: entity).status == 200)
                try (try await server.delete("/api/otaPackage/\(package.entityId)")).expectError(400, 31, message)
                #expect(try await fleet.assign(.null, as: member, to: entity).status == 200)
            }
            for package in [fleet.firmware, fleet.software] {
                let deleted = try await server.delete("/api/otaPackage/\(package.entityId)")
                #expect(deleted.status == 200)
                #expect(deleted.text == "")
            }
        }
    }
}
