public import FoundationEssentials
public import NodeKit
import Synchronization
import Waiting

/// A call of a method of a device.
public struct RemoteCall: Sendable, Hashable {
    /// The device.
    public var device: Originator
    /// The method's name.
    public var method: String
    /// Its parameters.
    public var params: JSON
    /// Whether the caller wants no answer, only that the device is told.
    public var isOneWay: Bool
    /// How long the call may take, the time until the device connects included.
    public var timeout: Duration

    /// Describes a call.
    public init(device: Originator, method: String, params: JSON, isOneWay: Bool, timeout: Duration) {
        self.device = device
        self.method = method
        self.params = params
        self.isOneWay = isOneWay
        self.timeout = timeout
    }
}

extension NodeError.Code {
    /// No session of the device took the call.
    public static let deviceNotConnected: Self = "device-not-connected"
    /// What a device answered is no JSON.
    public static let badAnswer: Self = "bad-answer"
}

/// Calls of devices that are under way.
///
/// A caller's call becomes a message by a node that carries calls; another node asks the device, and a third one brings its
/// answer: what happens to a call is the chain's business. One for each host.
public final class DeviceCalls: Sendable {
    /// How many calls may be under way; those that callers wait for and those that wait for a device are counted each.
    public struct Limits: Sendable {
        /// Of all devices.
        public var callsMax = 10_000
        /// Of one device.
        public var callsPerDeviceMax = 32

        /// The limits of a host.
        public init() {}
    }

    /// How much longer than its time a call may take on its way through the chain before its caller is told that it timed out.
    static let marginMax = Duration.seconds(1)

    private struct Key: Hashable {
        var device: UUID
        var id: Int
    }

    /// How a call of a device ended.
    private enum Ending {
        case taken
        case answered(JSON)
        case badAnswer
        case timedOut
        case stopped
    }

    private struct State {
        var nextID: UInt64 = 0
        var carriers: [(id: UInt64, queue: AsyncStream<PendingCall>.Continuation)] = []
        /// Calls that a caller waits for.
        var calls = CallCount()
        /// Calls that wait for a device.
        var asked = CallCount()
        var answers: [Key: OneShot<Ending>] = [:]
        var isCarryingStored = false
        var lastRequest: Int32

        /// The next identifier of a call that a device is told, 1…2147483647: many a client keeps it in 32 bits.
        mutating func takeRequest() -> Int {
            self.lastRequest = self.lastRequest == .max ? 1 : self.lastRequest + 1
            return Int(self.lastRequest)
        }
    }

    private let sessions: DeviceSessions
    private let limits: Limits
    private let clock: any Clock<Duration>
    private let state: Mutex<State>

    /// Makes a registry without calls.
    ///
    /// - Parameters:
    ///   - sessions: Who listens on behalf of devices.
    ///   - limits: How many calls may be under way.
    ///   - clock: What measures how long callers wait.
    ///   - lastRequest: The identifier before the first one; random, so that an answer to a host that ended is not taken for
    ///     one to its successor.
    public init(
        sessions: DeviceSessions,
        limits: Limits = Limits(),
        clock: any Clock<Duration>,
        lastRequest: Int32 = .random(in: 0..<1_000_000_000)
    ) {
        self.sessions = sessions
        self.limits = limits
        self.clock = clock
        self.state = Mutex(State(lastRequest: lastRequest))
    }

    // MARK: Callers

    /// Calls a method of a device, by way of the chain.
    ///
    /// - Returns: What the chain answered, which usually is what the device did; `nil` if that is nothing.
    /// - Throws: ``NodeError`` with ``NodeError/Code/deviceNotConnected``, ``NodeError/Code/timedOut``,
    ///   ``NodeError/Code/badAnswer``, ``NodeError/Code/tooManyRequests``, or whatever the chain refused or failed with.
    public func call(_ call: RemoteCall) async throws(NodeError) -> JSON? {
        let device = call.device.id
        guard self.state.withLock({ $0.calls.enter(device, self.limits) }) else { throw self.tooMany }
        defer { self.state.withLock { $0.calls.leave(device) } }
        let pending = PendingCall(call: call)
        let carriers = self.state.withLock { $0.carriers }
        let isCarried = carriers.contains { carrier in
            if case .enqueued = carrier.queue.yield(pending) { true } else { false }
        }
        guard isCarried else {
            throw NodeError(.unavailable, "no chain takes calls of devices; add the node 'calls' to one")
        }
        let outcome = await pending.outcome.value(
            within: call.timeout + Self.marginMax,
            on: self.clock,
            late: .failed(NodeError(.timedOut, "the chain did not end the call in time")),
            cancelled: .failed(NodeError(.unavailable, "the host is shutting down"))
        )
        switch outcome {
        case .completed(.json(let answer)): return answer
        case .completed(.empty): return nil
        case .completed(nil), .later, .superseded, .ended:
            throw NodeError(
                "no-answer",
                "the chain took the call and nothing in it answered; lead RPC_CALL_FROM_SERVER_TO_DEVICE to 'rpc-request'"
            )
        case .completed(.content):
            throw NodeError("no-answer", "the chain answered the call with the bytes of a package")
        case .completed(.refused(let error)), .failed(let error): throw error
        }
    }

    // MARK: The node that carries calls

