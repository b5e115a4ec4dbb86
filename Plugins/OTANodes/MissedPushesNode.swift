import FoundationEssentials
import Logging
import NIOCore
public import NodeKit
import OTA

/// Has each device told again that returns and missed the push of its package.
///
/// A push is missed if no session of the device took it: it was not connected, or had not subscribed to its attributes yet. Then
/// its update stays as it is until a session of the device listens for attributes (MQTT: subscribes, CoAP: observes, HTTP: polls for
/// updates). Most devices ask for their attributes as well when they return, so the node waits for a moment, which begins when the
/// session listens. If a reply to the device held all that it needs to know about the package, the device has been notified and
/// nothing is sent; otherwise the assignment is put back where assignments wait
/// (`assignments`, with the cause `RESENT`), so that it keeps to the pace, the windows and the filters that the chain has for it. A reply to a device that does not listen, such as one that polls over
/// HTTP, counts at once. What was missed is stored until then, so that a restart of the host loses nothing.
///
/// | Relation  | When                                                                              |
/// |-----------|-----------------------------------------------------------------------------------|
/// | `Success` | Never: the messages come from `assignments`. It may be linked, as it was once used. |
public struct MissedPushesNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "missed-pushes",
        summary:
            "Has each device told again that returns and missed the push of its package, by way of 'assignments'.",
        relations: [
            RelationDescriptor(
                .success,
                "Never: the messages come from 'assignments'. It may be linked, as it was once used."
            )
        ],
        attributes: [
            .duration(
                "quiet-milliseconds",
                .milliseconds,
                default: 1000,
                in: 0...60_000,
                summary:
                    "How long to wait for a reply that notifies a device that returned, before the push is sent; 0 for at once."
            ),
            .integer(
                "in-flight-max",
                default: 64,
                in: 1...4096,
                summary: "How many devices are handled side by side."
            ),
        ],
        traits: .resends
    )

    /// The most devices that wait for a reply; of more it is heard when there is room, as ``DeviceArrivals`` keeps them until then.
    static let waitingMax = 100_000

    private let quietTime: Duration
    private let inFlightMax: Int
    private let updates: any UpdateService
    private let packages: any OtaPackageService
    private let sessions: DeviceSessions
    private let clock: any Clock<Duration>
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.quietTime = configuration.duration("quiet-milliseconds")
        self.inFlightMax = Int(configuration.integer("in-flight-max"))
        self.updates = try services.require((any UpdateService).self)
        self.packages = try services.require((any OtaPackageService).self)
        self.sessions = try services.require(DeviceSessions.self)
        self.clock = services.clock
        self.logger = services.logger
    }

    private enum Event {
        /// Listeners came, or replies left.
        case heard([UUID: DeviceNews])
        /// The first of the devices that wait has waited long enough.
        case due
        /// All is done for a device that can be done now.
        case finished(UUID, Ending)
    }

    private enum Ending {
        /// It was notified, or missed nothing.
        case done
        /// It left before its push could be sent.
        case left
    }

    /// Hands on devices that return, until its task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        let arrivals = self.sessions.watchArrivals(interestedIn: .attributes)
        defer { self.sessions.unwatch(arrivals) }
        outlet.ready([])
        await self.handOn(arrivals, clock: self.clock)
    }

    private func handOn<C: Clock>(_ arrivals: DeviceArrivals, clock: C) async
    where C.Duration == Duration {
        await withTaskGroup(of: Event.self) { group in
            var waiting = QuietDevices<C.Instant>()
            var inFlight: Set<UUID> = []
            /// What came of those meanwhile, as the messages of a device go one after the other.
            var again: [UUID: DeviceNews] = [:]
            /// Devices that listened for less than the wait: the next time their push is sent at once.
            var hasty: Set<UUID> = []
            var isWatching = false
            var isSleeping = false
            while !Task.isCancelled {
                if !isWatching, waiting.count < Self.waitingMax {
                    isWatching = true
                    group.addTask { .heard(await arrivals.nextNews()) }
                }
                while inFlight.count < self.inFlightMax, let (device, news) = waiting.next(at: clock.now) {
                    if inFlight.insert(device).inserted {
                        group.addTask { .finished(device, await self.notify(device, news, arrivals)) }
                    } else {
                        again[device, default: DeviceNews()].add(news)
                    }
                }
                if !isSleeping, inFlight.count < self.inFlightMax, let deadline = waiting.deadline {
                    isSleeping = true
                    group.addTask {
                        // Cancellation shows in the loop's condition.
                        try? await clock.sleep(until: deadline, tolerance: nil)
                        return .due
                    }
                }
                switch await group.next() {
                case .heard(let news):
                    isWatching = false
                    let deadline = clock.now.advanced(by: self.quietTime)
                    for (device, news) in news {
                        let isHasty = news.hasArrived && hasty.remove(device) != nil
                        waiting.add(news, of: device, until: isHasty || !news.hasArrived ? nil : deadline)
                    }
                case .due: isSleeping = false
                case .finished(let device, let ending):
                    inFlight.remove(device)
                    if ending == .left, hasty.count < Self.waitingMax { hasty.insert(device) }
                    if let news = again.removeValue(forKey: device) { waiting.add(news, of: device, until: nil) }
                case nil: break
                }
            }
            group.cancelAll()
        }
    }

    /// Has a device told of what it missed, unless a reply held it.
    private func notify(
        _ device: UUID,
        _ news: DeviceNews,
        _ arrivals: DeviceArrivals
    ) async -> Ending {
        // Most replies go to devices that missed nothing; the same offer need not be looked into again.
        arrivals.settle(device, news.offers)
        var isSettled = false
        defer { if !isSettled { arrivals.unsettle(device) } }
        do {
            var unsettledCount = 0
            // What cannot be handled stays missed, and comes when the device returns the next time.
            for assignment in try await self.updates.missedPushes(of: DeviceId(device)) {
                // What was sent to a session that ended may not have arrived, so the device is rather notified twice.
                guard !news.hasArrived || self.sessions.hasListener(of: device) else {
                    return news.offers.isEmpty ? .left : .done
                }
                if let package = try await self.package(of: assignment, offeredBy: news) {
                    try await self.updates.noteNotified(DeviceId(device), assignment.type, of: package)
                    continue
                }
                unsettledCount += 1
                if news.hasArrived {
                    try await self.updates.resendMissedPush(of: DeviceId(device), type: assignment.type)
                }
            }
            isSettled = unsettledCount == 0
        } catch {
            self.log("whether a device missed a push could not be read", device, NodeError(wrapping: error))
        }
        return .done
    }

    /// The package of an assignment, if a reply held all that the device needs to know about it.
    private func package(of assignment: Assignment, offeredBy news: DeviceNews) async throws -> OtaPackageId? {
        guard let offer = news.offers[assignment.type], let id = assignment.packageId,
            let package = try await self.packages.package(id)?.package, package.isOffered(by: offer)
        else { return nil }
        return id
    }

    private func log(_ text: Logger.Message, _ device: UUID, _ error: NodeError) {
        self.logger.log(
            level: error.isRetryable ? .warning : .error,
            text,
            metadata: ["device.id": "\(device)", "error": "\(error)"]
        )
    }
}

