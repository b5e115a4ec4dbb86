import FoundationEssentials
import NodeKit
import OTA
import StoreTesting
import Testing

@Suite struct DeviceTests {
    @Test(
        "a device comes back as it was saved, also after the store is opened again",
        arguments: EngineUnderTest.durable
    )
    func roundTrip(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let first = fixture.store
            let profile = try await first.defaultDeviceProfile(of: .main)
            #expect(profile.name == "default")
            #expect(profile.isDefault)
            var device = Device(
                name: "pump 7",
                label: "in the cellar",
                deviceProfileId: profile.id,
                additionalInfo: ["a": [1, 2.5, "x", nil, true]],
                deviceData: ["configuration": ["type": "DEFAULT"]]
            )
            let saved = try await first.saveDevice(device, accessToken: "T")
            device.isSaved = true
            #expect(saved == device)
            try await fixture.reopen()
            let second = fixture.store
            #expect(try await second.findDeviceById(device.id) == device)
            #expect(try await second.findDeviceByName("pump 7", of: .main) == device)
            #expect(try await second.findDeviceByName("pump 8", of: .main) == nil)
            #expect(try await second.device(accessToken: "T")?.id == device.id.uuid)
            #expect(try await second.defaultDeviceProfile(of: .main) == profile)
        }
    }

    @Test("names are unique, present and bounded, and the profile exists", arguments: EngineUnderTest.all)
    func rules(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            _ = try await fixture.device("a", in: profile.id)
            await expectRefusal("Device with such name already exists!") {
                _ = try await fixture.device("a", in: profile.id)
            }
            await expectRefusal("Device name should be specified!") {
                _ = try await fixture.device(" ", in: profile.id)
            }
            await expectRefusal("name length must be equal or less than 255") {
                _ = try await fixture.device(String(repeating: "x", count: 256), in: profile.id)
            }
            _ = try await store.saveDevice(
                Device(name: String(repeating: "é", count: 255), deviceProfileId: profile.id),
                accessToken: nil
            )
            await expectRefusal("Device is referencing to non-existent device profile!") {
                _ = try await fixture.device("b", in: .random())
            }
            await expectRefusal("Device credentials are already assigned to another device!") {
                _ = try await store.saveDevice(
                    Device(name: "c", deviceProfileId: profile.id),
                    accessToken: "token of a"
                )
            }
            #expect(try await store.findDeviceByName("c", of: .main) == nil)
            await expectRefusal("Device profile with such name already exists!") { _ = try await fixture.profile() }
            await expectRefusal("Device profile name should be specified!") { _ = try await fixture.profile("") }
        }
    }

    @Test("a device without a given token gets one of twenty letters and digits", arguments: EngineUnderTest.all)
    func randomToken(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.store.defaultDeviceProfile(of: .main)
            let device = try await fixture.store.saveDevice(
                Device(name: "a", deviceProfileId: profile.id),
                accessToken: ""
            )
            let token = try #require(try await fixture.store.findCredentials(of: device.id)).credentialsId
            #expect(token.count == 20)
            #expect(token.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) })
            #expect(
                try await fixture.store.device(accessToken: token)
                    == Originator(id: device.id.uuid, name: "a", type: "default")
            )
        }
    }

    @Test(
        "what is known of a device by its token follows its name, profile, credentials and end",
        arguments: EngineUnderTest.all
    )
    func authentication(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            var profile = try await fixture.profile("one")
            let other = try await fixture.profile("two")
            var device = try await fixture.device("a", in: profile.id)
            let notifications = fixture.notifications(of: device.id)
            let token = "token of a"
            func known() async throws -> [String]? {
                try await store.device(accessToken: token).map { [$0.name, $0.type] }
            }
            #expect(try await known() == ["a", "one"])
            device.name = "b"
            device = try await store.saveDevice(device, accessToken: nil)
            #expect(try await known() == ["b", "one"])
            profile.name = "uno"
            profile = try await store.saveDeviceProfile(profile)
            #expect(try await known() == ["b", "uno"])
            device.deviceProfileId = other.id
            device = try await store.saveDevice(device, accessToken: nil)
            #expect(try await known() == ["b", "two"])
            #expect(notifications.all.isEmpty)

            var credentials = try #require(try await store.findCredentials(of: device.id))
            credentials.credentialsId = "another"
            #expect(try await store.saveCredentials(credentials) == credentials)
            #expect(try await known() == nil)
            #expect(try await store.device(accessToken: "another")?.name == "b")
            #expect(notifications.all == [.credentialsRevoked])
            _ = try await store.saveCredentials(credentials)
            #expect(notifications.all == [.credentialsRevoked])

            try await store.deleteDevice(device.id)
            #expect(try await store.device(accessToken: "another") == nil)
            #expect(notifications.all == [.credentialsRevoked, .credentialsRevoked])
            #expect(try await store.findDeviceById(device.id) == nil)
            await expectRefusal("Device with id [\(device.id)] is not found", code: .notFound) {
                try await store.deleteDevice(device.id)
            }
        }
    }

    @Test(
        "MQTT credentials are accepted when all that is set is presented",
        arguments: EngineUnderTest.all,
        [
            (#"{"clientId":"c","userName":"u","password":"p"}"#, "c", "u", "p", true),
            (#"{"clientId":"c","userName":"u","password":"p"}"#, "c", "u", "q", false),
            (#"{"clientId":"c","userName":"u","password":"p"}"#, "c", "u", nil, false),
            (#"{"clientId":"c","userName":"u","password":"p"}"#, "x", "u", "p", false),
            (#"{"clientId":"c","userName":"u"}"#, "c", "u", "anything", true),
            (#"{"clientId":"c"}"#, "c", nil, nil, true),
            (#"{"clientId":"c"}"#, "c", "", nil, true),
            (#"{"clientId":"c"}"#, "d", nil, nil, false),
            (#"{"userName":"u","password":"p"}"#, "anything", "u", "p", true),
            (#"{"userName":"u","password":"p"}"#, "anything", "u", "", false),
        ] as [(String, String, String?, String?, Bool)]
    )
    func mqttBasic(engine: EngineUnderTest, values: (String, String, String?, String?, Bool)) async throws {
        let (value, clientId, userName, password, accepted) = values
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.store.defaultDeviceProfile(of: .main)
            let device = try await fixture.device(in: profile.id)
            _ = try await fixture.store.saveCredentials(
                DeviceCredentials(deviceId: device.id, kind: .mqttBasic, credentialsId: "", credentialsValue: value)
            )
            for _ in 0..<2 {
                let found = try await fixture.store.device(clientId: clientId, userName: userName, password: password)
                #expect((found?.id == device.id.uuid) == accepted)
            }
            #expect(try await fixture.store.device(accessToken: userName ?? "u") == nil)
        }
    }

    @Test(
        "an access token is taken in place of the MQTT user name, but not after a wrong password",
        arguments: EngineUnderTest.all
    )
    func tokenAsUserName(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.store.defaultDeviceProfile(of: .main)
            let plain = try await fixture.device("plain", in: profile.id)
            let basic = try await fixture.device("basic", in: profile.id)
            func device(_ clientId: String, _ password: String?) async throws -> UUID? {
                try await fixture.store.device(clientId: clientId, userName: "token of plain", password: password)?.id
            }
            #expect(try await device("c", nil) == plain.id.uuid)
            _ = try await fixture.store.saveCredentials(
                DeviceCredentials(
                    deviceId: basic.id,
                    kind: .mqttBasic,
                    credentialsId: "",
                    credentialsValue: #"{"clientId":"c","userName":"token of plain","password":"p"}"#
                )
            )
            #expect(try await device("c", "p") == basic.id.uuid)
            #expect(try await device("c", "wrong") == nil)
            #expect(try await device("d", nil) == plain.id.uuid)
        }
    }

    @Test("credentials that say too little are refused", arguments: EngineUnderTest.all)
    func badCredentials(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.store.defaultDeviceProfile(of: .main)
            let device = try await fixture.device(in: profile.id)
            func save(_ kind: DeviceCredentials.Kind, _ id: String, _ value: String?) async throws {
                let credentials = DeviceCredentials(
                    deviceId: device.id,
                    kind: kind,
                    credentialsId: id,
                    credentialsValue: value
                )
                _ = try await fixture.store.saveCredentials(credentials)
            }
            await expectRefusal("Device credentials id should be specified!") { try await save(.accessToken, "", nil) }
            await expectRefusal("Invalid credentials body for simple mqtt credentials!") {
                try await save(.mqttBasic, "x", "[]")
            }
            await expectRefusal("Both mqtt client id and user name are empty!") {
                try await save(.mqttBasic, "x", #"{"password":"p"}"#)
            }
            await expectRefusal("Device credentials value should be specified!") {
                try await save(.x509Certificate, "x", nil)
            }
            await expectRefusal("Device credentials value must be one certificate in PEM form!") {
                try await save(.x509Certificate, "x", "not base64!")
            }
            await expectRefusal("credentialsId length must be equal or less than 255") {
                try await save(.accessToken, String(repeating: "x", count: 256), nil)
            }
            try await save(.accessToken, String(repeating: "x", count: 255), nil)
        }
    }

    @Test(
        "a device is found by its certificate, however its PEM text is written, and by no other",
        arguments: EngineUnderTest.all
    )
    func certificates(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let device = try await fixture.device("d1", in: fixture.profile().id)
            let der: [UInt8] = [48, 3, 2, 1, 7]
            let base64 = "MAMCAQc="
            for text in [
                base64, "-----BEGIN CERTIFICATE-----\n\(base64)\n-----END CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\r\nMAMC\r\nAQc=\r\n-----END CERTIFICATE-----",
            ] {
                _ = try await fixture.store.saveCredentials(
                    DeviceCredentials(
                        deviceId: device.id,
                        kind: .x509Certificate,
                        credentialsId: "",
                        credentialsValue: text
                    )
                )
                #expect(try await fixture.store.device(certificate: der)?.name == "d1")
            }
            #expect(try await fixture.store.device(certificate: [48, 3, 2, 1, 8]) == nil)
            #expect(try await fixture.store.device(accessToken: base64) == nil)
            let stored = try #require(try await fixture.store.findCredentials(of: device.id))
            #expect(try await fixture.store.device(accessToken: stored.credentialsId) == nil)
        }
    }

    @Test("lists are paged, sorted and searched", arguments: EngineUnderTest.all)
    func pages(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let other = try await fixture.profile("other")
            for number in 0..<7 {
                _ = try await store.saveDevice(
                    Device(
                        createdTime: Timestamp(milliseconds: Int64(number)),
                        name: number == 3 ? "a 100% _b" : "dev\(number)",
                        deviceProfileId: number < 6 ? profile.id : other.id
                    ),
                    accessToken: nil
                )
            }
            func names(_ link: PageLink, _ profile: DeviceProfileId? = nil) async throws -> [String] {
                try await store.findDevices(of: .main, deviceProfileId: profile, page: link).data.map(\.name)
            }
            let page = try await store.findDevices(
                of: .main,
                deviceProfileId: nil,
                page: PageLink(pageSize: 3, page: 1)
            )
            #expect(page.data.map(\.name) == ["a 100% _b", "dev2", "dev1"])
            #expect(page.totalElements == 7)
            #expect(page.totalPages == 3)
            #expect(page.hasNext)
            #expect(try await names(PageLink(pageSize: 3, page: 2)) == ["dev0"])
            #expect(try await names(PageLink(pageSize: 3, page: 9)) == [])
            #expect(
                try await names(PageLink(pageSize: 2, sortProperty: "name", ascending: true)) == ["a 100% _b", "dev0"]
            )
            #expect(
                try await names(PageLink(pageSize: 2, sortProperty: "nonsense; --", ascending: true)) == [
                    "dev0", "dev1",
                ]
            )
            #expect(try await names(PageLink(pageSize: 9, textSearch: "0% _")) == ["a 100% _b"])
            #expect(try await names(PageLink(pageSize: 9, textSearch: "%")) == ["a 100% _b"])
            #expect(try await names(PageLink(pageSize: 9, textSearch: "DEV1")) == ["dev1"])
            #expect(try await names(PageLink(pageSize: 9), other.id) == ["dev6"])
            await expectRefusal("there is no page \(Int.max)") {
                _ = try await names(PageLink(pageSize: 2, page: .max))
            }
            #expect(
                try await store.findDeviceProfiles(
                    of: .main,
                    page: PageLink(pageSize: 9, sortProperty: "name", ascending: true)
                )
                .data.map(\.name) == ["default", "other", "profile"]
            )
        }
    }

    @Test("one profile is the default one, and only that can become another's", arguments: EngineUnderTest.all)
    func defaultProfile(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let first = try await store.defaultDeviceProfile(of: .main)
            var second = try await store.saveDeviceProfile(DeviceProfile(name: "second", isDefault: true))
            #expect(second.isDefault == false)
            await expectRefusal("Deletion of Default Device Profile is prohibited!") {
                try await store.deleteDeviceProfile(first.id)
            }
            second = try await store.setDefaultDeviceProfile(second.id)
            #expect(try await store.defaultDeviceProfile(of: .main) == second)
            #expect(try await store.findDeviceProfileById(first.id)?.isDefault == false)
            try await store.deleteDeviceProfile(first.id)
            #expect(try await store.findDeviceProfileByName("default", of: .main) == nil)
            await expectRefusal("Device profile with id [\(first.id)] is not found", code: .notFound) {
                _ = try await store.setDefaultDeviceProfile(first.id)
            }
        }
    }
}
