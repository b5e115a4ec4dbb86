import NodeKit
import NodeTesting
import OTA
import Testing

@testable import Management

@Suite struct PasswordTests {
    @Test func aHashFitsItsPasswordOnlyAndKeepsItsParameters() throws {
        let cost = PasswordHash.Cost(log2Rounds: 3, blockSize: 2, parallelism: 1)
        let text = try PasswordHash(of: "secret", cost: cost).description
        #expect(text.hasPrefix("$scrypt$ln=3,r=2,p=1$"))
        #expect(!text.contains("secret"))
        let hash = try #require(PasswordHash(text))
        #expect(hash.cost == cost)
        #expect(try hash.matches("secret"))
        #expect(try !hash.matches("Secret"))
        #expect(try !hash.matches(""))
        #expect(try PasswordHash(of: "secret", cost: cost).description != text, "every hash has its own salt")
    }

    @Test func aHashIsThatOfRFC7914() throws {
        // RFC 7914 §12, second vector: scrypt("password", "NaCl", N=1024, r=8, p=16, 64 bytes).
        let hash = try #require(
            PasswordHash(
                "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWI"
                    + "urzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
            )
        )
        #expect(hash.hash.count == 64)
        #expect(hash.hash.starts(with: [0xfd, 0xba, 0xbe, 0x1c, 0x9d, 0x34, 0x72, 0x00]))
        #expect(try hash.matches("password"))
    }

    @Test func theDefaultCostFitsIntoMemory() throws {
        let hash = try PasswordHash(of: "secret")
        #expect(hash.description.hasPrefix("$scrypt$ln=14,r=8,p=5$"))
        #expect(try hash.matches("secret"))
    }

    @Test(
        "What is no hash is refused",
        arguments: [
            "", "secret", "$scrypt$ln=3,r=2$c2FsdA$aGFzaA", "$scrypt$ln=60,r=8,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
            "$scrypt$ln=3,r=2,p=1$c2FsdA$aGFzaA", "$scrypt$ln=3,r=2,p=1$!$c2FsdHNhbHRzYWx0c2FsdA",
            "$bcrypt$ln=3,r=2,p=1$c2FsdA$c2FsdHNhbHRzYWx0c2FsdA",
        ]
    )
    func noHash(text: String) { #expect(PasswordHash(text) == nil) }

    // MARK: Slowing down

    @Test func failuresAreFreeUpToTheLimitAndThenWaitLongerEachTime() {
        var limiter = LoginLimiter()
        var now = Timestamp(milliseconds: 0)
        for _ in 1...5 {
            #expect(limiter.begin("a", at: now) == .go)
            limiter.end("a", succeeded: false, at: now)
        }
        for wait in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] as [Int64] {
            #expect(limiter.begin("a", at: now) == .wait(milliseconds: wait))
            #expect(limiter.begin("b", at: now) == .go, "another name or address does not wait")
            limiter.end("b", succeeded: true, at: now)
            now.rawValue += wait - 1
            #expect(limiter.begin("a", at: now) == .wait(milliseconds: 1))
            now.rawValue += 1
            #expect(limiter.begin("a", at: now) == .go)
            limiter.end("a", succeeded: false, at: now)
        }
    }

    @Test("nobody waits longer when the clock was a year ahead", .bug(id: "D2.5"))
    func clockAhead() {
        var limiter = LoginLimiter()
        let now = Timestamp(milliseconds: 1_700_000_000_000)
        let ahead = now.adding(.seconds(365 * 86_400))
        for _ in 0..<5 { limiter.end("a", succeeded: false, at: limiter.begun("a", at: ahead)) }
        guard case .wait = limiter.begin("a", at: ahead) else {
            Issue.record("it does not wait")
            return
        }
        #expect(limiter.begin("a", at: now) == .go)
        // What was tried does count.
        limiter.end("a", succeeded: false, at: now)
        #expect(limiter.begin("a", at: now) != .go)
    }

    @Test func aSuccessOrTimeForgetsFailures() {
        var limiter = LoginLimiter()
        var now = Timestamp(milliseconds: 0)
        for _ in 1...4 {
            _ = limiter.begin("a", at: now)
            limiter.end("a", succeeded: false, at: now)
        }
        _ = limiter.begin("a", at: now)
        limiter.end("a", succeeded: true, at: now)
        #expect(limiter.count == 0)
        for _ in 1...4 {
            _ = limiter.begin("a", at: now)
            limiter.end("a", succeeded: false, at: now)
        }
        now.rawValue += 900_001
        _ = limiter.begin("a", at: now)
        limiter.end("a", succeeded: false, at: now)
        #expect(limiter.begin("a", at: now) == .go)
    }

    @Test func whatIsRememberedIsBounded() {
        var limiter = LoginLimiter()
        for index in 0..<1025 {
            let now = Timestamp(milliseconds: Int64(index))
            _ = limiter.begin("\(index)", at: now)
            limiter.end("\(index)", succeeded: false, at: now)
        }
        #expect(limiter.count == 1024)
    }

    @Test func noMoreLoginsWaitThanTheLimit() {
        var limiter = LoginLimiter()
        let now = Timestamp(milliseconds: 0)
        for index in 0..<32 { #expect(limiter.begin("\(index)", at: now) == .go) }
        #expect(limiter.begin("x", at: now) == .busy)
        limiter.end("0", succeeded: false, at: now)
        #expect(limiter.begin("x", at: now) == .go)
    }

    // MARK: The first administrator

    private func bootstrap(
        _ users: any UserService,
        _ name: String? = nil,
        _ password: String? = nil
    ) async throws -> GeneratedPassword? {
        try await bootstrapAdministrator(users: users, name: name, password: password, cost: TestServer.cost)
    }

    private func matches(_ users: any UserService, _ name: String, _ password: String) async throws -> Bool {
        let user = try #require(try await users.findUser(name: name))
        return try #require(PasswordHash(user.passwordHash)).matches(password)
    }

    @Test func theFirstAdministratorGetsAPasswordThatIsShownOnce() async throws {
        let users = try TestDomain().store
        let generated = try #require(try await self.bootstrap(users))
        #expect(generated.name == "admin@windlass.local")
        #expect(generated.password.count == 20)
        #expect(try await self.matches(users, generated.name, generated.password))
        #expect(try await users.findUser(name: generated.name)?.authority == .tenantAdmin)
        #expect(try await self.bootstrap(users) == nil, "only the first time")
        #expect(try await users.countUsers() == 1)
    }

    @Test func givenNameAndPasswordAreTaken() async throws {
        let users = try TestDomain().store
        #expect(try await self.bootstrap(users, "me", "secret") == nil)
        #expect(try await self.matches(users, "me", "secret"))
    }

    @Test func aGivenPasswordReplacesAnotherOneOnly() async throws {
        let users = try TestDomain().store
        _ = try await self.bootstrap(users, "me", "secret")
        let before = try #require(try await users.findUser(name: "me"))
        _ = try await self.bootstrap(users, "ME", "secret")
        #expect(try await users.findUser(name: "me") == before, "the same password changes nothing")
        _ = try await self.bootstrap(users, "me", "other")
        #expect(try await self.matches(users, "me", "other"))
        #expect(try await users.findUser(name: "me")?.id == before.id)
        _ = try await self.bootstrap(users, "second", "secret")
        #expect(try await users.countUsers() == 2)
    }

    @Test func theSystemAdministratorIsMadeOnlyOfAGivenPassword() async throws {
        let users = try TestDomain().store
        func start(_ system: GivenLogin) async throws {
            let started = try BootstrappedUsers(users, name: "me", password: "a", system: system, cost: TestServer.cost)
            #expect(try await started.bootstrap() == nil)
        }
        try await start(GivenLogin())
        #expect(try await users.countUsers() == 1)
        try await start(GivenLogin(password: "secret"))
        let made = try #require(try await users.findUser(name: "sysadmin@windlass.local"))
        #expect(made.authority == .sysAdmin)
        #expect(made.tenantId == .system)
        #expect(try await self.matches(users, made.name, "secret"))
        try await start(GivenLogin(name: "Root", password: "secret"))
        #expect(try await users.findUser(name: "root")?.authority == .sysAdmin)
    }

    @Test func aGivenPasswordLetsADisabledAdministratorInAgain() async throws {
        let users = try TestDomain().store
        _ = try await self.bootstrap(users, "me", "secret")
        let id = try #require(try await users.findUser(name: "me")).id
        _ = try await users.changeUser(id) { $0.isEnabled = false }
        _ = try await self.bootstrap(users, "me", "secret")
        #expect(try await users.findUser(name: "me")?.isEnabled == true)
    }

    @Test(
        "A login for a system administrator that cannot be is refused",
        arguments: [
            GivenLogin(name: "root"), GivenLogin(name: "", password: "x"), GivenLogin(name: "ME", password: "x"),
            GivenLogin(password: ""),
        ]
    )
    func systemRefused(system: GivenLogin) throws {
        let error = #expect(throws: NodeError.self) {
            _ = try BootstrappedUsers(TestDomain().store, name: "me", password: "a", system: system)
        }
        #expect(error?.code == .badRequest)
    }

    @Test func nobodyBecomesAnAdministratorByHisName() async throws {
        let users = try TestDomain().store
        let reader = try await users.saveUser(User(name: "me", passwordHash: "", authority: .customerUser))
        let error = await #expect(throws: NodeError.self) { _ = try await self.bootstrap(users, "me", "secret") }
        #expect(error?.code == .badRequest)
        #expect(try await users.findUser(name: "me") == reader)
    }

    @Test func nobodyIsFoundBeforeTheGivenPasswordIsTaken() async throws {
        let stored = try TestDomain().store
        _ = try await self.bootstrap(stored, "me", "old")
        // Enough work that those who ask at once come before it is done.
        let cost = PasswordHash.Cost(log2Rounds: 12, blockSize: 8, parallelism: 1)
        let users = try BootstrappedUsers(stored, name: "me", password: "new", cost: cost)
        let id = try #require(try await stored.findUser(name: "me")).id
        try await withThrowingTaskGroup(of: User?.self) { group in
            for _ in 1...3 {
                group.addTask { try await users.findUser(name: "me") }
                group.addTask { try await users.findUserById(id) }
            }
            #expect(try await users.bootstrap() == nil)
            for try await user in group {
                #expect(try PasswordHash(try #require(user).passwordHash)?.matches("new") == true)
            }
        }
        #expect(try await users.countUsers() == 1)
    }

    @Test func nobodyIsFoundIfTheGivenPasswordCannotBeStored() async throws {
        let stored = try TestDomain().store
        _ = try await self.bootstrap(stored, "me", "old")
        let users = try BootstrappedUsers(stored, name: "me", password: "new", cost: TestServer.cost)
        let bootstrap = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            _ = try await users.bootstrap()
        }
        await #expect(throws: CancellationError.self) { try await bootstrap.value }
        await #expect(throws: CancellationError.self) { _ = try await users.findUser(name: "me") }
        #expect(try await self.matches(stored, "me", "old"))
    }

    @Test(
        "A name or password that cannot be is refused",
        arguments: [
            ("", "x"), (String(repeating: "n", count: 256), "x"), ("me", ""),
            ("me", String(repeating: "p", count: 1025)),
        ]
    )
    func refused(name: String, password: String) async throws {
        let users = try TestDomain().store
        let error = await #expect(throws: NodeError.self) { _ = try await self.bootstrap(users, name, password) }
        #expect(error?.code == .badRequest)
        let same = #expect(throws: NodeError.self) { _ = try BootstrappedUsers(users, name: name, password: password) }
        #expect(same?.code == .badRequest)
        #expect(try await users.countUsers() == 0)
    }
}

extension LoginLimiter {
    /// Begins a try that must be allowed, and returns its time.
    fileprivate mutating func begun(_ key: String, at now: Timestamp) -> Timestamp {
        #expect(self.begin(key, at: now) == .go)
        return now
    }
}