/// Devices that wait, each once, in the order in which they came.
private struct QuietDevices<Instant: InstantProtocol> {
    private struct Entry {
        var news: DeviceNews
        /// Until when it waits; `nil` if it does not.
        var deadline: Instant?
    }

    private var entries: [UUID: Entry] = [:]
    /// Devices with their deadlines, earliest first.
    ///
    /// A device whose entry has another deadline by now is passed over.
    private var queue = CircularBuffer<(device: UUID, deadline: Instant)>()
    private var atOnce = CircularBuffer<UUID>()

    /// How many wait.
    var count: Int { self.entries.count }

    /// When the first of them has waited long enough, or earlier.
    var deadline: Instant? { self.queue.first?.deadline }

    /// Adds what is new about a device.
    ///
    /// The wait of one that listens begins when it does, whatever replies there were before, and does not begin anew.
    ///
    /// - Parameters:
    ///   - news: What is new.
    ///   - device: The device.
    ///   - deadline: Until when it waits, not before the device that came last; `nil` if it does not.
    mutating func add(_ news: DeviceNews, of device: UUID, until deadline: Instant?) {
        var entry = self.entries[device] ?? Entry(news: DeviceNews(), deadline: nil)
        if self.entries[device] == nil || news.hasArrived && !entry.news.hasArrived {
            entry.deadline = deadline
            if let deadline { self.queue.append((device, deadline)) } else { self.atOnce.append(device) }
        }
        entry.news.add(news)
        self.entries[device] = entry
    }

    /// Takes away a device that has waited long enough, if there is one.
    mutating func next(at now: Instant) -> (device: UUID, news: DeviceNews)? {
        while let device = self.atOnce.popFirst() {
            if let news = self.take(device, deadline: nil) { return (device, news) }
        }
        while let first = self.queue.first, first.deadline <= now {
            self.queue.removeFirst()
            if let news = self.take(first.device, deadline: first.deadline) { return (first.device, news) }
        }
        return nil
    }

    private mutating func take(_ device: UUID, deadline: Instant?) -> DeviceNews? {
        guard let entry = self.entries[device], entry.deadline == deadline else { return nil }
        self.entries[device] = nil
        return entry.news
    }
}
