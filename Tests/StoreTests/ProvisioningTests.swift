import FoundationEssentials
import GRDB
import NodeKit
import OTA
import StoreTesting
import Testing

@testable import Store

@Suite struct ProvisioningTests {
    /// A profile that provisions devices, with key `k` and secret `s`.
    private func profile(
        _ kind: ProfileProvisioning.Kind,
        _ fixture: StoreFixture,
        name: String = "profile"
    ) async throws -> DeviceProfile {
        try await fixture.store.saveDeviceProfile(
            DeviceProfile(
                name: name,
                provisioning: ProfileProvisioning(kind: kind, deviceKey: "k", deviceSecret: "s")
            )
        )
    }

    private func request(
        _ name: String,
        key: String = "k",
        secret: String = "s",
        _ credentials: ProvisionRequest.Credentials? = nil
    ) -> ProvisionRequest {
        ProvisionRequest(deviceName: name, deviceKey: key, deviceSecret: secret, credentials: credentials)
    }

    @Test("a device with key and secret becomes one of the profile, once")
    func create() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await self.profile(.allowCreateNewDevices, fixture)
            guard case .provisioned(let device, let credentials) = try await store.provision(self.request("pump"))
            else {
                Issue.record("not provisioned")
                return
            }
            #expect(device.name == "pump" && device.type == "profile")
            #expect(credentials.kind == .accessToken && credentials.credentialsId.count == 20)
            #expect(try await store.device(accessToken: credentials.credentialsId) == device)
            let stored = try #require(try await store.findDeviceByName("pump", of: .main))
            #expect(stored.deviceProfileId == profile.id && stored.additionalInfo == nil)
            let state = try await store.attributes(of: stored.id, scope: .server, keys: nil)
            #expect(state.map(\.key) == ["provisionState"] && state.first?.value == "provisioned")

