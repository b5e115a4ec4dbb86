import NodeKit
import OTA
import StoreTesting
import Testing

@Suite struct EntityQueryTests {
    static let state = EntityKey(.timeSeries, "fw_state")
    static let name = EntityKey(.entityField, "name")

    /// The names of the devices that a query finds, in order.
    private func names(_ query: EntityQuery, _ store: any EngineServices) async throws -> [String] {
        var query = query
        query.answered = [Self.name]
        let page = try await store.findEntities(query)
        if query.textSearch == nil {
            #expect(try await store.countEntities(query) == page.totalElements)
        }
        return page.data.map { $0.values[Self.name]?.value.string ?? "" }
    }

    private func filtered(
        _ key: EntityKey,
        _ predicate: EntityPredicate,
        _ store: any EngineServices
    ) async throws -> String {
        try await self.names(EntityQuery(filter: .all, keyFilters: [EntityKeyFilter(key, predicate)]), store)
            .joined(separator: " ")
    }

    /// Four devices, `a` and `B` of the profile `pump`, `c` and `d` of `valve`, with values of all types.
    private func fill(_ fixture: EngineFixture) async throws {
        let store = fixture.store
        let pump = try await fixture.profile("pump")
        let valve = try await fixture.profile("valve")
        for (name, profile) in [("a", pump), ("B", pump), ("c", valve), ("d", valve)] {
            _ = try await fixture.device(name, in: profile.id)
        }
        func save(_ name: String, _ values: JSON.Object, at time: Int64 = 1000) async throws {
            let device = try #require(try await store.findDeviceByName(name, of: .main))
            let point = TelemetryPoint(timestamp: Timestamp(milliseconds: time), values: values)
            try await store.saveTimeseries(of: device.id, [point], at: fixture.clock.now)
        }
        try await save("a", ["fw_state": "UPDATED", "level": 1, "on": true, "text": "Über 1"])
        try await save("B", ["fw_state": "FAILED", "level": 2.5, "on": false, "text": "unter 2"])
        try await save("c", ["fw_state": "UPDATED", "level": "high", "text": "50% off_"])
        try await save("a", ["level": 10], at: 2000)
        try await save("a", ["level": 7, "fw_state": "QUEUED"], at: 500)
        for (name, scope, value) in [
            ("a", .client, "1.0"), ("a", .server, "1.1"), ("B", .shared, "1.0"), ("c", .client, 3),
        ] as [(String, AttributeScope, JSON)] {
            let device = try #require(try await store.findDeviceByName(name, of: .main))
            try await store.saveAttributes(of: device.id, scope: scope, ["v": value], at: fixture.clock.now)
        }
    }

