import Logging
import NIOCore
public import NodeKit
import Synchronization
import Waiting

/// Calls an HTTP server about each message: a webhook.
///
/// The message waits for the answer, and so does whoever waits for the message: a device's own message should pass a `throttle`
/// first, which also keeps what cannot be delivered. A call that could not be made, or that the server could not take now (408,
/// 425, 429 and 5xx), is made again after a pause that doubles; redirections are not followed. A URL's scheme, host and port are
/// those of the chain file, whatever a device says.
///
/// | Relation  | When                                                                        |
/// |-----------|-----------------------------------------------------------------------------|
/// | `Success` | The server answered with a status of 2xx.                                   |
/// | `Failure` | It answered with another one, or not at all, or too many calls wait.        |
public struct HTTPCallNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "http-call",
        summary: "Calls an HTTP server about each message: a webhook.",
        relations: [
            RelationDescriptor(.success, "The server answered with a status of 2xx."),
            RelationDescriptor(.failure, "It answered with another one, or not at all, or too many calls wait."),
        ],
        attributes: [
            .string(
                "url",
                summary: "http:// or https://; {name} in path or query stands for a variable's value, percent-encoded."
            ),
            .string(
                "method",
                default: HTTPCall.Method.post.rawValue,
                oneOf: HTTPCall.Method.allCases.map(\.rawValue),
                summary: "The method of the request."
            ),
            .string(
                "headers",
                optional: true,
                summary: "A JSON object of header fields and their texts, such as {\"Authorization\": \"Bearer …\"}."
            ),
            .string(
                "json",
                optional: true,
                summary:
                    "What is sent; a text \"{name}\" in it becomes a variable's value. By default the message's data."
            ),
            .duration(
                "timeout-seconds",
                .seconds,
                default: 10,
                in: 1...300,
                summary: "How long one try may take, from connecting to the end of the answer."
            ),
            .integer("attempts-max", default: 3, in: 1...100, summary: "How often a call is tried."),
            .duration(
                "backoff-milliseconds",
                .milliseconds,
                default: 500,
                in: 0...3_600_000,
                summary: "The pause before the second try; it doubles with each further one, up to a minute."
            ),
            .integer(
                "in-flight-max",
                default: 32,
                in: 1...1024,
                unit: "calls",
                summary: "How many calls are made side by side."
            ),
            .integer(
                "waiting-max",
                default: 1000,
                in: 0...1_000_000,
                unit: "calls",
                summary: "How many more may wait for their turn; one more fails with 'too-many-requests'."
            ),
            .integer(
                "answer-bytes-max",
                default: 65_536,
                in: 0...16_777_216,
                unit: "bytes",
                summary: "How much of an answer is read; the rest is cut off."
            ),
            .string(
                "tls-ca-file",
                optional: true,
                summary: "PEM file with the authorities that issue the server's certificate, in place of the system's."
            ),
        ],
        variables: [
            VariableDescriptor("httpStatus", "The status that the server answered with; empty if it did not."),
            VariableDescriptor("httpAnswer", "What it answered, as text."),
        ]
    )

    /// The longest pause before a call is tried again.
    static let backoffMax = Duration.seconds(60)

    private let request: HTTPCallTemplate
    private let calls: any OutsideCalls
    private let timeout: Duration
    private let attemptsMax: Int
    private let backoff: Duration
    private let slots: CallSlots
    private let clock: any Clock<Duration>
    private let tasks: BackgroundTasks
    private let logger: Logger

    /// Reads the configuration and the file with authorities; opens nothing and starts nothing.
    ///
    /// - Throws: ``NodeError`` with code `bad-value` if the URL, the header fields or the JSON cannot be used, and `tls-files`
    ///   for the authorities.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.request = try HTTPCallTemplate(configuration)
        self.timeout = configuration.duration("timeout-seconds")
        let client = try HTTPCallClient(
            endpoint: self.request.endpoint,
            authorityFile: configuration.stringIfPresent("tls-ca-file"),
            connectTimeout: self.timeout,
            answerBytesMax: Int(configuration.integer("answer-bytes-max")),
            eventLoopGroup: services.eventLoopGroup
        )
        self.calls = services.find((any OutsideCalls).self) ?? client
        self.attemptsMax = Int(configuration.integer("attempts-max"))
        self.backoff = configuration.duration("backoff-milliseconds")
        self.slots = CallSlots(
            max: Int(configuration.integer("in-flight-max")),
            waitingMax: Int(configuration.integer("waiting-max"))
        )
        self.clock = services.clock
        self.tasks = services.tasks
        self.logger = services.logger
    }

    /// Calls the server until it answers, at most as often as allowed.
    public func process(_ message: Message) async throws -> Emission {
        let call = try self.request.call(for: message)
        try await self.slots.take()
        defer { self.slots.give() }
        var pause = self.backoff
        var attempt = 1
        while true {
            let failure: (error: NodeError, answer: OutsideCall.Answer?)
            do {
                let answer = try await self.answer(to: call)
                guard let error = answer.error(from: self.request.endpoint) else {
                    return .route(Self.message(message, answer), to: .success)
                }
                failure = (error, answer)
            } catch {
                failure = (NodeError(wrapping: error), nil)
            }
            guard failure.error.isRetryable, attempt < self.attemptsMax, !Task.isCancelled else {
                var failed = Self.message(message, failure.answer)
                failed.metadata["error"] = .string(failure.error.message)
                failed.metadata["errorCode"] = .string(failure.error.code.rawValue)
                return .route(failed, to: .failure)
            }
            self.logger.debug(
                "a call failed and is made again",
                metadata: ["device.name": "\(message.originator.name)", "error": "\(failure.error)"]
            )
            attempt += 1
            // Cancellation shows in the next failure.
            try? await self.clock.sleep(for: pause)
            pause = min(pause * 2, Self.backoffMax)
        }
    }

    /// Makes a call, which ends with its time by the node's clock.
    ///
    /// One that is under way is finished also when the host stops: the server may have done what it was asked.
    private func answer(to call: OutsideCall) async throws -> OutsideCall.Answer {
        try await self.tasks.withoutCancellation {
            try await withThrowingTaskGroup(of: OutsideCall.Answer.self) { group in
                group.addTask { try await self.calls.answer(to: call) }
                group.addTask {
                    try await self.clock.sleep(for: self.timeout)
                    throw NodeError(.timedOut, "'\(self.request.endpoint.authority)' did not answer in time")
                }
                defer { group.cancelAll() }
                guard let answer = try await group.next() else { throw CancellationError() }
                return answer
            }
        }
    }

    private static func message(_ message: Message, _ answer: OutsideCall.Answer?) -> Message {
        var message = message
        message.metadata["httpStatus"] = answer.map { .integer(Int64($0.status)) }
        // A chain cannot use an answer with U+0000 in it; see ``NullCharacter``.
        let text = answer.map { String(buffer: $0.body) }.flatMap { $0.utf8.contains(0) ? nil : $0 }
        message.metadata["httpAnswer"] = text.map(JSON.string)
        return message
    }
}

