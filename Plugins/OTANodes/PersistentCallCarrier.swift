import FoundationEssentials
import Logging
import NodeKit
import OTA

/// Carries stored calls to their devices: of each device one after the other, as soon as it listens for calls.
struct PersistentCallCarrier: Sendable {
    /// How often to look for calls whose time has run out.
    static let expiryInterval = Duration.seconds(1)

    let store: any PersistentCallService
    let sessions: DeviceSessions
    let inFlightMax: Int
    let clock: any Clock<Duration>
    let now: @Sendable () -> Timestamp
    let tasks: BackgroundTasks
    let logger: Logger

    private enum Event {
        /// A device may take calls, or has new ones.
        case due(Set<UUID>, isNew: Bool)
        /// Nothing more can be done for a device now.
        case finished(UUID)
        case cancelled
    }

    /// Carries calls until its task is cancelled.
    ///
    /// - Throws: What the store throws; what is under way then comes again.
    func run(_ outlet: any Outlet) async throws {
        try await self.store.requeueCalls()
        let arrivals = self.sessions.watchArrivals(interestedIn: .calls)
        defer { self.sessions.unwatch(arrivals) }
        try await withThrowingTaskGroup(of: Event.self) { group in
            group.addTask { .due(await arrivals.next(), isNew: false) }
            group.addTask { .due(await self.store.devicesWithNewCalls(), isNew: true) }
            group.addTask {
                while (try? await self.clock.sleep(for: Self.expiryInterval)) != nil {
                    try await self.store.expireCalls(at: self.now())
                }
                return .cancelled
            }
            var waiting: Set<UUID> = []
            var underWay: Set<UUID> = []
            /// Those under way for which something came meanwhile.
            var again: Set<UUID> = []
            while !Task.isCancelled, let event = try await group.next() {
                switch event {
                case .cancelled: break
                case .due(let devices, let isNew):
                    for device in devices {
                        if underWay.contains(device) { again.insert(device) } else { waiting.insert(device) }
                    }
                    guard !devices.isEmpty else { break }
                    if isNew {
                        group.addTask { .due(await self.store.devicesWithNewCalls(), isNew: true) }
                    } else {
                        group.addTask { .due(await arrivals.next(), isNew: false) }
                    }
                case .finished(let device):
                    underWay.remove(device)
                    if again.remove(device) != nil { waiting.insert(device) }
                }
                while underWay.count < self.inFlightMax, let device = waiting.popFirst() {
                    underWay.insert(device)
                    group.addTask {
                        try await self.carry(to: device, outlet)
                        return .finished(device)
                    }
                }
            }
            group.cancelAll()
        }
    }

    /// Carries what waits for a device, until there is nothing more or it does not take it.
    private func carry(to device: UUID, _ outlet: any Outlet) async throws {
        while !Task.isCancelled, let call = try await self.store.nextCall(of: DeviceId(device)) {
            guard try await self.carry(call, outlet) else { return }
        }
    }

    /// Carries a call.
    ///
    /// - Returns: Whether the device may take another one.
    private func carry(_ call: PersistentCall, _ outlet: any Outlet) async throws -> Bool {
        let now = self.now()
        guard now < call.expirationTime else {
            try await self.note(call, .expired)
            return true
        }
        switch await outlet.send(Self.message(for: call, at: now)) {
        case .completed(.json(let answer)):
            try await self.note(call, call.isOneWay ? .delivered : .successful, call.isOneWay ? nil : answer)
        case .completed(.empty): try await self.note(call, call.isOneWay ? .delivered : .successful)
        case .completed(nil), .completed(.content), .later, .superseded, .ended:
            try await self.note(call, .failed, "the chain took the call and nothing in it answered")
        case .completed(.refused(let error)), .failed(let error):
            return try await self.failed(call, error)
        }
        return true
    }

    private func failed(_ call: PersistentCall, _ error: NodeError) async throws -> Bool {
        // What the host cuts off when it stops comes again.
        guard !Task.isCancelled else { return false }
        switch error.code {
        case .deviceNotConnected:
            // It waits for the device to return; when its time runs out, that is noticed elsewhere.
            try await self.note(call, .queued)
            return false
        case .timedOut where call.retriesLeft > 0 && self.now() < call.expirationTime:
            try await self.note(call, .queued, retriesLeft: call.retriesLeft - 1)
        case .timedOut: try await self.note(call, .timeout, .string(error.message))
        case _ where error.isRetryable:
            try await self.note(call, .queued)
            // The chain is busy; a second is long enough not to ask it all the time.
            try? await self.clock.sleep(for: Self.expiryInterval)
        default:
            try await self.note(call, .failed, .string(error.message))
        }
        return true
    }

    private func note(
        _ call: PersistentCall,
        _ status: PersistentCall.Status,
        _ response: JSON? = nil,
        retriesLeft: Int? = nil
    ) async throws {
        // What the device did is noted also when the host is stopping.
        try await self.tasks.withoutCancellation { [store] in
            try await store.noteCall(call.id, status, response: response, retriesLeft: retriesLeft)
        }
    }

    private static func message(for call: PersistentCall, at now: Timestamp) -> Message {
        Message(
            originator: call.device,
            type: .rpcCallFromServerToDevice,
            metadata: [
                MessageKey.method: .string(call.method),
                MessageKey.oneWay: .bool(call.isOneWay),
                MessageKey.expirationTime: .integer(
                    min(now.adding(call.timeout), call.expirationTime).rawValue
                ),
                MessageKey.callId: .string(call.id.description),
            ],
            data: .json(call.params),
            timestamp: now
        )
    }
}