    @Test(arguments: EngineUnderTest.all) func everyPredicateFindsWhatItSays(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            try await self.fill(fixture)
            let store = fixture.store
            let text = EntityKey(.timeSeries, "text")
            let cases: [(EntityKey, EntityPredicate.TextOperation, [String], Bool, String)] = [
                (Self.state, .equal, ["UPDATED"], false, "a c"), (Self.state, .equal, ["updated"], false, ""),
                (Self.state, .equal, ["updated"], true, "a c"), (Self.state, .notEqual, ["UPDATED"], false, "B"),
                (Self.state, .isIn, ["FAILED", "QUEUED"], false, "B"), (Self.state, .notIn, ["FAILED"], false, "a c"),
                (Self.state, .equal, [""], false, "d"), (Self.state, .contains, [""], false, "a B c d"),
                (Self.state, .notEqual, [""], false, "a B c"), (Self.state, .notContains, [""], false, ""),
                (text, .startsWith, ["Über"], false, "a"), (text, .startsWith, ["über"], true, "a"),
                (text, .startsWith, ["UNTER"], true, "B"), (text, .endsWith, ["f_"], false, "c"),
                (text, .endsWith, ["1"], false, "a"), (text, .contains, ["% o"], false, "c"),
                (text, .contains, ["%"], false, "c"), (text, .notContains, ["t"], false, "a c"),
                (text, .endsWith, [""], false, "a B c d"), (text, .endsWith, ["longer than all of them"], false, ""),
                (Self.name, .equal, ["b"], false, ""), (Self.name, .equal, ["b"], true, "B"),
                (EntityKey(.entityField, "title"), .equal, ["B"], false, "B"),
                (EntityKey(.entityField, "type"), .equal, ["valve"], false, "c d"),
                (EntityKey(.entityField, "label"), .equal, [""], false, "a B c d"),
                (EntityKey(.entityField, "label"), .notEqual, ["x"], false, "a B c d"),
                (EntityKey(.entityField, "entityType"), .equal, ["DEVICE"], false, "a B c d"),
                (EntityKey(.entityField, "createdTime"), .equal, ["1"], false, ""),
                (EntityKey(.timeSeries, "level"), .equal, ["high"], false, "c"),
                (EntityKey(.timeSeries, "level"), .notEqual, ["low"], false, "c"),
                (EntityKey(.clientAttribute, "v"), .equal, ["1.0"], false, "a"),
                (EntityKey(.sharedAttribute, "v"), .equal, ["1.0"], false, "B"),
                (EntityKey(.serverAttribute, "v"), .equal, ["1.0"], false, ""),
                (EntityKey(.serverAttribute, "v"), .equal, ["1.1"], false, "a"),
                (EntityKey(.attribute, "v"), .equal, ["1.0"], false, "B"),
                (EntityKey(.attribute, "v"), .startsWith, ["1"], false, "a B"),
                (EntityKey(.attribute, "other"), .notEqual, ["1"], false, ""),
            ]
            for (key, operation, texts, ignoresCase, found) in cases {
                let predicate = EntityPredicate.text(operation, texts, ignoresCase: ignoresCase)
                #expect(try await self.filtered(key, predicate, store) == found, "\(key) \(predicate)")
            }
            let level = EntityKey(.timeSeries, "level")
            let numbers: [(EntityKey, EntityPredicate.NumberOperation, JSON, String)] = [
                (level, .equal, 10, "a"), (level, .equal, 10.0, "a"), (level, .notEqual, 10, "B"),
                (level, .greater, 2.5, "a"), (level, .greaterOrEqual, 2.5, "a B"), (level, .less, 10, "B"),
                (level, .lessOrEqual, 10, "a B"), (EntityKey(.clientAttribute, "v"), .greater, 2, "c"),
                (EntityKey(.entityField, "createdTime"), .greater, 0, "a B c d"),
                (EntityKey(.entityField, "name"), .greater, 0, ""),
            ]
            for (key, operation, number, found) in numbers {
                #expect(try await self.filtered(key, .number(operation, number), store) == found, "\(key) \(operation)")
            }
            let isOn = EntityKey(.timeSeries, "on")
            #expect(try await self.filtered(isOn, .truth(isEqual: true, true), store) == "a")
            #expect(try await self.filtered(isOn, .truth(isEqual: false, true), store) == "B")
            #expect(try await self.filtered(isOn, .truth(isEqual: true, false), store) == "B")
        }
    }

    @Test(arguments: EngineUnderTest.all) func conditionsAreJoinedAsTheQuerySays(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            try await self.fill(fixture)
            let store = fixture.store
            func state(_ text: String) -> EntityPredicate { .text(.equal, [text], ignoresCase: false) }
            #expect(
                try await self.filtered(Self.state, .any([state("FAILED"), state("UPDATED")]), store) == "a B c"
            )
            #expect(try await self.filtered(Self.state, .all([state("FAILED"), state("UPDATED")]), store) == "")
            #expect(
                try await self.filtered(
                    Self.state,
                    .any([state(""), .all([state("FAILED"), state("FAILED")])]),
                    store
                )
                    == "B d"
            )
            var query = EntityQuery(
                filter: .all,
                keyFilters: [
                    EntityKeyFilter(Self.state, state("UPDATED")),
                    EntityKeyFilter(EntityKey(.timeSeries, "level"), .number(.greater, 2)),
                ]
            )
            #expect(try await self.names(query, store) == ["a"])
            query.isAnyFilterEnough = true
            #expect(try await self.names(query, store) == ["a", "B", "c"])
            query.keyFilters.removeLast()
            #expect(try await self.names(query, store) == ["a", "c"])
        }
    }

    @Test(arguments: EngineUnderTest.all) func filtersFindTheirDevices(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            try await self.fill(fixture)
            let store = fixture.store
            let ids = try await store.findDevices(
                of: .main,
                deviceProfileId: nil,
                page: PageLink(pageSize: 9, ascending: true)
            )
            .data
            .map(\.id)
            let filters: [(EntityFilter, [String])] = [
                (.all, ["a", "B", "c", "d"]), (.none, []), (.devices([ids[3], ids[0], .random()]), ["a", "d"]),
                (.devices([]), []), (.named(NamePattern("b")), ["B"]),
                (.named(NamePattern("%")), ["a", "B", "c", "d"]),
                (.named(NamePattern("_")), []), (.named(NamePattern("%D")), ["d"]),
                (.named(NamePattern("")), ["a", "B", "c", "d"]), (.types(["pump"], nil), ["a", "B"]),
                (.types(["pump", "valve"], nil), ["a", "B", "c", "d"]), (.types(["other"], nil), []),
                (.types([], nil), []),
                (.types(["pump", "valve"], NamePattern("b")), ["B"]),
                // Beside a mark that combines with it, `%` still is one.
                (.named(NamePattern("%\u{301}%")), []), (.named(NamePattern("b%\u{301}")), []),
                (.named(NamePattern("%\u{301}d")), []),
            ]
            for (filter, found) in filters {
                #expect(try await self.names(EntityQuery(filter: filter), store) == found, "\(filter)")
            }
            let other = EntityQuery(tenantId: .random(), filter: .all)
            #expect(try await self.names(other, store) == [])
            #expect(try await self.names(EntityQuery(tenantId: .random(), filter: .types(["pump"], nil)), store) == [])
        }
    }

    @Test(arguments: EngineUnderTest.all) func identifiersAreReadPieceByPiece(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            try await self.fill(fixture)
            let isUpdated = EntityPredicate.text(.notEqual, ["QUEUED"], ignoresCase: false)
            let query = EntityQuery(filter: .all, keyFilters: [EntityKeyFilter(Self.state, isUpdated)])
            var found: [DeviceId] = []
            while true {
                let piece = try await fixture.store.entities(matching: query, after: found.last, limit: 2)
                if piece.isEmpty { break }
                #expect(piece.count <= 2)
                found += piece
            }
            #expect(found.count == 3)
            #expect(found.map(\.description) == found.map(\.description).sorted())
        }
    }

    @Test(arguments: EngineUnderTest.all) func pagesAreSortedByAnyKey(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            try await self.fill(fixture)
            let store = fixture.store
            let orders: [(EntityKey?, Bool, [String])] = [
                (nil, true, ["a", "B", "c", "d"]), (nil, false, ["d", "c", "B", "a"]),
                (Self.name, true, ["B", "a", "c", "d"]),
                (EntityKey(.entityField, "createdTime"), false, ["d", "c", "B", "a"]),
                // What is not there comes first, then numbers, then texts.
                (EntityKey(.timeSeries, "level"), true, ["d", "B", "a", "c"]),
                (EntityKey(.attribute, "v"), false, ["a", "B", "c", "d"]),
                (Self.state, true, ["d", "B", "a", "c"]),
            ]
            for (key, ascending, order) in orders {
                var query = EntityQuery(filter: .all, sortKey: key, ascending: ascending)
                #expect(try await self.names(query, store) == order, "\(String(describing: key))")
                query.pageSize = 3
                #expect(try await self.names(query, store) == Array(order.prefix(3)))
                query.page = 1
                #expect(try await self.names(query, store) == [order[3]])
                query.page = .max
                await expectRefusal("there is no page \(Int.max)") { _ = try await store.findEntities(query) }
            }
        }
    }

    @Test(arguments: EngineUnderTest.all) func aTextIsSearchedInWhatIsAnswered(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            try await self.fill(fixture)
            for (text, answered, found) in [
                ("b", [], 1), ("updated", [Self.name, Self.state], 2), ("UPDATED", [Self.name], 0), ("%", [], 0),
                ("tru", [EntityKey(.timeSeries, "on")], 1), ("2.5", [EntityKey(.timeSeries, "level")], 1), ("", [], 4),
            ] as [(String, [EntityKey], Int)] {
                let query = EntityQuery(filter: .all, textSearch: text, answered: answered)
                #expect(try await fixture.store.findEntities(query).totalElements == found, "\(text)")
            }
        }
    }

    @Test(arguments: EngineUnderTest.all) func valuesAreAnsweredWithTheirTimes(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            try await self.fill(fixture)
            let keys = [
                Self.name, Self.state, EntityKey(.timeSeries, "level"), EntityKey(.timeSeries, "on"),
                EntityKey(.attribute, "v"), EntityKey(.entityField, "type"), EntityKey(.entityField, "id"),
                EntityKey(.entityField, "unknown"), Self.name,
            ]
            let query = EntityQuery(filter: .named(NamePattern("a")), answered: keys)
            let row = try #require(try await fixture.store.findEntities(query).data.first)
            let device = try #require(try await fixture.store.findDeviceByName("a", of: .main))
            #expect(row.id == device.id)
            #expect(row.values[Self.name] == EntityRow.Value(timestamp: nil, value: "a"))
            #expect(row.values[keys[6]]?.value == .string(device.id.description))
            #expect(row.values[keys[5]]?.value == "pump")
            let times = [Self.state, keys[2], keys[3]].map { row.values[$0]?.timestamp?.rawValue }
            #expect(times == [1000, 2000, 1000])
            #expect([Self.state, keys[2], keys[3]].map { row.values[$0]?.value } == ["UPDATED", 10, true])
            #expect(row.values[keys[4]]?.value == "1.1", "that of the scope that was written last")
            #expect(row.values[keys[7]]?.value == "")
        }
    }

    @Test(arguments: EngineUnderTest.all) func theNewestValueOfAStateFollowsItsSeries(engine: EngineUnderTest)
        async throws
    {
        try await EngineFixture.with(engine) { fixture in
            let profile = try await fixture.profile()
            let device = try await fixture.device(in: profile.id)
            let store = fixture.store
            func state() async throws -> JSON? {
                let query = EntityQuery(filter: .all, answered: [Self.state])
                return try await store.findEntities(query).data.first?.values[Self.state]?.value
            }
            for time in [10, 30, 20] as [Int64] {
                let point = TelemetryPoint(
                    timestamp: Timestamp(milliseconds: time),
                    values: ["fw_state": .integer(time)]
                )
                try await store.saveTimeseries(of: device.id, [point], at: fixture.clock.now)
            }
            #expect(try await state() == 30)
            let newest = Timestamp(milliseconds: 30)...Timestamp(milliseconds: 40)
            try await store.deleteTimeseries(of: device.id, keys: ["fw_state"], in: newest)
            #expect(try await state() == 20)
            #expect(try await engine.check(store) == [])
            try await store.deleteTimeseries(of: device.id, keys: ["fw_state"], in: nil)
            #expect(try await state() == nil)
            let package = try await fixture.package(in: profile.id)
            try await fixture.assign(package.id, to: profile.id)
            #expect(try await state() == "QUEUED")
            let isTold = try await store.initiate(
                package.id,
                of: device.id,
                type: .firmware,
                attributes: package.sharedAttributes,
                obsolete: [],
                generation: nil,
                at: fixture.clock.now
            )
            #expect(isTold)
            #expect(try await state() == "INITIATED")
            try await fixture.assign(nil, to: profile.id)
            try await store.deleteDevice(device.id)
            #expect(try await store.countEntities(EntityQuery(filter: .all)) == 0)
        }
    }

    @Test(arguments: EngineUnderTest.all) func limitsAreTakenAtTheLimitAndRefusedBeyond(engine: EngineUnderTest)
        async throws
    {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let isOne = EntityPredicate.number(.equal, 1)
            func nested(_ depth: Int) -> EntityPredicate { depth == 1 ? isOne : .all([nested(depth - 1)]) }
            func keys(_ count: Int) -> [EntityKey] { (0..<count).map { EntityKey(.timeSeries, "k\($0)") } }
            func query(
                _ filters: [EntityPredicate],
                keys: [EntityKey] = [],
                filter: EntityFilter = .all
            ) -> EntityQuery {
                EntityQuery(
                    filter: filter,
                    keyFilters: filters.map { EntityKeyFilter(EntityKey(.timeSeries, "k"), $0) }
                        + keys.map { EntityKeyFilter($0, isOne) },
                    answered: keys
                )
            }
            let texts = (0...EntityQuery.listMax).map(String.init)
            let most = Array(texts.dropLast())
            let allowed = [
                query([nested(EntityQuery.depthMax)]), query([], keys: keys(EntityQuery.keysMax)),
                query([.any(Array(repeating: isOne, count: EntityQuery.predicatesMax - 1))]),
                query([.text(.isIn, most, ignoresCase: true)], filter: .types(most, nil)),
                query([], filter: .devices((0..<EntityQuery.listMax).map { _ in .random() })),
            ]
            for query in allowed {
                let page = try await store.findEntities(query)
                #expect(page.totalElements == 0)
            }
            let refused: [(EntityQuery, String)] = [
                (query([nested(EntityQuery.depthMax + 1)]), "predicates may be nested 8 deep and no deeper"),
                (
                    query([], keys: keys(EntityQuery.keysMax + 1)),
                    "the query has 49 keys in filters and order; 48 are allowed"
                ),
                (
                    query([.any(Array(repeating: isOne, count: EntityQuery.predicatesMax))]),
                    "the query has 257 predicates; 256 are allowed"
                ),
                (
                    query([.text(.notIn, texts, ignoresCase: false)]),
                    "the query has 1001 texts in a list; 1000 are allowed"
                ),
                (query([], filter: .types(texts, nil)), "the query has 1001 device types; 1000 are allowed"),
                (
                    query([], filter: .devices((0...EntityQuery.listMax).map { _ in .random() })),
                    "the query has 1001 devices; 1000 are allowed"
                ),
                (
                    EntityQuery(filter: .all, sortKey: EntityKey(.entityField, "colour")),
                    "devices have no field 'colour'; they have id, createdTime, entityType, name, type, label, additionalInfo"
                ),
                (
                    EntityQuery(filter: .all, answered: keys(EntityQuery.keysMax + 1)),
                    "the query has 49 values to answer; 48 are allowed"
                ),
            ]
            for (query, sentence) in refused {
                await expectRefusal(sentence) { _ = try await store.findEntities(query) }
            }
        }
    }
}
