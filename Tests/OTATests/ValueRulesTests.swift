import NodeKit
import OTA
import Testing

@Suite struct ValueRulesTests {
    @Test(
        "the name of a value is not empty, and at most as long as is stored",
        arguments: [
            (["": 1], "Key can't be empty!"), (["a": 1, "": 2], "Key can't be empty!"), ([:], nil), (["a": nil], nil),
        ] as [(JSON.Object, String?)]
    )
    func keys(values: JSON.Object, sentence: String?) {
        #expect(refusal { try ValueRules.checkKeys(values) } == sentence)
    }

    @Test("the name of a value has at most 255 characters")
    func lengths() {
        func sentence(_ count: Int) -> String? {
            refusal { try ValueRules.checkKeys(JSON.Object([(String(repeating: "é", count: count), 1)])) }
        }
        #expect(sentence(255) == nil)
        #expect(sentence(256) == "key length must be equal or less than 255")
    }

    @Test("a time is too far ahead if it is later than a device's clock may be, if there is a limit")
    func ahead() {
        let now = Timestamp(milliseconds: 1_000_000)
        func isTooFar(_ milliseconds: Int64, max: Duration?) -> Bool {
            ValueRules.isTooFarAhead(Timestamp(milliseconds: milliseconds), of: now, max: max)
        }
        #expect(!isTooFar(1_060_000, max: .seconds(60)))
        #expect(isTooFar(1_060_001, max: .seconds(60)))
        #expect(!isTooFar(0, max: .zero) && !isTooFar(.max, max: nil))
    }

    @Test("a report with too many points is too large by itself, or comes too soon after others")
    func points() {
        let long = ValueRules.tooManyPoints(61, aheadMax: 60)
        #expect(long.code == .tooLarge && long.message.contains("61 points") && long.message.contains("at most 60"))
        let frequent = ValueRules.tooManyPoints(60, aheadMax: 60_000)
        #expect(frequent.code == .tooManyRequests && frequent.message.contains("more than 60 s ahead"))
    }

    private static func summary(
        entries: Int64 = 9,
        integers: Int64 = 0,
        decimals: Int64 = 0,
        total: Double = 0,
        least: JSON? = nil,
        greatest: JSON? = nil
    ) -> IntervalSummary {
        IntervalSummary(
            entries: entries,
            integers: integers,
            decimals: decimals,
            total: total,
            least: least,
            greatest: greatest,
            firstText: "a",
            lastText: "b"
        )
    }

    @Test(
        "an interval has a value of the type that holds all of its numbers, or else a text",
        arguments: [
            (.count, summary(), 9),
            (.minimum, summary(), "a"), (.maximum, summary(), "b"), (.average, summary(), nil), (.sum, summary(), nil),
            (.minimum, summary(integers: 2, least: 1, greatest: 3), 1),
            (.maximum, summary(integers: 2, least: 1, greatest: 3), 3),
            (.minimum, summary(integers: 1, decimals: 1, least: 1, greatest: 2.5), 1.0),
            (.maximum, summary(integers: 1, decimals: 1, least: 1, greatest: 2.5), 2.5),
            (.average, summary(integers: 2, total: 4), 2.0),
            (.average, summary(integers: 1, total: .infinity), nil),
            (.sum, summary(integers: 2, total: 4), 4), (.sum, summary(integers: 1, decimals: 1, total: 4), 4.0),
            (.sum, summary(integers: 2, total: 9_007_199_254_740_991), 9_007_199_254_740_991),
            (.sum, summary(integers: 2, total: 9_007_199_254_740_992), 9_007_199_254_740_992.0),
        ] as [(TimeseriesAggregation, IntervalSummary, JSON?)]
    )
    func aggregation(aggregation: TimeseriesAggregation, interval: IntervalSummary, expected: JSON?) {
        let value = aggregation.value(of: interval)
        #expect(value?.description == expected?.description)
        #expect((value?.integer == nil) == (expected?.integer == nil))
    }
}

