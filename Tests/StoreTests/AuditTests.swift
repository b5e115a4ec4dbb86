import NodeKit
import OTA
import StoreTesting
import Testing

@testable import Store

@Suite("The audit log and API keys")
struct AuditTests {
    private func entry(_ tenant: TenantId, at time: Int64, _ name: String = "d") -> AuditEntry {
        AuditEntry(
            createdTime: Timestamp(milliseconds: time),
            tenantId: tenant,
            userId: .random(),
            userName: "Me",
            entity: AuditEntity(type: "DEVICE", id: DeviceId.random().uuid, name: name),
            action: .updated,
            data: ["a": 1],
            failure: nil
        )
    }

    private func times(_ store: SQLiteStore, _ tenant: TenantId) async throws -> [Int64] {
        let link = PageLink(pageSize: 1000, ascending: true)
        return try await store.findAuditEntries(of: tenant, AuditQuery(), page: link).data.map(\.createdTime.rawValue)
    }

    @Test("an entry is kept as it was written, also one that nobody waits for")
    func roundTrip() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let first = self.entry(.main, at: 1)
            try await store.record(first)
            var second = self.entry(.main, at: 2)
            second.entity = nil
            second.userId = nil
            second.userName = nil
            second.failure = "no"
            store.recordLater(second)
            // Writes are carried out in order.
            try await store.record(self.entry(.system, at: 3))
            let page = try await store.findAuditEntries(of: .main, AuditQuery(), page: PageLink(pageSize: 9))
            #expect(page.data == [second, first])
            var query = AuditQuery()
            query.entityType = "DEVICE"
            query.entityId = first.entity?.id
            query.userId = first.userId
            query.actions = [.updated, .deleted]
            #expect(try await store.findAuditEntries(of: .main, query, page: PageLink(pageSize: 9)).data == [first])
            query.entityType = "USER"
            #expect(try await store.findAuditEntries(of: .main, query, page: PageLink(pageSize: 9)).data == [])
        }
    }

    @Test("entries that are too old go, in steps")
    func age() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let now = fixture.clock.now.rawValue
            var retention = Retention()
            retention.auditAge = .seconds(1000)
            for index in 0..<5 { try await store.record(self.entry(.main, at: now - 1_100_000 + Int64(index))) }
            try await store.record(self.entry(.main, at: now))
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 3)
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 2)
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 0)
            #expect(try await self.times(store, .main) == [now])
            retention.auditAge = nil
            try await store.record(self.entry(.main, at: 0))
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 0)
        }
    }

    @Test("of each tenant the newest entries are kept, as many as may be")
    func count() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            var retention = Retention()
            retention.auditAge = nil
            retention.auditCount = 2
            let other = TenantId.random()
            for time in 1...7 as ClosedRange<Int64> { try await store.record(self.entry(.main, at: time)) }
            for time in 1...2 as ClosedRange<Int64> { try await store.record(self.entry(other, at: time)) }
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 3)
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 2)
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 0)
            #expect(try await self.times(store, .main) == [6, 7])
            #expect(try await self.times(store, other) == [1, 2])
            try await store.record(self.entry(other, at: 3))
            #expect(try await store.removeAuditEntries(beyond: retention, countMax: 3) == 1)
            #expect(try await self.times(store, other) == [2, 3])
        }
    }

    @Test("a key is found by its digest, in memory after the first time, until anything of it changes")
    func keys() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let user = try await store.saveUser(User(name: "me", passwordHash: "h"))
            let digest = Array(repeating: UInt8(7), count: 32)
            let described = ApiKey(
                userId: user.id,
                description: "k",
                expirationTime: Timestamp(milliseconds: 9)
            )
            let key = try await store.createApiKey(described, digest: digest)
            #expect(key == described)
            #expect(store.knownHolder(digest: digest) == .unknown)
            #expect(try await store.holder(digest: digest) == ApiKeyHolder(key: key, user: user))
            #expect(store.knownHolder(digest: digest).found?.key == key)
            let changed = try await store.changeApiKey(key.id) { $0.isEnabled = false }
            #expect(store.knownHolder(digest: digest) == .unknown)
            #expect(try await store.holder(digest: digest)?.key == changed)
            let renamed = try await store.changeUser(user.id) { $0.firstName = "Mia" }
            #expect(store.knownHolder(digest: digest) == .unknown)
            #expect(try await store.holder(digest: digest)?.user == renamed)
            #expect(try await store.findApiKeyById(key.id) == changed)
            try await store.deleteApiKey(key.id)
            #expect(try await store.holder(digest: digest) == nil)
            await expectRefusal("API key with id [\(key.id)] is not found", code: .notFound) {
                try await store.deleteApiKey(key.id)
            }
        }
    }

    @Test("a user has so many keys and no more, and they go with the user")
    func keyLimit() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            _ = try await store.saveUser(User(name: "other", passwordHash: "h"))
            let user = try await store.saveUser(User(name: "me", passwordHash: "h"))
            func add(_ number: Int) async throws {
                var digest = Array(repeating: UInt8(0), count: 32)
                digest[0] = UInt8(number)
                _ = try await store.createApiKey(ApiKey(userId: user.id, description: "\(number)"), digest: digest)
            }
            for number in 0..<ApiKeyRules.countMax { try await add(number) }
            await expectRefusal(
                "The user has 100 API keys, and no more are allowed; delete one that is not used any more"
            ) { try await add(ApiKeyRules.countMax) }
            let link = PageLink(pageSize: 2, sortProperty: "description", ascending: true)
            #expect(try await store.findApiKeys(of: user.id, page: link).totalElements == 100)
            #expect(try await store.findApiKeys(of: user.id, page: link).data.map(\.description) == ["0", "1"])
            // Saving a user keeps the keys.
            _ = try await store.saveUser(user)
            #expect(try await store.findApiKeys(of: user.id, page: link).totalElements == 100)
            try await store.deleteUser(user.id)
            #expect(try await store.findApiKeys(of: user.id, page: link).totalElements == 0)
            #expect(try await store.holder(digest: Array(repeating: 0, count: 32)) == nil)
        }
    }

    @Test("of two changes of a user at the same time none is lost")
    func changes() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let user = try await store.saveUser(User(name: "me", passwordHash: "h"))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<20 {
                    group.addTask { _ = try await store.changeUser(user.id) { $0.tokenVersion += 1 } }
                }
                try await group.waitForAll()
            }
            #expect(try await store.findUserById(user.id)?.tokenVersion == 20)
            await expectRefusal("User email should be specified!") {
                _ = try await store.changeUser(user.id) { $0.name = "" }
            }
        }
    }
}
