import FoundationEssentials
import NodeKit
import NodeTesting
import OTA
import StoreTesting
import Testing

@Suite struct QueueTests {
    private static let never = Timestamp(milliseconds: .max)

    private static func message(
        _ text: String,
        from device: Originator,
        key: String? = nil,
        generation: Int64 = 1,
        priority: Int = 0
    ) -> Message {
        var message = Message(
            originator: device,
            type: "T",
            metadata: ["text": .string(text)],
            timestamp: Timestamp(milliseconds: 1)
        )
        message.precedence = key.map { Precedence(key: $0, generation: generation, priority: priority) }
        return message
    }

    private static func originator(_ name: String) -> Originator {
        Originator(id: .random(), name: name, type: "profile")
    }

    private static func text(_ message: WaitingMessage) -> String { message.message.metadata.string("text") ?? "" }

    private static func all(_ queue: any WaitingMessages, limit: Int = 1000) async throws -> [WaitingMessage] {
        try await queue.due(at: Self.never, limit: limit, without: []).messages
    }

    private static func texts(_ queue: any WaitingMessages) async throws -> [String] {
        try await Self.all(queue).map(Self.text)
    }

    private static let closed = HoldReason(code: "closed", text: "it is closed")

    // MARK: Messages with a key

    @Test(
        "a newer message takes the place of the older one of its key, at once due, and an older one is dropped",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func replacing(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let queue = fixture.store.queue(named: "c/n")
            let (a, b) = (Self.originator("a"), Self.originator("b"))
            try await queue.append(Self.message("a1", from: a, key: "k"), countMax: 9)
            try await queue.append(Self.message("b1", from: b, key: "k"), countMax: 9)
            try await queue.append(Self.message("a other", from: a, key: "other"), countMax: 9)
            let first = try #require(try await Self.all(queue).first)
            // It was told to wait, and waits no more.
            let postponed = PostponedMessage(first, due: first.due.adding(.seconds(1_000_000)), reason: Self.closed)
            try await queue.postpone([postponed])
            #expect(try await Self.texts(queue) == ["b1", "a other", "a1"])
            #expect(try await fixture.store.waitingQueues().map(\.held) == [["closed": 1]])
            try await queue.append(Self.message("a3", from: a, key: "k", generation: 3, priority: 4), countMax: 9)
            let messages = try await Self.all(queue)
            #expect(messages.map(Self.text) == ["a3", "b1", "a other"])
            #expect(messages[0].since == first.since && messages[0].due == first.due && messages[0].tries == 0)
            #expect(messages[0].message.precedence == Precedence(key: "k", generation: 3, priority: 4))
            #expect(try await fixture.store.waitingQueues().map(\.held) == [[:]])

            try await queue.append(Self.message("a2", from: a, key: "k", generation: 2), countMax: 9)
            #expect(try await Self.texts(queue) == ["a3", "b1", "a other"])
            #expect(try await queue.count() == 3)
            // Another queue has nothing to do with it.
            try await fixture.store.queue(named: "c/m").append(Self.message("a1", from: a, key: "k"), countMax: 9)
            #expect(try await queue.count() == 3)
        }
    }

    @Test(
        "what took the place of a message that is under way is neither settled nor postponed with it",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func replacedUnderWay(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let queue = fixture.store.queue(named: "c/n")
            let a = Self.originator("a")
            try await queue.append(Self.message("a1", from: a, key: "k"), countMax: 9)
            let old = try #require(try await Self.all(queue).first)
            try await queue.append(Self.message("a2", from: a, key: "k", generation: 2), countMax: 9)
            try await queue.postpone([PostponedMessage(old, due: Self.never, reason: Self.closed)])
            try await queue.settle([SettledMessage(old)])
            let new = try #require(try await Self.all(queue).first)
            #expect(Self.text(new) == "a2" && new.due == old.due && new.tries == 0)
            try await queue.settle([SettledMessage(new)])
            #expect(try await queue.count() == 0)
        }
    }

    // MARK: Messages without a key