@Suite struct PersistentCallRulesTests {
    @Test("a device has so many calls that wait, and all devices together, and no more")
    func room() {
        func error(_ own: Int64, _ all: Int64) -> NodeError? {
            do throws(NodeError) {
                try PersistentCallRules.checkRoom(besides: own, of: all)
                return nil
            } catch { return error }
        }
        #expect(error(99, 99_999) == nil)
        #expect(
            error(100, 100)?.message
                == "100 calls of this device wait already; delete some, or wait until they are over"
        )
        #expect(error(0, 100_000)?.message == "100000 calls of devices wait already; delete some")
        #expect(error(100, 0)?.code == .tooManyRequests && error(0, 100_000)?.code == .tooManyRequests)
    }

    @Test("a call is over unless it waits or is under way")
    func over() {
        #expect(PersistentCall.Status.allCases.filter { !$0.isOver } == [.queued, .sent])
    }
}

@Suite struct QueryRulesTests {
    @Test(
        "a page has the rows that its number says, whatever it is",
        arguments: [
            (10, 0, 10, 0), (10, 3, 10, 30), (0, 5, 0, 0), (-1, -1, 0, 0), (10, -7, 10, 0), (.max, 0, .max, 0),
            (1, .max - 1, 1, .max - 1),
        ]
    )
    func pages(size: Int, page: Int, limit: Int, offset: Int) throws {
        let rows = try PageLink(pageSize: size, page: page).rows()
        #expect(rows.limit == limit && rows.offset == offset)
    }

    @Test("a page that cannot be is refused", arguments: [(2, Int.max), (.max, 1), (1, .max), (3, .max / 2)])
    func noPage(size: Int, page: Int) {
        #expect(refusal { _ = try PageLink(pageSize: size, page: page).rows() } == "there is no page \(page)")
    }

    @Test(
        "a pattern without any % is a beginning, and one with it says where it is open",
        arguments: [
            ("a", false, "a", true), ("%a", true, "a", false), ("a%", false, "a", true), ("%a%", true, "a", true),
            ("", false, "", true), ("%", true, "", true), ("a%b", false, "a%b", true),
            ("%\u{301}", true, "\u{301}", false),
        ]
    )
    func patterns(text: String, startsOpen: Bool, inner: String, endsOpen: Bool) {
        let parts = NamePattern(text).parts
        #expect(parts.startsOpen == startsOpen && parts.text.exact == inner.exact && parts.endsOpen == endsOpen)
    }

    @Test("a text is searched in the values that are answered, or in the name if none are")
    func searched() {
        let (label, temperature) = (EntityKey(.entityField, "label"), EntityKey(.timeSeries, "t"))
        var query = EntityQuery(filter: .all, answered: [temperature, label, temperature])
        #expect(query.answeredOnce == [temperature, label])
        #expect(query.searched == query.answeredOnce)
        query.answered = []
        #expect(query.searched == [EntityKey(.entityField, "name")])
    }

    @Test("an entry of the audit log with a reason is that of a failure")
    func audit() {
        var entry = AuditEntry(
            createdTime: Timestamp(milliseconds: 1),
            tenantId: .main,
            userId: nil,
            userName: nil,
            entity: nil,
            action: .login,
            data: [:]
        )
        #expect(entry.status == .success)
        entry.failure = "no"
        #expect(entry.status == .failure)
    }

    @Test("an assignment is told by the series of its state and target, in the order of their names")
    func assignment() {
        var package = OtaPackage(deviceProfileId: nil, type: .software, title: "t", version: "1", tag: "t 1")
        let time = Timestamp(milliseconds: 5)
        let names = package.assignmentSeries(in: .queued, at: time).names
        #expect(names == ["sw_state", "target_sw_tag", "target_sw_title", "target_sw_ts", "target_sw_version"])
        #expect(names == names.sorted())
        package.tag = nil
        #expect(
            package.assignmentSeries(in: .updated, at: time)
                == [
                    "sw_state": "UPDATED", "target_sw_title": "t", "target_sw_ts": 5, "target_sw_version": "1",
                ]
        )
    }
}