    /// Takes the calls of callers, each in a task of its own, until the task is cancelled, which also cuts off those under way.
    ///
    /// Of several who carry calls the first one gets them all.
    public func carry(_ body: @escaping @Sendable (RemoteCall) async -> Outcome) async {
        // Not bounded by itself, but by the number of calls under way.
        let (calls, queue) = AsyncStream.makeStream(of: PendingCall.self)
        let id = self.state.withLock { state in
            state.nextID += 1
            state.carriers.append((state.nextID, queue))
            return state.nextID
        }
        defer { self.state.withLock { $0.carriers.removeAll { $0.id == id } } }
        await withDiscardingTaskGroup { group in
            for await pending in calls {
                group.addTask {
                    let stopping = NodeError(.unavailable, "the host is shutting down, or its chain changes")
                    pending.outcome.finish(Task.isCancelled ? .failed(stopping) : await body(pending.call))
                }
            }
        }
    }

    /// Takes it on to carry stored calls, which one at a time may; end it with ``endCarryingStored()``.
    public func beginCarryingStored() -> Bool {
        self.state.withLock { state in
            defer { state.isCarryingStored = true }
            return !state.isCarryingStored
        }
    }

    /// Lets somebody else carry stored calls.
    public func endCarryingStored() { self.state.withLock { $0.isCarryingStored = false } }

    /// How many carry calls.
    var carrierCount: Int { self.state.withLock { $0.carriers.count } }

    // MARK: The nodes that ask and answer

    /// Tells a device's sessions of a call and waits for the answer.
    ///
    /// - Parameters:
    ///   - call: The call; one way, it has an answer as soon as a session takes it.
    ///   - waitsForDevice: Whether to wait for a session if there is none that takes calls.
    ///   - clock: What measures the time.
    ///   - onTaken: Called once a session has taken the call.
    /// - Returns: The device's answer; `nil` one way.
    /// - Throws: ``NodeError`` as ``call(_:)``.
    public func ask(
        _ call: RemoteCall,
        waitsForDevice: Bool,
        clock: any Clock<Duration>,
        onTaken: @escaping @Sendable () -> Void = {}
    ) async throws(NodeError) -> JSON? {
        let device = call.device.id
        let ending = OneShot<Ending>()
        let key: Key? = self.state.withLock { state in
            guard state.asked.enter(device, self.limits) else { return nil }
            let key = Key(device: device, id: state.takeRequest())
            if !call.isOneWay { state.answers[key] = ending }
            return key
        }
        guard let key else { throw self.tooMany }
        defer {
            self.state.withLock { state in
                state.answers[key] = nil
                state.asked.leave(device)
            }
        }
        let notification = DeviceNotification.rpcRequest(id: key.id, method: call.method, params: call.params)
        let held = self.sessions.notifyOrHold(device, notification) {
            onTaken()
            if call.isOneWay { ending.finish(.taken) }
        }
        if held == nil { onTaken() }
        if let held {
            if !waitsForDevice, self.sessions.withdraw(held) { throw self.notConnected }
        } else if call.isOneWay {
            return nil
        }
        let how = await ending.value(within: call.timeout, on: clock, late: .timedOut, cancelled: .stopped)
        let wasTaken = held.map { !self.sessions.withdraw($0) } ?? true
        switch how {
        case .taken: return nil
        case .answered(let answer): return answer
        case .badAnswer: throw NodeError(.badAnswer, "what the device answered is no JSON")
        case .timedOut where wasTaken: throw NodeError(.timedOut, "the device did not answer in time")
        case .timedOut: throw self.notConnected
        case .stopped: throw NodeError(.unavailable, "the host is shutting down, or its chain changes")
        }
    }

    /// Tells a device's sessions of a call that nobody waits for.
    public func tell(_ device: UUID, method: String, params: JSON) {
        let id = self.state.withLock { $0.takeRequest() }
        self.sessions.notify(device, .rpcRequest(id: id, method: method, params: params))
    }

    /// Brings what a device answered to whoever waits for it.
    ///
    /// - Parameters:
    ///   - request: The identifier that the device was told.
    ///   - device: Who answers; an answer of another device counts for nothing.
    ///   - answer: The answer; `nil` if it is no JSON.
    /// - Returns: Whether somebody waited.
    public func answer(_ request: Int64, of device: UUID, with answer: JSON?) -> Bool {
        guard let id = Int(exactly: request) else { return false }
        let ending = self.state.withLock { $0.answers.removeValue(forKey: Key(device: device, id: id)) }
        return ending?.finish(answer.map(Ending.answered) ?? .badAnswer) ?? false
    }

    // MARK: Errors

    private var tooMany: NodeError {
        NodeError(
            .tooManyRequests,
            "\(self.limits.callsPerDeviceMax) calls of this device are under way, or \(self.limits.callsMax) in all"
        )
    }

    private var notConnected: NodeError { NodeError(.deviceNotConnected, "no session of the device takes calls") }
}

/// A call that a caller waits for.
private struct PendingCall: Sendable {
    let call: RemoteCall
    let outcome = OneShot<Outcome>()
}

/// How many calls are under way, in all and of each device.
private struct CallCount {
    private var total = 0
    private var perDevice: [UUID: Int] = [:]

    /// Counts one in; `false` if it is one too many.
    mutating func enter(_ device: UUID, _ limits: DeviceCalls.Limits) -> Bool {
        let count = self.perDevice[device] ?? 0
        guard self.total < limits.callsMax, count < limits.callsPerDeviceMax else { return false }
        self.total += 1
        self.perDevice[device] = count + 1
        return true
    }

    /// Counts one out that was counted in.
    mutating func leave(_ device: UUID) {
        self.total -= 1
        let count = (self.perDevice[device] ?? 1) - 1
        self.perDevice[device] = count > 0 ? count : nil
    }
}
