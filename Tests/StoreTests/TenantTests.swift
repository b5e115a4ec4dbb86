import FoundationEssentials
import GRDB
import NodeKit
import OTA
import StoreTesting
import Testing

@testable import Store

@Suite("Tenants and users")
struct TenantTests {
    @Test("a tenant has a default profile, and is found, changed and listed")
    func tenants() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let first = try #require(try await store.findTenantById(.main))
            #expect(first.title == "Tenant")
            var tenant = try await store.saveTenant(Tenant(title: "B", details: ["country": "FI"]))
            #expect(try await store.findTenantById(tenant.id) == tenant)
            #expect(try await store.defaultDeviceProfile(of: tenant.id).name == "default")
            tenant.title = "C"
            _ = try await store.saveTenant(tenant)
            #expect(try await store.findTenantById(tenant.id)?.title == "C")
            let page = try await store.findTenants(page: PageLink(pageSize: 9, sortProperty: "title", ascending: true))
            #expect(page.data.map(\.title) == ["C", "Tenant"])
            await expectRefusal("Tenant title should be specified!") {
                _ = try await store.saveTenant(Tenant(title: " "))
            }
            await expectRefusal("title length must be equal or less than 255") {
                _ = try await store.saveTenant(Tenant(title: String(repeating: "t", count: 256)))
            }
            _ = try await store.saveTenant(Tenant(title: String(repeating: "t", count: 255)))
        }
    }

    @Test("lists, names and defaults are those of a tenant")
    func ownership() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let other = try await store.saveTenant(Tenant(title: "B")).id
            let link = PageLink(pageSize: 9)
            for tenant in [TenantId.main, other] {
                let profile = try await store.saveDeviceProfile(DeviceProfile(tenantId: tenant, name: "p"))
                let device = Device(tenantId: tenant, name: "d", deviceProfileId: profile.id)
                let saved = try await store.saveDevice(device, accessToken: nil)
                let package = try await store.saveOtaPackage(
                    OtaPackage(
                        tenantId: tenant,
                        deviceProfileId: profile.id,
                        type: .firmware,
                        title: "t",
                        version: "1"
                    )
                )
                #expect(try await store.findDeviceByName("d", of: tenant) == saved)
                #expect(try await store.findDeviceProfileByName("p", of: tenant) == profile)
                #expect(try await store.findDevices(of: tenant, deviceProfileId: nil, page: link).data == [saved])
                let packages = try await store.findOtaPackages(
                    of: tenant,
                    deviceProfileId: nil,
                    type: nil,
                    hasData: nil,
                    page: link
                )
                #expect(packages.data == [package])
                #expect(try await store.findDeviceProfiles(of: tenant, page: link).totalElements == 2)
                _ = try await store.setDefaultDeviceProfile(profile.id)
                #expect(try await store.defaultDeviceProfile(of: tenant) == store.findDeviceProfileById(profile.id))
            }
        }
    }

    @Test("nothing of one tenant refers to another")
    func references() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let other = try await store.saveTenant(Tenant(title: "B")).id
            let profile = try await store.defaultDeviceProfile(of: other).id
            await expectRefusal("Device is referencing to non-existent device profile!") {
                _ = try await store.saveDevice(Device(name: "d", deviceProfileId: profile), accessToken: nil)
            }
            await expectRefusal("OtaPackage is referencing to non-existent device profile!") {
                _ = try await store.saveOtaPackage(
                    OtaPackage(deviceProfileId: profile, type: .firmware, title: "t", version: "1")
                )
            }
            // Who owns a thing does not change by saving it, nor do the rules that hold for it.
            let own = try await store.defaultDeviceProfile(of: .main).id
            var device = try await store.saveDevice(Device(name: "d", deviceProfileId: own), accessToken: nil)
            device.tenantId = other
            device.deviceProfileId = profile
            await expectRefusal("Device is referencing to non-existent device profile!") {
                _ = try await store.saveDevice(device, accessToken: nil)
            }
            device.deviceProfileId = own
            #expect(try await store.saveDevice(device, accessToken: nil).tenantId == .main)
        }
    }

    @Test("devices are provisioned into the tenant of the profile")
    func provisioning() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let other = try await store.saveTenant(Tenant(title: "B")).id
            let provisioning = ProfileProvisioning(
                kind: .allowCreateNewDevices,
                deviceKey: "k",
                deviceSecret: "s"
            )
            _ = try await store.saveDeviceProfile(
                DeviceProfile(tenantId: other, name: "p", provisioning: provisioning)
            )
            let own = try await store.defaultDeviceProfile(of: .main).id
            _ = try await store.saveDevice(Device(name: "pump", deviceProfileId: own), accessToken: nil)
            let request = ProvisionRequest(deviceName: "pump", deviceKey: "k", deviceSecret: "s")
            guard case .provisioned(let device, _) = try await store.provision(request) else {
                Issue.record("the name is taken in another tenant only")
                return
            }
            #expect(try await store.findDeviceById(DeviceId(device.id))?.tenantId == other)
        }
    }

    @Test("a deleted tenant is gone with all that it owned, and nobody else's")
    func deletion() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let other = try await store.saveTenant(Tenant(title: "B")).id
            let user = try await store.saveUser(User(tenantId: other, name: "b", passwordHash: "h"))
            let profile = try await store.saveDeviceProfile(DeviceProfile(tenantId: other, name: "p"))
            var package = OtaPackage(
                tenantId: other,
                deviceProfileId: profile.id,
                type: .firmware,
                title: "t",
                version: "1"
            )
            package = try await store.saveOtaPackage(package)
            try await fixture.upload(Array("bytes".utf8), to: package.id)
            // More than go in one step.
            for number in 0...SQLiteStore.deletedDevicesMax {
                var device = Device(tenantId: other, name: "d\(number)", deviceProfileId: profile.id)
                device.firmwareId = package.id
                _ = try await store.saveDevice(device, accessToken: "b\(number)")
            }
            let connected = try #require(try await store.device(accessToken: "b7"))
            let told = fixture.notifications(of: DeviceId(connected.id))
            let own = try await fixture.profile()
            let kept = try await fixture.device(in: own.id)
            try await store.deleteTenant(other)
            #expect(try await store.findTenantById(other) == nil)
            #expect(try await store.findUserById(user.id) == nil)
            #expect(try await store.device(accessToken: "b7") == nil)
            #expect(told.all == [.credentialsRevoked])
            #expect(try await store.findDeviceProfileById(profile.id) == nil)
            #expect(try await store.findOtaPackageById(package.id) == nil)
            #expect(try fixture.packageFiles() == [])
            #expect(try await store.findDeviceById(kept.id) == kept)
            await expectRefusal("Tenant with id [\(other)] is not found", code: .notFound) {
                try await store.deleteTenant(other)
            }
            await expectRefusal("The first tenant cannot be deleted; delete what it owns instead") {
                try await store.deleteTenant(.main)
            }
        }
    }

    @Test("users belong to a tenant or to the host, and are listed and deleted")
    func users() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let other = try await store.saveTenant(Tenant(title: "B")).id
            var user = User(
                tenantId: other,
                name: "b",
                passwordHash: "",
                authority: .customerUser,
                firstName: "Bea",
                lastName: "B.",
                phone: "1",
                additionalInfo: ["a": 1],
                isEnabled: false,
                tokenVersion: 7
            )
            user = try await store.saveUser(user)
            #expect(try await store.findUserById(user.id) == user)
            user.isEnabled = true
            _ = try await store.saveUser(user)
            #expect(try await store.findUser(name: "B") == user)
            let system = try await store.saveUser(
                User(tenantId: .system, name: "root", passwordHash: "h", authority: .sysAdmin)
            )
            let admin = try await store.saveUser(User(tenantId: other, name: "admin", passwordHash: "h"))
            let link = PageLink(pageSize: 9, sortProperty: "email", ascending: true)
            #expect(try await store.findUsers(of: other, authority: nil, page: link).data == [admin, user])
            #expect(try await store.findUsers(of: other, authority: .tenantAdmin, page: link).data == [admin])
            #expect(try await store.findUsers(of: .system, authority: nil, page: link).data == [system])
            #expect(try await store.findUsers(of: .main, authority: nil, page: link).data == [])
            try await store.deleteUser(user.id)
            #expect(try await store.findUserById(user.id) == nil)
            await expectRefusal("User with id [\(user.id)] is not found", code: .notFound) {
                try await store.deleteUser(user.id)
            }
        }
    }

    @Test("ended logins are remembered until their tokens have expired, so many and no more")
    func endedLogins() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let now = fixture.clock.now.rawValue
            func end(_ id: String, in milliseconds: Int64) async throws {
                try await store.endLogin(id, until: Timestamp(milliseconds: now + milliseconds))
            }
            try await end("past", in: 0)
            try await end("soon", in: 500_000_000)
            #expect(try await store.endedLogins() == ["soon": Timestamp(milliseconds: now + 500_000_000)])
            for number in 0..<UserRules.endedLoginsMax - 1 { try await end("\(number)", in: 900_000_000) }
            #expect(try await store.endedLogins().count == UserRules.endedLoginsMax)
            try await end("one more", in: 900_000_000)
            let ended = try await store.endedLogins()
            #expect(ended.count == UserRules.endedLoginsMax)
            #expect(ended["soon"] == nil)
            #expect(ended["one more"] != nil)
        }
    }

    @Test(
        "a user of the wrong tenant is refused",
        arguments: [
            (
                Authority.sysAdmin, TenantId.main,
                "System administrator can't be assigned neither to tenant nor to customer!"
            ),
            (.tenantAdmin, .system, "Tenant administrator should be assigned to tenant!"),
            (.customerUser, .system, "Customer user should be assigned to tenant!"),
            (.tenantAdmin, .random(), "User is referencing to non-existent tenant!"),
        ]
    )
    func wrongTenant(authority: Authority, tenant: TenantId, sentence: String) async throws {
        try await StoreFixture.with { fixture in
            await expectRefusal(sentence) {
                _ = try await fixture.store.saveUser(
                    User(tenantId: tenant, name: "x", passwordHash: "h", authority: authority)
                )
            }
        }
    }

    @Test("what was there before tenants belongs to the first one")
    func migration() async throws {
        try await StoreFixture.withFolder { folder in
            let queue = try DatabaseQueue(path: "\(folder)/windlass.sqlite")
            try Schema.migrator.migrate(queue, upTo: "2")
            let user = UserId.random()
            try await queue.write { db in
                try db.execute(
                    sql: """
                        INSERT INTO user (id, created_time, name, folded_name, password_hash, authority)
                        VALUES (?, 5, 'Me', 'me', 'h', 'TENANT_ADMIN')
                        """,
                    arguments: [user.uuid]
                )
                try db.execute(
                    sql: """
                        INSERT INTO device_profile (id, created_time, tenant_id, name, is_default, settings)
                        VALUES (?, 4, ?, 'old', 1, '{}')
                        """,
                    arguments: [DeviceProfileId.random().uuid, TenantId.main.uuid]
                )
            }
            try queue.close()
            let store = try await SQLiteStore.open(directory: folder, sessions: DeviceSessions())
            let saved = try #require(try await store.findUser(name: "ME"))
            #expect(saved.id == user)
            var expected = User(id: user, createdTime: Timestamp(milliseconds: 5), name: "Me", passwordHash: "h")
            expected.isSaved = true
            #expect(saved == expected)
            #expect(try await store.findTenantById(.main)?.createdTime == Timestamp(milliseconds: 4))
            #expect(try await store.defaultDeviceProfile(of: .main).name == "old")
            #expect(try await store.check() == [])
            await store.close()
        }
    }
}
