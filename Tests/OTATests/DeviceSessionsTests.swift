import FoundationEssentials
import NodeKit
import Synchronization
import Testing

@testable import OTA

@Suite struct DeviceSessionsTests {
    /// Remembers who was told what.
    private final class Log: Sendable {
        private let entries = Mutex<[String]>([])
        var all: [String] { self.entries.withLock { $0 } }
        func add(_ entry: String) { self.entries.withLock { $0.append(entry) } }
    }

    private static func begin(
        _ sessions: DeviceSessions,
        _ device: UUID,
        _ name: String?,
        max: Int,
        _ log: Log
    ) -> DeviceSessions.Subscription {
        sessions.beginSession(device, name: name, sessionsMax: max, replaced: { log.add("\(name ?? "?") replaced") }) {
            _ in
            log.add("\(name ?? "?") notified")
            return true
        }
    }

    @Test("one session more than a device may have ends the oldest, which listens no more")
    func oldest() {
        let (sessions, device, log) = (DeviceSessions(), UUID.random(), Log())
        _ = sessions.subscribe(device) { _ in log.add("listener notified") }
        let first = Self.begin(sessions, device, "a", max: 2, log)
        _ = Self.begin(sessions, device, "b", max: 2, log)
        #expect(log.all.isEmpty && sessions.sessionCount(of: device) == 2)
        _ = Self.begin(sessions, device, nil, max: 2, log)
        #expect(log.all == ["a replaced"] && sessions.sessionCount(of: device) == 2)
        #expect(sessions.notify(device, .attributesDeleted([])) == 3)
        #expect(log.all.dropFirst() == ["listener notified", "b notified", "? notified"])
        sessions.unsubscribe(first)
        #expect(sessions.sessionCount(of: device) == 2)
    }

    @Test("what waits for a listener is offered to one that says so later, and is taken once")
    func offered() {
        let (sessions, device, log) = (DeviceSessions(), UUID.random(), Log())
        let takes = Mutex(false)
        let late = sessions.subscribeSelectively(device, isOfferedHeld: false) { _ in takes.withLock { $0 } }
        let held = sessions.notifyOrHold(device, .attributesDeleted([])) { log.add("taken") }
        #expect(held != nil)
        sessions.offerHeld(to: late)
        #expect(log.all.isEmpty && sessions.heldCount == 1)
        takes.withLock { $0 = true }
        for _ in 0..<2 { sessions.offerHeld(to: late) }
        #expect(log.all == ["taken"] && sessions.heldCount == 0)
    }

    @Test("a session ends that of the same name, whatever there is room for")
    func namesake() {
        let (sessions, device, log) = (DeviceSessions(), UUID.random(), Log())
        for name in ["a", "b", nil, nil, "a"] { _ = Self.begin(sessions, device, name, max: 10, log) }
        #expect(log.all == ["a replaced"] && sessions.sessionCount(of: device) == 4)
    }

    @Test("names that only look the same are those of two sessions", .bug(id: "D1.2"))
    func equivalentNames() {
        let (sessions, device, log) = (DeviceSessions(), UUID.random(), Log())
        for name in ["caf\u{E9}", "cafe\u{301}", "K", "\u{212A}"] {
            _ = Self.begin(sessions, device, name, max: 10, log)
        }
        #expect(log.all.isEmpty && sessions.sessionCount(of: device) == 4)
        _ = Self.begin(sessions, device, "cafe\u{301}", max: 10, log)
        #expect(log.all.count == 1 && sessions.sessionCount(of: device) == 4)
    }

    @Test("sessions of one device do not end those of another, and one that ended makes room")
    func apart() {
        let (sessions, log) = (DeviceSessions(), Log())
        let (one, other) = (UUID.random(), UUID.random())
        let first = Self.begin(sessions, one, "a", max: 1, log)
        _ = Self.begin(sessions, other, "a", max: 1, log)
        sessions.unsubscribe(first)
        #expect(sessions.sessionCount(of: one) == 0 && sessions.sessionCount(of: other) == 1)
        _ = Self.begin(sessions, one, "b", max: 1, log)
        #expect(log.all.isEmpty)
    }

