import Foundation
import GRDB
import NodeKit
import OTA
import Testing

@testable import Store

/// What is created never takes the place of something, and who presents the same text is the same.
@Suite struct IdentityTests {
    private static let equivalents = [
        ("caf\u{E9}", "cafe\u{301}"), ("TOKEN", "TO\u{212A}EN"), ("a\u{315}\u{300}", "a\u{300}\u{315}"),
        ("a token that is long: caf\u{E9}", "a token that is long: cafe\u{301}"),
    ]

    private func expectConflict(
        _ body: () async throws -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async {
        let error = await #expect(throws: NodeError.self, sourceLocation: sourceLocation) { try await body() }
        #expect(error?.code == .conflict, "\(String(describing: error))", sourceLocation: sourceLocation)
    }

    @Test("a new entity with the identifier of another is a conflict and changes nothing", .bug(id: "D1.1"))
    func creation() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile("p")
            let device = try await fixture.device("d", in: profile.id)
            let package = try await fixture.package("t", "1", in: profile.id)
            let tenant = try await store.saveTenant(Tenant(title: "B"))
            let user = try await store.saveUser(User(name: "u", passwordHash: "h"))
            let key = try await store.createApiKey(
                ApiKey(userId: user.id, description: "k"),
                digest: Array(repeating: 1, count: 32)
            )
            #expect(device.isSaved && profile.isSaved && package.isSaved && tenant.isSaved && user.isSaved)

            await self.expectConflict {
                _ = try await store.saveDevice(
                    Device(id: device.id, name: "other", deviceProfileId: profile.id),
                    accessToken: "other"
                )
            }
            await self.expectConflict {
                _ = try await store.saveDeviceProfile(DeviceProfile(id: profile.id, name: "other"))
            }
            await self.expectConflict {
                _ = try await store.saveOtaPackage(
                    OtaPackage(id: package.id, deviceProfileId: profile.id, type: .firmware, title: "o", version: "1")
                )
            }
            await self.expectConflict { _ = try await store.saveTenant(Tenant(id: tenant.id, title: "other")) }
            await self.expectConflict {
                _ = try await store.saveUser(User(id: user.id, name: "other", passwordHash: "other"))
            }
            await self.expectConflict {
                _ = try await store.createApiKey(
                    ApiKey(id: key.id, userId: user.id, description: "other"),
                    digest: Array(repeating: 2, count: 32)
                )
            }
            let call = PersistentCall(
                device: Originator(id: device.id.uuid, name: "d", type: "p"),
                createdTime: .now,
                expirationTime: .now,
                method: "m",
                params: [:],
                isOneWay: true,
                timeout: .seconds(1),
                retriesLeft: 0
            )
            try await store.addCall(call)
            await self.expectConflict { try await store.addCall(call) }

            #expect(try await store.findDeviceById(device.id) == device)
            #expect(try await store.findDeviceProfileById(profile.id) == profile)
            #expect(try await store.findOtaPackageById(package.id) == package)
            #expect(try await store.findTenantById(tenant.id) == tenant)
            #expect(try await store.findUserById(user.id) == user)
            #expect(try await store.findApiKeyById(key.id) == key)
            #expect(try await store.device(accessToken: "other") == nil)
            #expect(try await store.device(accessToken: "token of d")?.id == device.id.uuid)
        }
    }

    @Test("an entity that was read is changed, and one that has gone is not made anew", .bug(id: "D1.1"))
    func changes() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile("p")
            var device = try #require(try await store.findDeviceById(fixture.device("d", in: profile.id).id))
            device.name = "e"
            device = try await store.saveDevice(device, accessToken: nil)
            #expect(try await store.findDeviceById(device.id)?.name == "e")
            var tenant = try await store.saveTenant(Tenant(title: "B"))
            tenant.title = "C"
            #expect(try await store.saveTenant(tenant).title == "C")
            var user = try await store.saveUser(User(tenantId: tenant.id, name: "u", passwordHash: "h"))
            user.name = "v"
            user = try await store.saveUser(user)
            #expect(try await store.findUser(name: "v") == user)

            try await store.deleteDevice(device.id)
            try await store.deleteTenant(tenant.id)
            let package = try await fixture.package("t", "1", in: profile.id)
            try await store.deleteOtaPackage(package.id)
            try await store.deleteDeviceProfile(profile.id)
            for save in [
                { _ = try await store.saveDevice(device, accessToken: nil) },
                { _ = try await store.saveTenant(tenant) }, { _ = try await store.saveOtaPackage(package) },
                { _ = try await store.saveDeviceProfile(profile) },
            ] as [() async throws -> Void] {
                let error = await #expect(throws: NodeError.self) { try await save() }
                #expect(error?.code == .notFound)
            }
            await #expect(throws: NodeError.self) { _ = try await store.saveUser(user) }
            #expect(try await store.findDeviceById(device.id) == nil)
        }
    }

    @Test("devices that are made where no file can be opened are devices of their own", .bug(id: "D1.1"))
    func withoutDescriptors() async throws {
        try await StoreFixture.withFolder { folder in
            await #expect(processExitsWith: .success) { [folder = folder as String] in
                var unlimited = rlimit()
                try #require(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &unlimited) == 0)
                var limit = rlimit(rlim_cur: 0, rlim_max: unlimited.rlim_max)
                // Nothing waits until the limit is lifted: the threads that tasks run on open files themselves.
                try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
                try #require(open("/dev/null", O_RDONLY) == -1 && errno == EMFILE)
                let profiles = (0..<20).map { DeviceProfile(name: "p\($0)") }
                let devices = profiles.map { Device(name: $0.name, deviceProfileId: $0.id) }
                let tokens = devices.map { _ in CredentialsRules.randomText() }
                try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &unlimited) == 0)
                let store = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
                for profile in profiles { _ = try await store.saveDeviceProfile(profile) }
                for (device, token) in zip(devices, tokens) {
                    _ = try await store.saveDevice(device, accessToken: token)
                }
                for (device, token) in zip(devices, tokens) {
                    let found = try await store.device(accessToken: token)
                    #expect(found?.id == device.id.uuid && found?.name == device.name)
                }
                await store.close()
            }
        }
    }

    @Test("a device that would be provisioned under the identifier of another changes nothing", .bug(id: "D1.1"))
    func provisioning() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let device = try await fixture.device("d", in: profile.id)
            let other = Device(id: device.id, name: "other", deviceProfileId: profile.id)
            let credentials = DeviceCredentials(deviceId: other.id, credentialsId: "other")
            // What provisioning does with the device that it makes.
            await self.expectConflict {
                _ = try await store.write { db, effects in
                    try SQLiteStore.save(
                        other,
                        credentials: credentials,
                        priority: 0,
                        at: .now,
                        store.times,
                        db,
                        &effects
                    )
                }
            }
            #expect(try await store.device(accessToken: "other") == nil)
            #expect(try await store.device(accessToken: "token of d")?.name == "d")
        }
    }

    @Test("tokens that only look the same are of two devices of two tenants", .bug(id: "D1.2"), arguments: equivalents)
    func tokens(a: String, b: String) async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let other = try await store.saveTenant(Tenant(title: "B")).id
            var ids: [UUID] = []
            for (token, tenant) in [(a, TenantId.main), (b, other)] {
                let profile = try await store.defaultDeviceProfile(of: tenant)
                let device = Device(tenantId: tenant, name: "d", deviceProfileId: profile.id)
                ids.append(try await store.saveDevice(device, accessToken: token).id.uuid)
            }
            for _ in 0..<2 {
                #expect(try await store.device(accessToken: a)?.id == ids[0])
                #expect(try await store.device(accessToken: b)?.id == ids[1])
            }
            #expect(store.known(accessToken: a).found?.device.id == ids[0])
            #expect(store.known(accessToken: b).found?.device.id == ids[1])
            #expect(try await store.device(clientId: "", userName: b, password: nil)?.id == ids[1])
            // One that is revoked is forgotten, and the other is not.
            try await store.deleteDevice(DeviceId(ids[0]))
            #expect(try await store.device(accessToken: a) == nil)
            #expect(try await store.device(accessToken: b)?.id == ids[1])
        }
    }

    @Test("credentials that change to what only looks the same are changed", .bug(id: "D1.2"), arguments: equivalents)
    func credentials(a: String, b: String) async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let device = try await store.saveDevice(
                Device(name: "d", deviceProfileId: fixture.profile().id),
                accessToken: a
            )
            #expect(try await store.device(accessToken: a) != nil)
            let notifications = fixture.notifications(of: device.id)
            _ = try await store.saveCredentials(DeviceCredentials(deviceId: device.id, credentialsId: b))
            #expect(try await store.device(accessToken: a) == nil)
            #expect(try await store.device(accessToken: b)?.id == device.id.uuid)
            #expect(notifications.all == [.credentialsRevoked])
            let basic: JSON = ["clientId": .string(a), "userName": .string(a), "password": .string(a)]
            _ = try await store.saveCredentials(
                DeviceCredentials(
                    deviceId: device.id,
                    kind: .mqttBasic,
                    credentialsId: "",
                    credentialsValue: basic.description
                )
            )
            for (client, user, password) in [(b, a, a), (a, b, a), (a, a, b), (b, b, b)] {
                #expect(try await store.device(clientId: client, userName: user, password: password) == nil)
            }
            #expect(try await store.device(clientId: a, userName: a, password: a)?.id == device.id.uuid)
        }
    }

    @Test("a name that changes to one that only looks the same is the new one at once", .bug(id: "D1.2"))
    func names() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            var profile = try await fixture.profile("caf\u{E9}")
            var device = try await fixture.device("d\u{E9}", in: profile.id)
            let token = "token of d\u{E9}"
            #expect(try await store.device(accessToken: token)?.name == "d\u{E9}")
            device.name = "de\u{301}"
            _ = try await store.saveDevice(device, accessToken: nil)
            profile.name = "cafe\u{301}"
            _ = try await store.saveDeviceProfile(profile)
            let known = try #require(try await store.device(accessToken: token))
            #expect(known.$name == "de\u{301}" && known.$type == "cafe\u{301}")
            // Both names may be taken, as they are two.
            _ = try await fixture.profile("caf\u{E9}")
            _ = try await store.saveDevice(Device(name: "d\u{E9}", deviceProfileId: profile.id), accessToken: nil)
            #expect(try await store.findDeviceByName("d\u{E9}", of: .main)?.id != device.id)
        }
    }

    @Test("values under names that only look the same are two", .bug(id: "D1.2"))
    func values() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: fixture.profile().id).id
            for (a, b) in Self.equivalents {
                let values: JSON.Object = [a: 1, b: 2]
                try await store.saveAttributes(of: device, scope: .client, values, at: .now)
                try await store.saveTimeseries(of: device, [TelemetryPoint(timestamp: nil, values: values)], at: .now)
                let attributes = try await store.attributes(of: device, scope: .client, keys: [b])
                #expect(attributes.map(\.$key) == [b.exact] && attributes.first?.value == 2)
                let newest = try await store.latestTimeseries(of: device, keys: [a, b, a])
                #expect(Set(newest.map(\.$key)) == [a.exact, b.exact])
                #expect(newest.first { $0.$key == b.exact }?.value == 2)
                #expect(try await store.deleteAttributes(of: device, scope: .client, keys: [a]) == [a])
                #expect(try await store.attributes(of: device, scope: .client, keys: nil).map(\.$key).contains(b.exact))
            }
        }
    }

    @Test("a text with U+0000 is neither stored nor looked for as another one", .bug(id: "D1.3"))
    func nullCharacter() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile("p")
            let device = try await fixture.device("d", in: profile.id)
            let attempts: [() async throws -> Void] = [
                { _ = try await store.device(accessToken: "token of d\u{0}") },
                { _ = try await store.device(clientId: "c", userName: "token of d\u{0}x", password: nil) },
                { _ = try await store.findDeviceByName("d\u{0}", of: .main) },
                { _ = try await fixture.device("e\u{0}", in: profile.id) },
                {
                    let value = #"{"clientId":"a\u0000b","userName":"u","password":"p"}"#
                    let basic = DeviceCredentials(
                        deviceId: device.id,
                        kind: .mqttBasic,
                        credentialsId: "",
                        credentialsValue: value
                    )
                    do {
                        _ = try await store.saveCredentials(basic)
                    } catch let error as NodeError {
                        #expect(error.message.contains("'credentialsValue'"))
                        throw error
                    }
                },
                {
                    try await store.saveAttributes(of: device.id, scope: .shared, ["a": "x\u{0}y"], at: .now)
                },
                {
                    try await store.saveAttributes(of: device.id, scope: .shared, ["a\u{0}": 1], at: .now)
                },
                {
                    let point = TelemetryPoint(timestamp: nil, values: ["a": "x\u{0}y"])
                    try await store.saveTimeseries(of: device.id, [point], at: .now)
                },
                { _ = try await store.saveUser(User(name: "u\u{0}", passwordHash: "h")) },
                {
                    let page = PageLink(pageSize: 1, textSearch: "d\u{0}")
                    _ = try await store.findDevices(of: .main, deviceProfileId: nil, page: page)
                },
                {
                    let filter = EntityFilter.named(NamePattern("d\u{0}"))
                    _ = try await store.countEntities(EntityQuery(tenantId: .main, filter: filter))
                },
            ]
            for attempt in attempts {
                let error = await #expect(throws: NodeError.self) { try await attempt() }
                #expect(error?.isNullCharacter == true && error?.code == .badRequest, "\(String(describing: error))")
            }
            #expect(try await store.attributes(of: device.id, scope: .shared, keys: nil) == [])
            #expect(try await store.latestTimeseries(of: device.id, keys: nil) == [])
            #expect(try await store.device(accessToken: "token of d")?.id == device.id.uuid)
            // Within a value that is JSON it is an escape, as it was stored before it was refused.
            try await store.saveAttributes(of: device.id, scope: .shared, ["a": ["x\u{0}"]], at: .now)
            #expect(try await store.attributes(of: device.id, scope: .shared, keys: nil).first?.value == ["x\u{0}"])
        }
    }
}