            guard case .refused(let reason, let known) = try await store.provision(self.request("pump")) else {
                Issue.record("provisioned again")
                return
            }
            #expect(reason == "a device with this name exists already" && known == device)
        }
    }

    @Test("a device without a name gets one of twenty letters and digits, and a gateway is marked as one")
    func randomName() async throws {
        try await StoreFixture.with { fixture in
            _ = try await self.profile(.allowCreateNewDevices, fixture)
            var request = self.request("")
            request.isGateway = true
            var names: Set<String> = []
            for _ in 0..<2 {
                guard case .provisioned(let device, _) = try await fixture.store.provision(request) else {
                    Issue.record("not provisioned")
                    return
                }
                names.insert(device.name)
                let stored = try await fixture.store.findDeviceByName(device.name, of: .main)
                #expect(stored?.additionalInfo == ["gateway": true])
            }
            #expect(names.count == 2)
            #expect(names.allSatisfy { $0.count == 20 && $0.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) } })
        }
    }

    @Test(
        "key and secret must both be right, and the profile must provision",
        arguments: [
            ("k", "s", ProfileProvisioning.Kind.disabled), ("k", "s", .x509CertificateChain),
            ("k", "x", .allowCreateNewDevices), ("k", "", .allowCreateNewDevices), ("x", "s", .allowCreateNewDevices),
            ("", "s", .checkPreProvisionedDevices), ("k", "S", .checkPreProvisionedDevices),
        ]
    )
    func notFound(key: String, secret: String, kind: ProfileProvisioning.Kind) async throws {
        try await StoreFixture.with { fixture in
            let profile = try await self.profile(kind, fixture)
            _ = try await fixture.device("pump", in: profile.id)
            for name in ["pump", "other"] {
                let result = try await fixture.store.provision(self.request(name, key: key, secret: secret))
                guard case .notFound = result else {
                    Issue.record("\(result)")
                    return
                }
            }
            #expect(try await fixture.store.findDeviceByName("other", of: .main) == nil)
        }
    }

    @Test("a device made before gets its credentials once, and no other device")
    func preProvisioned() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await self.profile(.checkPreProvisionedDevices, fixture)
            let elsewhere = try await fixture.profile("elsewhere")
            let device = try await fixture.device("pump", in: profile.id)
            _ = try await fixture.device("stranger", in: elsewhere.id)
            for name in ["stranger", "unknown", ""] {
                guard case .refused(_, nil) = try await store.provision(self.request(name)) else {
                    Issue.record("'\(name)' was not refused")
                    return
                }
            }
            let wanted = ProvisionRequest.Credentials.accessToken("mine")
            guard
                case .provisioned(let found, let credentials) = try await store.provision(self.request("pump", wanted))
            else {
                Issue.record("not provisioned")
                return
            }
            #expect(found.id == device.id.uuid)
            #expect(credentials.credentialsId == "token of pump", "those that the administrator gave it")
            guard case .refused(_, let known) = try await store.provision(self.request("pump")) else {
                Issue.record("provisioned again")
                return
            }
            #expect(known == found)
            try await store.deleteAttributes(of: device.id, scope: .server, keys: ["provisionState"])
            guard case .provisioned = try await store.provision(self.request("pump")) else {
                Issue.record("an administrator could not allow it again")
                return
            }
        }
    }

    @Test("a device may bring its own credentials")
    func ownCredentials() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            _ = try await self.profile(.allowCreateNewDevices, fixture)
            let wishes: [ProvisionRequest.Credentials] = [
                .accessToken("mine"), .mqttBasic(clientId: "c", userName: "u", password: "p"),
                .x509Certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
            ]
            for (number, wish) in wishes.enumerated() {
                guard
                    case .provisioned(let device, let credentials) =
                        try await store.provision(self.request("d\(number)", wish))
                else {
                    Issue.record("\(wish) was refused")
                    return
                }
                #expect(try await store.findCredentials(of: DeviceId(device.id)) == credentials)
            }
            #expect(try await store.device(accessToken: "mine")?.name == "d0")
            #expect(try await store.device(clientId: "c", userName: "u", password: "p")?.name == "d1")
            #expect(try await store.device(clientId: "c", userName: "u", password: "x") == nil)
        }
    }

    @Test("what breaks a rule is refused, and nothing of it remains")
    func brokenRules() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            _ = try await self.profile(.allowCreateNewDevices, fixture)
            _ = try await store.provision(self.request("first", .accessToken("mine")))
            let requests = [
                self.request("a", .accessToken("mine")), self.request("b", .accessToken("")), self.request(" "),
                self.request(String(repeating: "x", count: 256)),
                self.request("c", .accessToken(String(repeating: "x", count: 256))),
                self.request("d", .mqttBasic(clientId: nil, userName: nil, password: "p")),
            ]
            for request in requests {
                guard case .refused(_, nil) = try await store.provision(request) else {
                    Issue.record("'\(request.deviceName)' was not refused")
                    return
                }
                #expect(try await store.findDeviceByName(request.deviceName, of: .main) == nil)
            }
        }
    }

    @Test("of many requests for one name at once one succeeds")
    func sameName() async throws {
        try await StoreFixture.with { fixture in
            _ = try await self.profile(.allowCreateNewDevices, fixture)
            let request = self.request("pump")
            let count = try await withThrowingTaskGroup(of: Bool.self) { group in
                for _ in 0..<64 {
                    group.addTask {
                        guard case .provisioned = try await fixture.store.provision(request) else { return false }
                        return true
                    }
                }
                return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
            }
            #expect(count == 1)
            #expect(
                try await fixture.store.findDevices(of: .main, deviceProfileId: nil, page: PageLink(pageSize: 10))
                    .totalElements
                    == 1
            )
        }
    }

    @Test("a provisioned device is told of its profile's package like any other")
    func update() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await self.profile(.allowCreateNewDevices, fixture)
            let package = try await fixture.package(in: profile.id)
            try await fixture.assign(package.id, to: profile.id)
            guard case .provisioned(let device, _) = try await fixture.store.provision(self.request("pump")) else {
                Issue.record("not provisioned")
                return
            }
            #expect(try await fixture.history(of: DeviceId(device.id)) == ["QUEUED"])
        }
    }

    @Test("key and secret are made, kept, unique and bounded")
    func keys() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let kind = ProfileProvisioning.Kind.allowCreateNewDevices
            let made = try await store.saveDeviceProfile(
                DeviceProfile(name: "a", provisioning: ProfileProvisioning(kind: kind))
            )
            var profile = made
            profile.provisioning = ProfileProvisioning(kind: kind)
            let key = try #require(made.provisioning.deviceKey)
            let secret = try #require(made.provisioning.deviceSecret)
            #expect(key.count == 20 && secret.count == 20 && key != secret)
            #expect(try await store.saveDeviceProfile(profile) == made, "saved without them, they stay what they are")
            #expect(try await store.findDeviceProfileById(made.id) == made)

            var other = DeviceProfile(name: "b", provisioning: ProfileProvisioning(kind: kind, deviceKey: key))
            await expectRefusal("Device profile with such provision device key already exists!") {
                _ = try await store.saveDeviceProfile(other)
            }
            other.provisioning.deviceKey = String(repeating: "é", count: 255)
            other.provisioning.deviceSecret = String(repeating: "é", count: 255)
            other = try await store.saveDeviceProfile(other)
            other.provisioning.deviceKey = String(repeating: "é", count: 256)
            await expectRefusal("provisionDeviceKey length must be equal or less than 255") {
                _ = try await store.saveDeviceProfile(other)
            }
            other.provisioning.deviceKey = nil
            other.provisioning.deviceSecret = String(repeating: "é", count: 256)
            await expectRefusal("provisionDeviceSecret length must be equal or less than 255") {
                _ = try await store.saveDeviceProfile(other)
            }
            profile.provisioning = ProfileProvisioning()
            #expect(try await store.saveDeviceProfile(profile).provisioning == ProfileProvisioning())
        }
    }

    @Test("a database of the first version keeps how its profiles provision")
    func migration() async throws {
        try await StoreFixture.withFolder { folder in
            let queue = try DatabaseQueue(path: "\(folder)/windlass.sqlite")
            try Schema.migrator.migrate(queue, upTo: "1")
            let all: JSON = [
                "type": "DEFAULT", "provisionType": "ALLOW_CREATE_NEW_DEVICES", "provisionDeviceKey": "k",
                "profileData": [
                    "alarms": nil,
                    "provisionConfiguration": ["type": "ALLOW_CREATE_NEW_DEVICES", "provisionDeviceSecret": "s"],
                ],
            ]
            let settings: [JSON] = [
                all, all, [:], ["provisionType": 7, "provisionDeviceKey": 1, "profileData": "odd"],
                ["provisionType": "ODD", "provisionDeviceKey": ""],
            ]
            try await queue.write { db in
                for (number, settings) in settings.enumerated() {
                    let id = withUnsafeBytes(of: UUID.random().uuid) { Data($0) }
                    try db.execute(
                        sql: """
                            INSERT INTO device_profile (id, created_time, tenant_id, name, is_default, settings)
                            VALUES (?, ?, ?, ?, 0, ?)
                            """,
                        arguments: [
                            id, number, TenantId.main.uuid, "p\(number)", settings.description,
                        ]
                    )
                }
            }
            try queue.close()
            let store = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            func profile(_ name: String) async throws -> DeviceProfile {
                try #require(try await store.findDeviceProfileByName(name, of: .main))
            }
            let kind = ProfileProvisioning.Kind.allowCreateNewDevices
            let first = try await profile("p0")
            #expect(first.provisioning == ProfileProvisioning(kind: kind, deviceKey: "k", deviceSecret: "s"))
            #expect(
                first.settings == ["type": "DEFAULT", "profileData": ["alarms": nil, "provisionConfiguration": [:]]]
            )
            let second = try await profile("p1")
            #expect(second.provisioning == ProfileProvisioning(kind: kind, deviceKey: nil, deviceSecret: "s"))
            for name in ["p2", "p3", "p4"] { #expect(try await profile(name).provisioning == ProfileProvisioning()) }
            #expect(try await profile("p3").settings == ["profileData": "odd"])
            #expect(try await store.check() == [])
            await store.close()
        }
    }
}