    @Test("who watches for arrivals hears of listeners with its interests, each device once")
    func arrivals() async {
        let sessions = DeviceSessions()
        let (one, other, third) = (UUID.random(), UUID.random(), UUID.random())
        let arrivals = sessions.watchArrivals(interestedIn: .attributes)
        _ = sessions.subscribeSelectively(third, interests: .calls) { _ in true }
        for _ in 0..<2 { _ = sessions.subscribeSelectively(one, interests: [.attributes, .calls]) { _ in true } }
        let late = sessions.subscribeSelectively(other, isOfferedHeld: false) { _ in true }
        #expect(await arrivals.next() == [one])
        sessions.offerHeld(to: late, interests: .attributes)
        #expect(await arrivals.next() == [other])
        // One that waits is woken, also by the end of its task.
        let waiting = Task { await arrivals.next() }
        _ = sessions.subscribeSelectively(third, interests: .attributes) { _ in true }
        #expect(await waiting.value == [third])
        let cancelled = Task { await arrivals.next() }
        cancelled.cancel()
        #expect(await cancelled.value == [])
        sessions.unwatch(arrivals)
        _ = sessions.subscribeSelectively(third, interests: .attributes) { _ in true }
        let ended = Task { await arrivals.next() }
        ended.cancel()
        #expect(await ended.value == [])
    }

    @Test("a reply with an offer that is settled is news again after a push, and beside another offer", .bug(id: "T2"))
    func settled() async throws {
        let sessions = DeviceSessions()
        let arrivals = sessions.watchArrivals(interestedIn: .attributes)
        let device = DeviceId.random().uuid
        let other = DeviceId.random().uuid
        let one: JSON.Object = ["fw_title": "t", "fw_version": "1", "fw_url": "u"]
        let two: JSON.Object = ["fw_title": "t", "fw_version": "2", "fw_url": "u"]
        /// Whether a reply with this offer is news; the other device's reply always is.
        func isNews(_ offer: JSON.Object) async -> Bool {
            sessions.replied(to: device, offer)
            sessions.replied(to: other, one)
            return await arrivals.next().contains(device)
        }
        #expect(await isNews(one))
        arrivals.settle(device, [.firmware: one])
        #expect(await !isNews(one))
        #expect(await isNews(two))
        #expect(await !isNews(one))
        sessions.notify(device, .attributesUpdated(["x": 1]))
        #expect(await !isNews(one))
        sessions.notify(device, .attributesUpdated(two))
        #expect(await isNews(one))
        arrivals.settle(device, [.firmware: one])
        let subscription = sessions.subscribeSelectively(device, interests: .attributes) { _ in true }
        #expect(await isNews(one))
        sessions.unsubscribe(subscription)
    }

    @Test("replies leave room for listeners", .bug(id: "T2"))
    func room() async throws {
        let arrivals = DeviceArrivals(interests: .attributes)
        let offer = DeviceNews(offers: [.firmware: ["fw_title": "t"]])
        for _ in 0..<DeviceArrivals.waitingMax { arrivals.add(DeviceId.random().uuid, offer) }
        let device = DeviceId.random().uuid
        arrivals.add(device)
        let waiting = await arrivals.next()
        #expect(waiting.contains(device) && waiting.count == DeviceArrivals.waitingMax / 2 + 1)
    }

    @Test("no more devices wait to be asked for than allowed")
    func arrivalsMax() async {
        let arrivals = DeviceArrivals(interests: .attributes)
        for _ in 0...DeviceArrivals.waitingMax { arrivals.add(UUID.random()) }
        #expect(await arrivals.next().count == DeviceArrivals.waitingMax)
    }
}