    @Test(
        "an originator's messages without a key come one after the other, and those of others beside them",
        .bug(id: "Q3"),
        arguments: EngineUnderTest.all
    )
    func lanes(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            var queue = fixture.store.queue(named: "c/n")
            let (a, b) = (Self.originator("a"), Self.originator("b"))
            for number in 1...3 { try await queue.append(Self.message("a\(number)", from: a), countMax: 9) }
            try await queue.append(Self.message("b1", from: b), countMax: 9)
            #expect(try await Self.texts(queue) == ["a1", "b1"])
            let first = try #require(try await Self.all(queue).first)
            try await queue.settle([SettledMessage(first)])
            // The next of them comes after what was due before.
            #expect(try await Self.texts(queue) == ["b1", "a2"])
            let second = try #require(try await Self.all(queue).last)
            let due = fixture.clock.now.adding(.seconds(100_000))
            try await queue.postpone([PostponedMessage(second, due: due, reason: Self.closed)])
            let now = try await queue.due(at: fixture.clock.now, limit: 9, without: [])
            #expect(now.messages.map(Self.text) == ["b1"])
            #expect(now.next == due)
            if engine.isDurable {
                try await fixture.reopen()
                queue = fixture.store.queue(named: "c/n")
            }
            let again = try await Self.all(queue)
            #expect(Set(again.map(Self.text)) == ["b1", "a2"])
            #expect(again.first { Self.text($0) == "a2" }?.tries == 1)
            #expect(try await queue.count() == 3)
        }
    }

    // MARK: Order and bounds

    @Test(
        "of each priority the first that are due come, the highest priority first",
        .bug(id: "Q3"),
        arguments: EngineUnderTest.all
    )
    func order(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let queue = fixture.store.queue(named: "c/n")
            for (index, priority) in [0, 9, 5, 0, 9, 5, 0, 9].enumerated() {
                let message = Self.message(
                    "\(priority).\(index)",
                    from: Self.originator("d"),
                    key: "k",
                    priority: priority
                )
                try await queue.append(message, countMax: 99)
            }
            try await queue.append(Self.message("event", from: Self.originator("e")), countMax: 99)
            #expect(
                try await Self.texts(queue) == ["9.1", "9.4", "9.7", "5.2", "5.5", "0.0", "0.3", "0.6", "event"]
            )
            let few = try await Self.all(queue, limit: 1)
            #expect(few.map(Self.text) == ["9.1", "5.2", "0.0"])
            let others = try await queue.due(at: Self.never, limit: 1, without: Set(few.map(\.id)))
            #expect(others.messages.map(Self.text) == ["9.4", "5.5", "0.3"])
            // What is tried again comes by when it is due.
            let last = try #require(try await Self.all(queue).last)
            let postponed = few.map { PostponedMessage($0, due: last.due, reason: Self.closed) }
            try await queue.postpone(postponed)
            #expect(
                try await Self.texts(queue) == ["9.4", "9.7", "9.1", "5.5", "5.2", "0.3", "0.6", "0.0", "event"]
            )
        }
    }

    @Test(
        "so many messages may wait and no more, whatever became of others",
        .bug(id: "Q3"),
        arguments: EngineUnderTest.all
    )
    func countMax(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            var queue = fixture.store.queue(named: "c/n")
            let a = Self.originator("a")
            func fill(_ expected: Int, key: String? = nil) async throws {
                var count = 0
                while count < 9 {
                    do {
                        let message = Self.message("x", from: Self.originator("x"), key: key)
                        try await queue.append(message, countMax: 4)
                    } catch let error as NodeError {
                        #expect(error.code == .unavailable && error.isRetryable)
                        break
                    }
                    count += 1
                }
                #expect(count == expected)
                #expect(try await queue.count() == 4)
            }
            try await queue.append(Self.message("a1", from: a, key: "k"), countMax: 4)
            try await fill(3)
            // What takes a place needs none.
            try await queue.append(Self.message("a2", from: a, key: "k", generation: 2), countMax: 4)
            try await queue.append(Self.message("a1", from: a, key: "k", generation: 1), countMax: 4)
            try await queue.settle(try await Self.all(queue).prefix(2).map { SettledMessage($0) })
            try await fill(2, key: "k")
            if engine.isDurable {
                try await fixture.reopen()
                queue = fixture.store.queue(named: "c/n")
                try await fill(0)
            }
            #expect(try await fixture.store.move(from: "c/n", to: "c/m") == 4)
            try await fill(4)
            let other = fixture.store.queue(named: "c/m")
            await #expect(throws: NodeError.self) {
                try await other.append(Self.message("x", from: Self.originator("x")), countMax: 4)
            }
            #expect(try await fixture.store.drop("c/n") == 4)
            try await fill(4)
        }
    }

    // MARK: What devices are to be told

    /// A device with an assignment that waits in a queue, as a throttle would keep it.
    private static func withAssignment(
        _ engine: EngineUnderTest,
        _ body: (EngineFixture, Device, OtaPackage, any MessageQueue) async throws -> Void
    ) async throws {
        try await EngineFixture.with(engine) { fixture in
            let device = try await fixture.device()
            let package = try await fixture.package("fw", "1")
            try await fixture.assign(package.id, to: device.id)
            let queue = fixture.store.queue(named: "c/pace")
            try await Self.handOn(fixture, to: queue)
            try await body(fixture, device, package, queue)
        }
    }

    /// Hands assignments on to a queue.
    private static func handOn(_ fixture: EngineFixture, to queue: any MessageQueue) async throws {
        let waiting = fixture.store.waitingAssignments
        let messages = try await Self.all(waiting)
        for message in messages { try await queue.append(message.message, countMax: .max) }
        try await waiting.settle(messages.map { SettledMessage($0) })
    }

    private static func due(_ fixture: EngineFixture, _ queue: any MessageQueue) async throws -> DueMessages {
        try await queue.due(at: fixture.clock.now, limit: 9, without: [])
    }

    @Test(
        "a message whose successor is on its way waits for it, and one without a successor is superseded",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func successor(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, _, queue in
            let old = try #require(try await Self.due(fixture, queue).messages.first)
            let second = try await fixture.package("fw", "2")
            try await fixture.assign(second.id, to: device.id)
            var due = try await Self.due(fixture, queue)
            #expect(due.messages.isEmpty && due.superseded.isEmpty)
            #expect(due.postponed.map(\.message.id) == [old.id])
            #expect(due.postponed.first?.reason.code == "superseded")
            // It comes, and has its place.
            try await Self.handOn(fixture, to: queue)
            due = try await Self.due(fixture, queue)
            let new = try #require(due.messages.first)
            #expect(due.messages.count == 1 && due.superseded.isEmpty && due.postponed.isEmpty)
            #expect(new.id == old.id && new.due == old.due)
            #expect(new.message.metadata.string(MessageKey.packageId) == second.id.description)
            // Its device was not told of it, so that there is nothing to say when it is cancelled.
            #expect(try await fixture.store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
            #expect(try await fixture.store.assignments().isEmpty)
            due = try await Self.due(fixture, queue)
            #expect(due.messages.isEmpty && due.postponed.isEmpty)
            #expect(due.superseded.map(\.id) == [old.id])
        }
    }

    @Test(
        "a message that is held for long is passed over at once when it becomes pointless",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func heldForLong(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, package, queue in
            func hold() async throws {
                let message = try #require(try await Self.due(fixture, queue).messages.first)
                let tomorrow = fixture.clock.now.adding(.seconds(86_400))
                try await queue.postpone([PostponedMessage(message, due: tomorrow, reason: Self.closed)])
                #expect(try await Self.due(fixture, queue).messages.isEmpty)
            }
            try await hold()
            let mark = await queue.arrivals(since: nil)
            #expect(try await fixture.store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
            // Whoever waits for the queue looks again.
            #expect(await queue.arrivals(since: mark) > mark)
            let cancelled = try await Self.due(fixture, queue).superseded
            #expect(cancelled.count == 1)
            try await queue.settle(cancelled.map { SettledMessage($0) })
            #expect(try await fixture.store.carryOut(.retry, on: UpdateFilter(), by: "me") == 1)
            try await Self.handOn(fixture, to: queue)
            try await hold()
            try await fixture.assign(nil as OtaPackageId?, to: device.id)
            #expect(try await Self.due(fixture, queue).postponed.count == 1)
        }
    }

    @Test(
        "a message whose successor waits itself until later is superseded at once",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func lateSuccessor(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, _, queue in
            try await fixture.assign(try await fixture.package("fw", "2").id, to: device.id)
            let waiting = fixture.store.waitingAssignments
            let next = try #require(try await Self.all(waiting).first)
            let due = fixture.clock.now.adding(.seconds(86_400))
            try await waiting.postpone([PostponedMessage(next, due: due, reason: Self.closed)])
            let now = try await Self.due(fixture, queue)
            #expect(now.superseded.count == 1 && now.messages.isEmpty && now.postponed.isEmpty)
        }
    }

    @Test(
        "what a device that was deleted was to be told is superseded; what it sent still goes",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func deletedDevice(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, _, queue in
            let sender = Originator(id: device.id.uuid, name: device.name, type: "default")
            try await queue.append(Self.message("event", from: sender), countMax: 9)
            try await fixture.store.deleteDevice(device.id)
            let due = try await Self.due(fixture, queue)
            #expect(due.superseded.count == 1)
            #expect(due.messages.map(Self.text) == ["event"])
            try await queue.settle((due.superseded + due.messages).map { SettledMessage($0) })
            #expect(try await queue.count() == 0)
        }
    }

    // MARK: Queues as a whole

    @Test(
        "a queue that is moved comes behind what waits in the other, in order, and what is newer there stays",
        .bug(id: "Q6"),
        arguments: EngineUnderTest.all
    )
    func moving(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let (from, to) = (store.queue(named: "c/from"), store.queue(named: "c/to"))
            let (a, b, c) = (Self.originator("a"), Self.originator("b"), Self.originator("c"))
            for number in 1...2 { try await from.append(Self.message("a\(number)", from: a), countMax: 9) }
            try await to.append(Self.message("a0", from: a), countMax: 9)
            try await from.append(Self.message("b new", from: b, key: "k", generation: 2), countMax: 9)
            try await to.append(Self.message("b old", from: b, key: "k", generation: 1), countMax: 9)
            try await from.append(Self.message("c old", from: c, key: "k", generation: 1), countMax: 9)
            try await to.append(Self.message("c new", from: c, key: "k", generation: 2), countMax: 9)
            try await from.append(Self.message("d", from: Self.originator("d"), key: "k"), countMax: 9)
            let held = try await Self.all(from) + (try await Self.all(to)).filter { Self.text($0) == "b old" }
            try await from.postpone(held.map { PostponedMessage($0, due: Self.never, reason: Self.closed) })
            #expect(try await store.waitingQueues().map(\.name) == ["c/from", "c/to"])
            #expect(try await store.waitingQueues().map(\.count) == [5, 3])

            let mark = await to.arrivals(since: nil)
            #expect(try await store.move(from: "c/from", to: "c/to") == 5)
            #expect(await to.arrivals(since: nil) > mark)
            #expect(try await store.move(from: "c/from", to: "c/to") == 0)
            #expect(try await store.move(from: "c/to", to: "c/to") == 0)
            let left = try await store.waitingQueues()
            #expect(left.map(\.name) == ["c/to"])
            #expect(left.first?.count == 6)
            #expect(left.first?.held == [:], "all of them are due at once")

            // Lane by lane, as it was: of the first originator one after the other.
            var order: [String] = []
            while let next = try await Self.due(fixture, to).messages.first {
                order.append(Self.text(next))
                try await to.settle([SettledMessage(next)])
            }
            #expect(order.filter { $0.hasPrefix("a") } == ["a0", "a1", "a2"])
            #expect(Set(order) == ["a0", "a1", "a2", "b new", "c new", "d"])
            #expect(order.last == "a2")
            #expect(try await to.count() == 0)
        }
    }

    @Test(
        "a queue that is dropped is gone, and the devices whose messages were in it have the reason",
        .bug(id: "Q6"),
        arguments: EngineUnderTest.all
    )
    func dropping(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, _, queue in
            let store = fixture.store
            try await queue.append(Self.message("event", from: Self.originator("e")), countMax: 9)
            try await store.queue(named: "c/other").append(Self.message("x", from: Self.originator("x")), countMax: 9)
            #expect(try await store.drop("c/pace") == 2)
            #expect(try await store.drop("c/pace") == 0)
            #expect(try await store.waitingQueues().map(\.name) == ["c/other"])
            let hold = try #require(try await store.updateRecord(of: device.id, type: .firmware)?.hold)
            #expect(hold.queue == nil)
            #expect(
                hold.reason
                    == HoldReason(code: "dropped", text: "its message was dropped from the queue 'c/pace'")
            )
        }
    }

    // MARK: Why a device was not notified

    @Test(
        "the record says where the message of its device waits, until when and why, and why it ended",
        .bug(id: "Q1"),
        arguments: EngineUnderTest.all
    )
    func holds(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let store = fixture.store
            let device = try await fixture.device()
            let package = try await fixture.package("fw", "1")
            func hold() async throws -> UpdateHold? {
                try #require(try await store.updateRecord(of: device.id, type: .firmware)).hold
            }
            func wait(_ queue: any WaitingMessages, _ name: String) async throws {
                let before = try #require(try await hold())
                #expect(before.queue == name && before.reason == nil && before.tries == 0)
                let message = try #require(try await Self.all(queue).first)
                let due = fixture.clock.now.adding(.seconds(86_400))
                try await queue.postpone([PostponedMessage(message, due: due, reason: Self.closed)])
                #expect(
                    try await hold()
                        == UpdateHold(queue: name, since: before.since, until: due, tries: 1, reason: Self.closed)
                )
            }
            try await fixture.assign(package.id, to: device.id)
            try await wait(store.waitingAssignments, "assignments")
            let queue = store.queue(named: "c/pace")
            try await Self.handOn(fixture, to: queue)
            try await wait(queue, "c/pace")
            let message = try #require(try await Self.all(queue).first)
            let end = HoldReason(code: "ended", text: "it ended")
            try await queue.settle([SettledMessage(message, end: end)])
            let ended = try #require(try await hold())
            #expect(ended.queue == nil && ended.until == nil && ended.reason == end)

            // Whatever sends the message again takes the reason away.
            let all = UpdateFilter()
            #expect(try await store.carryOut(.resend(includesUpdated: false), on: all, by: "me") == 1)
            try await store.settle(try await store.assignments().map(\.id))
            #expect(try await hold() == nil)
            // An end that another message made pointless says nothing.
            #expect(try await store.carryOut(.resend(includesUpdated: false), on: all, by: "me") == 1)
            let old = try #require(try await Self.all(store.waitingAssignments).first)
            #expect(try await store.carryOut(.resend(includesUpdated: false), on: all, by: "me") == 1)
            try await store.waitingAssignments.settle([SettledMessage(old, end: end)])
            #expect(try await hold()?.queue == "assignments")
            #expect(try await hold()?.reason == nil)
            try await store.settle(try await store.assignments().map(\.id))
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            #expect(try await hold() == nil)
        }
    }

    // MARK: Generations

    enum Event: String, CaseIterable, Sendable {
        case cancelled, resent, assignedAgain, retried, otherAssigned
    }

    @Test(
        "a push does nothing if its update was cancelled, begun again or replaced since its message was made",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all,
        Event.allCases
    )
    func staleInitiation(engine: EngineUnderTest, event: Event) async throws {
        try await Self.withAssignment(engine) { fixture, device, package, queue in
            let store = fixture.store
            let old = try #require(try await Self.all(queue).first)
            try await Self.happen(event, fixture, device, package)
            let attributes: JSON.Object = ["fw_title": "fw"]
            func initiate(_ message: WaitingMessage) async throws -> Bool {
                try await store.initiate(
                    package.id,
                    of: device.id,
                    type: .firmware,
                    attributes: attributes,
                    obsolete: [],
                    generation: message.message.precedence?.generation,
                    at: fixture.clock.now
                )
            }
            #expect(try await initiate(old) == false)
            #expect(try await fixture.attributes(of: device.id, .shared).isEmpty)
            guard let new = try await Self.all(store.waitingAssignments).first else {
                return #expect(event == .cancelled)
            }
            #expect(try await initiate(new) == (event != .otherAssigned))
        }
    }

    private static func happen(_ event: Event, _ fixture: EngineFixture, _ device: Device, _ package: OtaPackage)
        async throws
    {
        switch event {
        case .cancelled: #expect(try await fixture.store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
        case .resent:
            let command = UpdateCommand.resend(includesUpdated: false)
            #expect(try await fixture.store.carryOut(command, on: UpdateFilter(), by: "me") == 1)
        case .assignedAgain:
            try await fixture.assign(nil, to: device.id)
            try await fixture.assign(package.id, to: device.id)
        case .retried:
            for state in ["DOWNLOADING", "FAILED"] {
                let report = StateReport(type: .firmware, state: state, timestamp: fixture.clock.now)
                _ = try await fixture.store.record(report, of: device.id)
            }
            #expect(try await fixture.store.carryOut(.retry, on: UpdateFilter(), by: "me") == 1)
        case .otherAssigned: try await fixture.assign(try await fixture.package("fw", "2").id, to: device.id)
        }
    }

    @Test(
        "a cancellation takes nothing away from a device whose update began again meanwhile",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all,
        [Event.resent, .assignedAgain, .retried, .otherAssigned]
    )
    func staleWithdrawal(engine: EngineUnderTest, event: Event) async throws {
        try await Self.withAssignment(engine) { fixture, device, package, _ in
            let store = fixture.store
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            #expect(try await store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
            let cancellation = try #require(try await Self.all(store.waitingAssignments).first)
            #expect(cancellation.message.type == .packageUnassigned)
            func withdraw() async throws -> Bool {
                try await store.withdraw(
                    from: device.id,
                    type: .firmware,
                    isCancelled: true,
                    generation: cancellation.message.precedence?.generation
                )
            }
            if event == .retried {
                #expect(try await store.carryOut(.retry, on: UpdateFilter(), by: "me") == 1)
            } else {
                try await Self.happen(event, fixture, device, package)
            }
            #expect(try await withdraw() == false)
            #expect(try await fixture.attributes(of: device.id, .shared).isEmpty == false)
            // What follows is the only thing that the device is to be told.
            #expect(try await store.assignments().map(\.packageId).count == 1)
        }
    }

    @Test(
        "a cancellation that nothing followed takes the attributes away",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func withdrawal(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, package, _ in
            let store = fixture.store
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            #expect(try await store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
            let cancellation = try #require(try await Self.all(store.waitingAssignments).first)
            #expect(
                try await store.withdraw(
                    from: device.id,
                    type: .firmware,
                    isCancelled: true,
                    generation: cancellation.message.precedence?.generation
                )
            )
            #expect(try await fixture.attributes(of: device.id, .shared).isEmpty)
        }
    }

    @Test(
        "an update that is cancelled before its turn takes the attributes of an earlier package away that the device does not run",
        .bug(id: "Q2"),
        arguments: EngineUnderTest.all
    )
    func earlierAttributes(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, package, queue in
            let store = fixture.store
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            try await queue.settle(try await Self.all(queue).map { SettledMessage($0) })
            try await fixture.assign(try await fixture.package("fw", "2").id, to: device.id)
            #expect(try await store.carryOut(.cancel, on: UpdateFilter(), by: "me") == 1)
            #expect(try await store.assignments().map(\.cause) == [.cancelled])
            #expect(
                try await store.withdraw(from: device.id, type: .firmware, isCancelled: true, generation: nil)
            )
            #expect(try await fixture.attributes(of: device.id, .shared).isEmpty)
        }
    }

    @Test(
        "whoever has read messages knows that others moved or dropped some",
        .bug(id: "Q6"),
        arguments: EngineUnderTest.all
    )
    func removals(engine: EngineUnderTest) async throws {
        try await EngineFixture.with(engine) { fixture in
            let (store, queue) = (fixture.store, fixture.store.queue(named: "c/others"))
            for number in 0..<3 {
                try await queue.append(Self.message("\(number)", from: Self.originator("a")), countMax: 9)
            }
            let (before, mark) = (queue.removals, await queue.arrivals(since: nil))
            #expect(try await store.move(from: "c/others", to: "c/pace") == 3)
            #expect(queue.removals > before)
            #expect(await queue.arrivals(since: mark) > mark)
            let moved = store.queue(named: "c/pace").removals
            #expect(try await store.drop("c/pace") == 3)
            #expect(store.queue(named: "c/pace").removals > moved)
        }
    }

    // MARK: Missed pushes

    @Test(
        "a missed push is put where assignments wait, in place of what waits, and what was sent before cannot end it",
        .bug(id: "Q4"),
        arguments: EngineUnderTest.all
    )
    func missedPush(engine: EngineUnderTest) async throws {
        try await Self.withAssignment(engine) { fixture, device, package, queue in
            let store = fixture.store
            func resend() async throws -> Bool { try await store.resendMissedPush(of: device.id, type: .firmware) }
            #expect(try await resend() == false, "nothing was missed yet")
            #expect(try await store.initiate(package.id, of: device.id, type: .firmware))
            // Its push was missed, and its message is not settled yet.
            let sent = try await Self.all(queue)
            let mark = await store.waitForAssignments(since: nil)
            #expect(try await resend())
            #expect(await store.waitForAssignments(since: nil) > mark)
            #expect(try await resend())
            #expect(try await store.assignments().map(\.cause) == [.resent])
            try await Self.handOn(fixture, to: queue)
            try await queue.settle(sent.map { SettledMessage($0) })
            let waiting = try await Self.due(fixture, queue).messages
            #expect(waiting.map(\.id) == sent.map(\.id), "it has the place of the one before")
            #expect(waiting.first?.since == sent.first?.since)
            #expect(try await resend())
            try await store.settle(try await store.assignments().map(\.id))
            try await store.noteNotified(device.id, .firmware, of: package.id)
            #expect(try await resend() == false)
        }
    }
}
