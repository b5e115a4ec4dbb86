public import NodeKit
import OTA

/// Records what a device tells about its update: `fw_state`, `fw_error` and `fw_progress` (`sw_…` for software).
///
/// Takes telemetry in all its forms, each element of an array in order and with its own time, and client attributes. For
/// each kind of package that the message tells about, the last report that changed the update decides the relation; a message
/// that tells about both may leave by two. A message leaves by `Success` only if it leaves by nothing else.
///
/// | Relation  | When                                                                                          |
/// |-----------|-----------------------------------------------------------------------------------------------|
/// | `Success` | Nothing to tell: no report in it, progress, a step forward, or a repetition.                  |
/// | `Updated` | An update ended well.                                                                         |
/// | `Failed`  | An update failed.                                                                             |
/// | `Flagged` | A report did not fit the update, or there is none; it is kept in the history and changes nothing. |
/// | `Failure` | The data could not be read, or the store could not answer.                                    |
public struct StateTrackingNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "state-tracking",
        summary: "Records what the device tells about its update: fw_state, fw_error, fw_progress, or sw_….",
        relations: [
            RelationDescriptor(.success, "No report in it, progress, a step forward, or a repetition."),
            RelationDescriptor("Updated", "An update ended well."),
            RelationDescriptor("Failed", "An update failed; let error-classification find out why."),
            RelationDescriptor(
                "Flagged",
                "A report did not fit the update, or there is none; it is kept all the same."
            ),
            RelationDescriptor(.failure, "The data could not be read, or the store could not answer."),
        ],
        variables: [.packageType]
            + OtaPackageType.allCases.flatMap { type in
                [
                    VariableDescriptor("\(type.prefix)_state", "The state that the device reports."),
                    VariableDescriptor("\(type.prefix)_error", "What the device says about a failure."),
                    VariableDescriptor(
                        "\(type.prefix)_progress",
                        "Percent downloaded, 0…100, as the device reports it."
                    ),
                ]
            },
        overtakesWrites: true
    )

    /// The most characters of a state that are recorded; the longest known one has 11.
    static let stateLengthMax = 64
    /// The most characters of an error text that are recorded.
    static let errorLengthMax = 1024

    private let updates: any UpdateService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.updates = try services.require((any UpdateService).self)
    }

    /// Records each report before it lets the message go on.
    public func process(_ message: Message) async throws -> Emission {
        let points = try Self.points(of: message)
        var firmware = Finding()
        var software = Finding()
        for point in points {
            let time = point.timestamp ?? message.timestamp
            for keys in Keys.all {
                guard let report = keys.report(in: point.values, at: time) else { continue }
                let result = try await self.updates.record(report, of: message.device)
                if keys.type == .firmware { firmware.add(report, result) } else { software.add(report, result) }
            }
        }
        let routes = [(OtaPackageType.firmware, firmware), (.software, software)].compactMap { type, finding in
            finding.relation.map { (finding.described(in: message, as: type), $0) }
        }
        return routes.isEmpty ? .route(message, to: .success) : .routes(routes)
    }

    private static func points(of message: Message) throws(NodeError) -> [TelemetryPoint] {
        guard case .json(let data) = message.data else { return [] }
        guard message.type == .postAttributesRequest else { return try data.telemetryPoints() }
        guard case .object(let values) = data else { throw NodeError(.badRequest, "attributes must be a JSON object") }
        return [TelemetryPoint(timestamp: nil, values: values.withoutNulls)]
    }
}

/// The names under which a device reports about one kind of package, made once: most telemetry has none of them.
private struct Keys {
    static let all = OtaPackageType.allCases.map(Self.init)

    let type: OtaPackageType
    private let state: String
    private let error: String
    private let progress: String

    init(of type: OtaPackageType) {
        self.type = type
        self.state = "\(type.prefix)_state"
        self.error = "\(type.prefix)_error"
        self.progress = "\(type.prefix)_progress"
    }

    /// What the values tell about this kind of package; `nil` if nothing.
    func report(in values: JSON.Object, at time: Timestamp) -> StateReport? {
        let state = values[self.state].map { String($0.text.prefix(StateTrackingNode.stateLengthMax)) }
        let error = values[self.error].map { String($0.text.prefix(StateTrackingNode.errorLengthMax)) }
        let progress = values[self.progress].flatMap(Self.percent)
        guard state != nil || error != nil || progress != nil else { return nil }
        return StateReport(type: self.type, state: state, progress: progress, error: error, timestamp: time)
    }

    /// A number of percent, brought into 0…100; `nil` for what is no number.
    private static func percent(_ value: JSON) -> Int? {
        let number = value.double ?? value.string.flatMap(Double.init)
        guard let number, number.isFinite else { return nil }
        return Int(min(max(number, 0), 100))
    }
}

/// What the reports about one kind of package in one message came to.
private struct Finding {
    private(set) var relation: Relation?
    private var state: String?
    private var error: String?

    mutating func add(_ report: StateReport, _ result: StateReportResult) {
        // A device may tell the reason in an element of its own before the one with the state.
        if let error = report.error { self.error = error }
        switch result {
        case .recorded(.failed) where report.state != nil: self.relation = "Failed"
        case .recorded(.updated) where report.state != nil: self.relation = "Updated"
        case .recorded where report.state != nil: self.relation = nil
        case .flagged where self.relation == nil: self.relation = "Flagged"
        default: return
        }
        self.state = report.state
    }

    /// The message with what was found in its metadata, where it takes precedence over other elements of the data.
    func described(in message: Message, as type: OtaPackageType) -> Message {
        var message = message
        message.metadata[MessageKey.packageType] = .string(type.rawValue)
        message.metadata["\(type.prefix)_state"] = self.state.map(JSON.string)
        message.metadata["\(type.prefix)_error"] = self.error.map(JSON.string)
        return message
    }
}
