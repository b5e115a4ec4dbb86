import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import Synchronization
import Waiting

/// The sessions that outlive their connections, and what waits for their clients, in memory.
///
/// Such a session is known here from its first connection until it ends. It alone listens for what its client is to be told,
/// so that nothing is lost or told twice when the client leaves or comes back: it hands a notification to the connection if
/// there is one, else keeps the message.
final class KeptSessions: Sendable {
    /// Whose session it is: a client's of a device.
    struct Key: Hashable, Sendable {
        var device: UUID
        @ExactText var clientId: String
    }

    /// What a connection leaves behind.
    struct Departure: Sendable {
        var device: Originator
        var state: SessionState
        var expirySeconds: UInt32
        /// A will that is not due yet.
        var will: Will?
    }

    /// What a new connection finds.
    enum Taking {
        /// The session's state, `nil` if there is none or it was not wanted.
        case taken(SessionState?)
        /// The session has another connection, which was told to end; wait with ``left(_:)`` and try again.
        case busy
    }

    private struct Away {
        var departure: Departure
        var expires: NIODeadline
        /// When the will is due.
        var willDue: NIODeadline?
        /// Grows with every session that loses its connection.
        var sequence: UInt64
    }

    private enum Place {
        case connected(Connections.Handle)
        case away(Away)
    }

    private struct Entry {
        var place: Place
        var subscription: DeviceSessions.Subscription
        /// Opened when the connection has left; only there if a new connection waits for that.
        var left: Latch?
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        var awayCount = 0
        var nextSequence: UInt64 = 0
        /// Those that are away, the one that left first first; also some that came back since.
        var departures = Queue<(key: Key, sequence: UInt64)>()

        /// The session if it is away since the departure with this number.
        func away(_ key: Key, _ sequence: UInt64) -> Away? {
            guard case .away(let away) = self.entries[key]?.place, away.sequence == sequence else { return nil }
            return away
        }
    }

    private let limits: Limits
    private let deviceSessions: DeviceSessions
    private let state = Mutex(State())

    init(limits: Limits, deviceSessions: DeviceSessions) {
        self.limits = limits
        self.deviceSessions = deviceSessions
    }

    /// How many sessions are without a connection.
    var count: Int { self.state.withLock { $0.awayCount } }

    /// Gives a session to a connection.
    ///
    /// - Parameters:
    ///   - key: The session.
    ///   - isClean: Whether the client wants to begin anew.
    ///   - handle: The connection, if the session is to outlive it.
    /// - Returns: What is there of it, and the will of a session that ends hereby.
    func take(_ key: Key, isClean: Bool, for handle: Connections.Handle?) -> (Taking, ended: Departure?) {
        let (taking, ended, old, other) = self.state.withLock {
            state -> (Taking, Departure?, DeviceSessions.Subscription?, Connections.Handle?) in
            var entry = state.entries[key]
            var found: Departure?
            switch entry?.place {
            case .connected(let other): return (.busy, nil, nil, other)
            case .away(let away):
                found = away.departure
                state.awayCount -= 1
            case nil: break
            }
            var old: DeviceSessions.Subscription?
            if let handle {
                if entry == nil {
                    // The lock of the device's listeners is taken within this one, never the other way round.
                    let subscription = self.listen(key)
                    entry = Entry(place: .connected(handle), subscription: subscription)
                }
                entry?.place = .connected(handle)
                state.entries[key] = entry
            } else {
                old = state.entries.removeValue(forKey: key)?.subscription
            }
            return (.taken(isClean ? nil : found?.state), isClean ? found : nil, old, nil)
        }
        if let old { self.deviceSessions.unsubscribe(old) }
        other?.tell { $0.end(.sessionTakenOver, "the client connected again") }
        return (taking, ended)
    }

    /// Returns when a session's connection has left it.
    func left(_ key: Key) async {
        let left = self.state.withLock { state -> Latch? in
            guard var entry = state.entries[key], case .connected = entry.place else { return nil }
            let left = entry.left ?? Latch()
            entry.left = left
            state.entries[key] = entry
            return left
        }
        await left?.opened()
    }

