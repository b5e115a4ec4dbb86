import NIOCore
import NodeKit
import OTA
import StoreTesting
import Testing

@Suite struct ValueTests {
    @Test(
        "the devices with an attribute are found in pages, by scope, name, type and value",
        arguments: EngineUnderTest.all
    )
    func devicesByAttribute(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await fixture.profile("pumps")
            var expected: [Originator] = []
            for (number, value) in [JSON.bool(true), false, 1, "true", true, true].enumerated() {
                let device = try await fixture.device("d\(number)", in: profile.id)
                let time = Timestamp(milliseconds: 1)
                try await store.saveAttributes(of: device.id, scope: .server, ["active": value, "b": true], at: time)
                try await store.saveAttributes(of: device.id, scope: .client, ["mine": true], at: time)
                guard value == true else { continue }
                expected.append(Originator(id: device.id.uuid, name: device.name, type: "pumps"))
            }
            func found(
                _ key: String = "active",
                _ value: JSON = true,
                _ scope: AttributeScope = .server,
                after: DeviceId? = nil,
                limit: Int = 10
            ) async throws -> [Originator] {
                try await store.devices(withAttribute: key, equalTo: value, in: scope, after: after, limit: limit)
            }
            let all = try await found()
            #expect(Set(all) == Set(expected) && all.count == 3)
            var paged: [Originator] = []
            while true {
                let page = try await found(after: paged.last.map { DeviceId($0.id) }, limit: 2)
                paged += page
                if page.count < 2 { break }
            }
            #expect(paged == all)
            #expect(try await found("active", "true").count == 1)
            #expect(try await found("active", nil).isEmpty)
            #expect(try await found("active", true, .client).isEmpty)
            #expect(try await found("mine", true, .client).count == 6)
        }
    }

    static let values: JSON.Object = [
        "bool": true, "double": 1.5, "big": .integer(.max), "json": ["a": [1, nil]], "list": [], "long": 7, "none": nil,
        "number text": "1.10", "string": "x", "whole double": .double(2),
    ]

    @Test(
        "attributes keep their types; null is left out and numbers in strings stay strings",
        arguments: EngineUnderTest.all
    )
    func attributes(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.store.defaultDeviceProfile(of: .main)
            let device = try await fixture.device(in: profile.id)
            let time = Timestamp(milliseconds: 5)
            try await fixture.store.saveAttributes(of: device.id, scope: .client, Self.values, at: time)
            let all = try await fixture.store.attributes(of: device.id, scope: .client, keys: nil)
            #expect(all.map(\.key) == Self.values.names.filter { $0 != "none" }.sorted())
            for entry in all {
                #expect(entry.value == Self.values[entry.key], "\(entry.key)")
                #expect(entry.lastUpdate == time)
            }
            #expect(try await fixture.store.attributes(of: device.id, scope: .shared, keys: nil) == [])
            let some = try await fixture.store.attributes(
                of: device.id,
                scope: .client,
                keys: ["string", "nope", "long"]
            )
            #expect(some.map(\.key) == ["long", "string"])
            #expect(try await fixture.store.attributes(of: device.id, scope: .client, keys: []) == [])
        }
    }

    @Test(
        "a save and a delete of shared attributes is one notification each, of what changed",
        arguments: EngineUnderTest.all
    )
    func notifications(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await store.defaultDeviceProfile(of: .main)
            let device = try await fixture.device(in: profile.id)
            let notifications = fixture.notifications(of: device.id)
            try await store.saveAttributes(of: device.id, scope: .shared, ["a": 1, "b": nil, "c": "x"], at: .now)
            try await store.saveAttributes(of: device.id, scope: .server, ["a": 1], at: .now)
            try await store.saveAttributes(of: device.id, scope: .client, ["a": 1], at: .now)
            try await store.saveAttributes(of: device.id, scope: .shared, ["b": nil], at: .now)
            #expect(
                try await store.deleteAttributes(of: device.id, scope: .shared, keys: ["c", "b", "a"]) == ["c", "a"]
            )
            #expect(try await store.deleteAttributes(of: device.id, scope: .shared, keys: ["c", "b", "a"]) == [])
            #expect(try await store.deleteAttributes(of: device.id, scope: .server, keys: ["a"]) == ["a"])
            #expect(notifications.all == [.attributesUpdated(["a": 1, "c": "x"]), .attributesDeleted(["c", "a"])])
        }
    }

    @Test("keys are present and bounded, and the device exists", arguments: EngineUnderTest.all)
    func limits(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.store.defaultDeviceProfile(of: .main)
            let device = try await fixture.device(in: profile.id)
            func save(_ key: String, of device: DeviceId) async throws {
                let values = JSON.Object([(key, .integer(1))])
                try await fixture.store.saveAttributes(of: device, scope: .client, values, at: .now)
                try await fixture.store.saveTimeseries(
                    of: device,
                    [TelemetryPoint(timestamp: nil, values: values)],
                    at: .now
                )
            }
            try await save(String(repeating: "k", count: 255), of: device.id)
            await expectRefusal("key length must be equal or less than 255") {
                try await save(String(repeating: "k", count: 256), of: device.id)
            }
            await expectRefusal("Key can't be empty!") { try await save("", of: device.id) }
            let nobody = DeviceId.random()
            await expectRefusal("Device with id [\(nobody)] is not found", code: .notFound) {
                try await save("k", of: nobody)
            }
        }
    }

    @Test("time series keep types and times, and give the newest and any span", arguments: EngineUnderTest.all)
    func timeseries(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await store.defaultDeviceProfile(of: .main)
            let device = try await fixture.device(in: profile.id)
            func at(_ time: Int64) -> Timestamp { Timestamp(milliseconds: time) }
            try await store.saveTimeseries(
                of: device.id,
                [
                    TelemetryPoint(timestamp: at(30), values: ["a": 3, "b": "x"]),
                    TelemetryPoint(timestamp: at(10), values: ["a": 1]),
                    TelemetryPoint(timestamp: nil, values: ["a": 2, "c": nil]),
                ],
                at: at(20)
            )
            try await store.saveTimeseries(of: device.id, [], at: at(99))
            #expect(
                try await store.latestTimeseries(of: device.id, keys: nil) == [
                    TimeseriesEntry(key: "a", timestamp: at(30), value: 3),
                    TimeseriesEntry(key: "b", timestamp: at(30), value: "x"),
                ]
            )
            #expect(try await store.latestTimeseries(of: device.id, keys: ["b", "zz"]).map(\.key) == ["b"])
            func span(_ start: Int64, _ end: Int64, _ limit: Int, _ ascending: Bool) async throws -> [JSON] {
                try await store.timeseries(
                    of: device.id,
                    key: "a",
                    from: at(start),
                    to: at(end),
                    limit: limit,
                    ascending: ascending
                ).map(\.value)
            }
            #expect(try await span(0, 99, 9, false) == [3, 2, 1])
            #expect(try await span(10, 20, 9, true) == [1, 2])
            #expect(try await span(0, 99, 1, false) == [3])
            #expect(try await span(31, 99, 9, false) == [])
            try await store.saveTimeseries(
                of: device.id,
                [TelemetryPoint(timestamp: at(30), values: ["a": 4])],
                at: at(0)
            )
            #expect(try await span(30, 30, 9, false) == [4])
        }
    }

    @Test(
        "time series are removed whole or within a span, and what remains is the latest",
        arguments: EngineUnderTest.all
    )
    func deleteTimeseries(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let profile = try await store.defaultDeviceProfile(of: .main)
            let device = try await fixture.device(in: profile.id)
            let other = try await fixture.device("other", in: profile.id)
            func at(_ time: Int64) -> Timestamp { Timestamp(milliseconds: time) }
            let points = [10, 20, 30].map { TelemetryPoint(timestamp: at($0), values: ["a": .integer($0), "b": "x"]) }
            for id in [device.id, other.id] { try await store.saveTimeseries(of: id, points, at: at(0)) }
            func times(_ key: String, of id: DeviceId) async throws -> [Int64] {
                try await store.timeseries(of: id, key: key, from: at(0), to: at(99), limit: 9, ascending: true)
                    .map(\.timestamp.rawValue)
            }

            try await store.deleteTimeseries(of: device.id, keys: ["a", "zz"], in: at(20)...at(30))
            #expect(try await times("a", of: device.id) == [10], "both ends of the span are in it")
            #expect(try await times("b", of: device.id) == [10, 20, 30])
            #expect(try await store.latestTimeseries(of: device.id, keys: ["a"]).map(\.value) == [10])
            try await store.deleteTimeseries(of: device.id, keys: [], in: nil)
            try await store.deleteTimeseries(of: device.id, keys: ["b"], in: at(31)...at(99))
            #expect(try await times("b", of: device.id) == [10, 20, 30])
            try await store.deleteTimeseries(of: device.id, keys: ["a", "b"], in: nil)
            #expect(try await store.latestTimeseries(of: device.id, keys: nil) == [])
            #expect(try await times("a", of: other.id) == [10, 20, 30])
            let nobody = DeviceId.random()
            await expectRefusal("Device with id [\(nobody)] is not found", code: .notFound) {
                try await store.deleteTimeseries(of: nobody, keys: ["a"], in: nil)
            }
        }
    }

    @Test("users are found without regard to case, and a secret stays the same", arguments: EngineUnderTest.all)
    func users(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            #expect(try await store.countUsers() == 0)
            var user = User(name: "Tenant@Example.org", passwordHash: "h")
            user = try await store.saveUser(user)
            #expect(try await store.findUser(name: "tenant@example.ORG") == user)
            #expect(try await store.findUserById(user.id) == user)
            #expect(try await store.findUser(name: "x") == nil)
            user.passwordHash = "other"
            _ = try await store.saveUser(user)
            #expect(try await store.findUserById(user.id)?.passwordHash == "other")
            #expect(try await store.countUsers() == 1)
            await expectRefusal("User with email 'tenant@example.org' already present in database!") {
                _ = try await store.saveUser(User(name: "tenant@example.org", passwordHash: "h"))
            }
            let secret = try await store.secret(named: "jwt", count: 32)
            #expect(secret.count == 32)
            #expect(try await store.secret(named: "jwt", count: 64) == secret)
            #expect(try await store.secret(named: "other", count: 32) != secret)
        }
    }

    @Test("a queue keeps messages whole and in order until they are removed", arguments: EngineUnderTest.durable)
    func queues(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let originator = Originator(id: DeviceId.random().uuid, name: "d", type: "p")
            let messages = [MessageData.none, .json(["a": [1, 2.5, "x"]]), .bytes(ByteBuffer(bytes: [0, 255, 10]))].map
            {
                Message(
                    originator: originator,
                    type: "PACKAGE_ASSIGNED",
                    metadata: ["packageType": "FIRMWARE", "n": 3],
                    data: $0,
                    timestamp: Timestamp(milliseconds: 77)
                )
            }
            let first = fixture.store
            for message in messages { try await first.queue(named: "ota/pace").append(message, countMax: 9) }
            try await first.queue(named: "ota/other").append(messages[0], countMax: 9)
            try await fixture.reopen()
            let store = fixture.store
            let queue = store.queue(named: "ota/pace")
            for (index, message) in messages.enumerated() {
                // The later ones of an originator wait behind the first.
                let due = try await queue.due(at: fixture.clock.now, limit: 10, without: [])
                let queued = try #require(due.messages.first)
                #expect(due.messages.count == 1)
                #expect(queued.message.originator == message.originator)
                #expect(queued.message.type == message.type)
                #expect(queued.message.metadata == message.metadata)
                #expect(queued.message.data == message.data)
                #expect(queued.message.timestamp == message.timestamp)
                #expect(try await queue.count() == messages.count - index)
                try await queue.settle([SettledMessage(queued), SettledMessage(queued)])
            }
            #expect(try await queue.due(at: fixture.clock.now, limit: 10, without: []).messages.isEmpty)
            let other = store.queue(named: "ota/other")
            #expect(try await other.count() == 1)
        }
    }
}