/// Lets so many calls be made side by side, and so many wait for that, first come, first served.
final class CallSlots: Sendable {
    private struct State {
        var free: Int
        /// Each gets `true` when its turn comes, `false` when its task is cancelled before.
        var waiting: [OneShot<Bool>] = []
    }

    private let state: Mutex<State>
    private let waitingMax: Int

    init(max: Int, waitingMax: Int) {
        self.state = Mutex(State(free: max))
        self.waitingMax = waitingMax
    }

    /// How many wait now.
    var waitingCount: Int { self.state.withLock { $0.waiting.count } }

    /// Waits for a slot; end with ``give()``.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/tooManyRequests`` if too many wait, and with
    ///   ``NodeError/Code/unavailable`` if the task is cancelled.
    func take() async throws(NodeError) {
        let turn = OneShot<Bool>()
        let isFull = self.state.withLock { state in
            if state.free > 0 {
                state.free -= 1
                turn.finish(true)
                return false
            }
            guard state.waiting.count < self.waitingMax else { return true }
            state.waiting.append(turn)
            return false
        }
        guard !isFull else {
            throw NodeError(
                .tooManyRequests,
                "\(self.waitingMax) calls wait already; raise 'waiting-max' or 'in-flight-max', or let messages pass a throttle"
            )
        }
        guard await turn.value(cancelled: false) else {
            self.state.withLock { $0.waiting.removeAll { $0 === turn } }
            throw NodeError(.unavailable, "the host is shutting down, or its chain changes")
        }
    }

    /// Makes room for the next.
    func give() {
        self.state.withLock { state in
            while !state.waiting.isEmpty {
                // One that was cancelled a moment ago takes no slot.
                if state.waiting.removeFirst().finish(true) { return }
            }
            state.free += 1
        }
    }
}