    /// A connection that a session was given to is gone.
    ///
    /// - Returns: Sessions that end hereby: this one, if it is not to last, or the one that left first, to make room.
    func leave(_ key: Key, _ departure: Departure, now: NIODeadline) -> [Departure] {
        let (left, ended) = self.state.withLock { state -> (Latch?, [Departure]) in
            guard var entry = state.entries[key] else { return (nil, []) }
            let left = entry.left.take()
            guard departure.expirySeconds > 0 else {
                state.entries[key] = nil
                self.deviceSessions.unsubscribe(entry.subscription)
                return (left, [departure])
            }
            state.nextSequence += 1
            entry.place = .away(
                Away(
                    departure: departure,
                    expires: now + .seconds(Int64(departure.expirySeconds)),
                    willDue: departure.will.map { now + .seconds(Int64($0.delaySeconds)) },
                    sequence: state.nextSequence
                )
            )
            state.entries[key] = entry
            state.awayCount += 1
            state.departures.append((key, state.nextSequence))
            return (left, self.makeRoom(&state))
        }
        left?.open()
        return ended
    }

    private func makeRoom(_ state: inout State) -> [Departure] {
        var ended: [Departure] = []
        while state.awayCount > self.limits.keptSessionsMax, let (key, sequence) = state.departures.popFirst() {
            guard let away = state.away(key, sequence) else { continue }
            ended.append(self.remove(key, away, &state))
        }
        // Sessions that came back are not looked for in the queue; without this it would grow with every departure.
        if state.departures.count > 2 * state.awayCount + 16 {
            var departures = Queue<(key: Key, sequence: UInt64)>()
            for departure in state.departures.waiting where state.away(departure.key, departure.sequence) != nil {
                departures.append(departure)
            }
            state.departures = departures
        }
        return ended
    }

    private func remove(_ key: Key, _ away: Away, _ state: inout State) -> Departure {
        if let entry = state.entries.removeValue(forKey: key) { self.deviceSessions.unsubscribe(entry.subscription) }
        state.awayCount -= 1
        return away.departure
    }

    /// Begins to listen on behalf of a session.
    ///
    /// Calls that wait for a listener are offered when the client subscribes to them, not now: the lock is held.
    private func listen(_ key: Key) -> DeviceSessions.Subscription {
        self.deviceSessions.subscribeSelectively(key.device, isOfferedHeld: false) { self.notified(key, $0) }
    }

    /// Offers what waits for a listener to a session whose client has subscribed to calls or attributes.
    func offerHeld(_ key: Key, _ interests: DeviceInterests) {
        if let subscription = self.state.withLock({ $0.entries[key]?.subscription }) {
            self.deviceSessions.offerHeld(to: subscription, interests: interests)
        }
    }

    /// Something happened that the client may want to know; called on any thread.
    ///
    /// A session that its device lost ends, and its will with it.
    ///
    /// - Returns: Whether the client will be told, now or when it is back.
    @discardableResult
    func notified(_ key: Key, _ notification: DeviceNotification) -> Bool {
        let (handle, isKept) = self.state.withLock { state -> (Connections.Handle?, Bool) in
            switch state.entries[key]?.place {
            case .connected(let handle): return (handle, false)
            case .away(let away) where notification == .credentialsRevoked:
                _ = self.remove(key, away, &state)
                return (nil, true)
            case .away(var away):
                guard let packet = away.departure.state.message(for: notification) else { return (nil, false) }
                let isKept = away.departure.state.keep(packet, limits: self.limits)
                state.entries[key]?.place = .away(away)
                return (nil, isKept)
            case nil: return (nil, false)
            }
        }
        // A connection hears of revoked credentials itself.
        guard let handle, notification != .credentialsRevoked else { return isKept }
        handle.tell { $0.notified(notification, of: key) }
        return handle.takes(notification)
    }

    /// Looks what time has done.
    ///
    /// - Returns: What was left behind with a will that is due now, by its delay or because the session ends.
    func elapsed(now: NIODeadline) -> [Departure] {
        self.state.withLock { state in
            var due: [Departure] = []
            for (key, entry) in state.entries {
                guard case .away(var away) = entry.place else { continue }
                if away.expires <= now {
                    due.append(self.remove(key, away, &state))
                } else if let time = away.willDue, time <= now {
                    due.append(away.departure)
                    away.departure.will = nil
                    away.willDue = nil
                    state.entries[key]?.place = .away(away)
                }
            }
            return due
        }
    }

    /// Ends all sessions, when their node stops.
    func removeAll() {
        let entries = self.state.withLock { state in
            defer { state = State() }
            return Array(state.entries.values)
        }
        for entry in entries {
            self.deviceSessions.unsubscribe(entry.subscription)
            entry.left?.open()
        }
    }
}
