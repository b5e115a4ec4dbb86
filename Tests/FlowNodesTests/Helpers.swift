import FoundationEssentials
import Logging
import NodeKit
import Synchronization

extension Originator {
    static func numbered(_ number: UInt8) -> Originator {
        let id = UUID(uuid: (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number))
        return Originator(id: id, name: "device-\(number)", type: "default")
    }
}

extension Message {
    static func of(
        _ type: MessageType = .postTelemetryRequest,
        _ metadata: Metadata = [:],
        _ data: JSON? = nil,
        from device: UInt8 = 1
    ) -> Message {
        Message(
            originator: .numbered(device),
            type: type,
            metadata: metadata,
            data: data.map(MessageData.json) ?? .none,
            timestamp: Timestamp(milliseconds: 1000)
        )
    }
}

extension Emission {
    /// The one message and its relation; stops the test's process if there is another number of them.
    var only: (message: Message, relation: Relation) {
        precondition(self.routes.count == 1, "\(self.routes.count) routes instead of one")
        return self.routes[0]
    }
}

/// A log that remembers its lines.
final class RecordingLog: LogHandler {
    struct Line: Sendable {
        var level: Logger.Level
        var text: String
        var metadata: Logger.Metadata
    }

    private let recorded = Mutex<[Line]>([])
    let logLevelShown: Logger.Level

    init(showing level: Logger.Level) { self.logLevelShown = level }

    var lines: [Line] { self.recorded.withLock { $0 } }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { self.logLevelShown }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        let line = Line(level: event.level, text: event.message.description, metadata: event.metadata ?? [:])
        self.recorded.withLock { $0.append(line) }
    }
}
