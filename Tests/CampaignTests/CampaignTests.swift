import NodeKit
import OTA
import Testing

@Suite struct CampaignTests {
    private static let push = #"<ota:attribute-push id="push" to="heard"/><t:heard id="heard"/>"#

    private static func paced(_ milliseconds: Int = 600) -> String {
        """
        <ota:assignments id="assigned" to="pace"/>
        <flow:throttle id="pace" interval-milliseconds="\(milliseconds)" to="window"/>
        <t:window id="window" to="push"/>
        """ + Self.push
    }

    private static let day = Duration.seconds(86_400)

    // MARK: Fair queues

    @Test("60 devices outside of their window do not hold up the 10 inside of theirs, which are last", .bug(id: "Q3"))
    func windows() async throws {
        try await Campaign.run(Self.paced()) { campaign in
            let tomorrow = campaign.domain.now().adding(Self.day)
            campaign.bench.setWindow { [now = campaign.domain.now] message in
                let isOutside = (Int(message.originator.name.dropFirst()) ?? 0) < 60
                guard isOutside, now() < tomorrow else { return nil }
                return Later(until: tomorrow, code: "maintenance-window", reason: "the window opens tomorrow")
            }
            let profile = try await campaign.domain.profile()
            let devices = try await campaign.devices(70, in: profile.id)
            let package = try await campaign.domain.package(in: profile.id)
            try await campaign.domain.assign(package.id, to: profile.id)
            await campaign.domain.pass(.seconds(10))

            let heard = campaign.heard(package)
            #expect(Set(heard.map(\.device)) == Set((60..<70).map { "d\($0)" }))
            #expect(heard.count == 10)
            let last = try #require(heard.last)
            #expect(last.time <= .seconds(7), "10 times the pace, and a second")
            for device in devices[..<60] {
                let hold = try #require(try await campaign.record(device).hold)
                #expect(hold.queue == "test/pace")
                #expect(
                    hold.reason == HoldReason(code: "maintenance-window", text: "the window opens tomorrow")
                )
                let until = try #require(hold.until)
                #expect(tomorrow <= until && until <= tomorrow.adding(.seconds(10)))
                #expect(hold.tries == 1)
            }
            for device in devices[60...] { #expect(try await campaign.record(device).hold == nil) }
            #expect(
                try await campaign.store.waitingQueues().map(\.held) == [["maintenance-window": 60]]
            )

            // Each of them is notified once when its window opens: within the spread, and at the pace.
            await campaign.domain.pass(Self.day + .seconds(40))
            let all = campaign.heard(package)
            #expect(all.count == 70 && Set(all.map(\.device)).count == 70)
            #expect(all[10...].allSatisfy { $0.time >= Self.day })
            #expect(try await campaign.store.waitingQueues().isEmpty)
        }
    }

    @Test("60 devices whose messages fail do not hold up the 10 that are last", .bug(id: "Q3"))
    func failures() async throws {
        try await Campaign.run(Self.paced()) { campaign in
            campaign.bench.setWindow { message in
                guard (Int(message.originator.name.dropFirst()) ?? 0) < 60 else { return nil }
                throw NodeError(.unavailable, "not now")
            }
            let profile = try await campaign.domain.profile()
            let devices = try await campaign.devices(70, in: profile.id)
            let package = try await campaign.domain.package(in: profile.id)
            try await campaign.domain.assign(package.id, to: profile.id)
            await campaign.domain.pass(.seconds(60))
            #expect(Set(campaign.heard(package).map(\.device)) == Set((60..<70).map { "d\($0)" }))
            let hold = try #require(try await campaign.record(devices[0]).hold)
            #expect(hold.reason == HoldReason(code: "unavailable", text: "not now"))
            #expect(hold.tries >= 1)
            // And these do not wait for each other when they can be handled again.
            campaign.bench.setWindow { _ in nil }
            await campaign.domain.pass(.seconds(70))
            #expect(campaign.heard(package).count == 70)
        }
    }

    // MARK: Superseding

    @Test(
        "after version 1 was cancelled the next token of the pace is for version 2",
        .bug(id: "Q2"),
        arguments: [25, 10_000]
    )
    func superseded(count: Int) async throws {
        try await Campaign.run(Self.paced()) { campaign in
            let profile = try await campaign.domain.profile()
            _ = try await campaign.devices(count, in: profile.id)
            let first = try await campaign.domain.package("fw", "1", in: profile.id)
            let second = try await campaign.domain.package("fw", "2", in: profile.id)
            try await campaign.domain.assign(first.id, to: profile.id)
            await campaign.domain.pass(.milliseconds(2900))
            #expect(campaign.heard(first).count == 5)

            #expect(try await campaign.store.carryOut(.cancel, on: UpdateFilter(), by: "me") == count)
            let start = campaign.time
            try await campaign.domain.assign(second.id, to: profile.id)
            await campaign.domain.pass(.milliseconds(1200))
            let early = campaign.heard(second)
            #expect(try #require(early.first).time <= start + .milliseconds(1200))
            await campaign.domain.pass(.milliseconds(4800))
            #expect(campaign.heard(second).count == 10, "each token of six seconds is spent on version 2")
            #expect(campaign.bench.heard.count == 15)

            // The rest as fast as it goes: what waits stays, whatever the pace is.
            try await campaign.reload(Self.paced(0))
            await campaign.domain.pass(.seconds(60))
            #expect(campaign.heard(second).count == count)
            #expect(Set(campaign.heard(second).map(\.device)).count == count)
            #expect(campaign.bench.heard.count == 5 + count)
            #expect(try await campaign.store.waitingQueues().isEmpty)
            #expect(try await campaign.store.assignments().isEmpty)
        }
    }

    // MARK: Dead ends

    private static func filtered(_ condition: String) -> String {
        """
        <ota:assignments id="assigned" to="only"/>
        <flow:filter id="only" test="\(condition)"><link on="True" to="push"/></flow:filter>
        """ + Self.push
    }

    @Test("a device whose message ends at a filter has the reason, until it is notified again", .bug(id: "Q5"))
    func deadEnd() async throws {
        try await Campaign.run(Self.filtered("$deviceName = 'd0'")) { campaign in
            let profile = try await campaign.domain.profile()
            let devices = try await campaign.devices(2, in: profile.id)
            let package = try await campaign.domain.package("fw", "1", in: profile.id)
            try await campaign.domain.assign(package.id, to: profile.id)
            await campaign.domain.pass(.seconds(1))
            #expect(campaign.heard(package).map(\.device) == ["d0"])
            #expect(try await campaign.record(devices[0]).hold == nil)
            let ended = HoldReason(code: "ended", text: "it ended at 'only' by 'False', which leads nowhere")
            let hold = try #require(try await campaign.record(devices[1]).hold)
            #expect(hold.reason == ended)
            #expect(hold.queue == nil && hold.until == nil)
            #expect(try await campaign.store.assignments().isEmpty)

            // Sent again the same way, it ends again; what it ended by is known anew.
            let other = UpdateFilter(devices: [devices[1].id])
            await campaign.domain.pass(.seconds(60))
            #expect(try await campaign.store.carryOut(.resend(includesUpdated: false), on: other, by: "me") == 1)
            await campaign.domain.pass(.seconds(1))
            let again = try #require(try await campaign.record(devices[1]).hold)
            #expect(again.reason == ended && again.since > hold.since)

            // By a way that leads to it, it is notified, and the reason is gone.
            try await campaign.reload(Self.filtered("true()"))
            #expect(try await campaign.store.carryOut(.resend(includesUpdated: false), on: other, by: "me") == 1)
            await campaign.domain.pass(.seconds(1))
            #expect(campaign.heard(package).map(\.device) == ["d0", "d1"])
            #expect(try await campaign.record(devices[1]).hold == nil)
        }
    }

    @Test("what a device is assigned anew has no reason of what it was assigned before", .bug(id: "Q5"))
    func assignedAnew() async throws {
        try await Campaign.run(Self.filtered("$deviceName = 'd0'")) { campaign in
            let profile = try await campaign.domain.profile()
            let devices = try await campaign.devices(2, in: profile.id)
            let first = try await campaign.domain.package("fw", "1", in: profile.id)
            let second = try await campaign.domain.package("fw", "2", in: profile.id)
            try await campaign.domain.assign(first.id, to: profile.id)
            await campaign.domain.pass(.seconds(1))
            #expect(try await campaign.record(devices[1]).hold?.reason?.code == "ended")
            try await campaign.reload(Self.filtered("true()"))
            try await campaign.domain.assign(second.id, to: profile.id)
            await campaign.domain.pass(.seconds(1))
            #expect(Set(campaign.heard(second).map(\.device)) == ["d0", "d1"])
            #expect(try await campaign.record(devices[1]).hold == nil)
        }
    }

    // MARK: Missed pushes

    @Test("a device that returns while its fleet waits keeps to the pace", .bug(id: "Q4"))
    func returns() async throws {
        try await Campaign.run(Self.paced() + #"<ota:missed-pushes id="missed" to="pace"/>"#) { campaign in
            let profile = try await campaign.domain.profile()
            let devices = try await campaign.devices(20, in: profile.id)
            let package = try await campaign.domain.package(in: profile.id)
            try await campaign.domain.assign(package.id, to: profile.id)
            await campaign.domain.pass(.milliseconds(100))
            #expect(campaign.heard(package).map(\.device) == ["d0"])
            // The first comes back, and one whose turn is still to come.
            for device in [devices[0], devices[15]] {
                _ = campaign.domain.sessions.subscribeSelectively(device.id.uuid, interests: .attributes) { _ in true }
            }
            await campaign.domain.pass(.seconds(60))
            let heard = campaign.heard(package)
            #expect(heard.count == 21)
            #expect(heard.map(\.device).filter { $0 == "d0" }.count == 2)
            #expect(heard.last?.device == "d0", "behind those that were due before")
            #expect(campaign.bench.heard.last?.cause == "RESENT")
            #expect(heard.map(\.time) == (0..<21).map { .milliseconds(600) * $0 })
        }
    }
}
