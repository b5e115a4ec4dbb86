public import NodeKit
import OTA
import Synchronization

/// Records what a device reports about its update: `fw_state`, `fw_error`, `fw_progress`, and what it runs, `current_fw_title` and
/// `current_fw_version` (`sw_…` for software).
///
/// Takes telemetry in all its forms, the reports of a message in the order of their times, and client attributes. `fw_title` and
/// `fw_version` say what runs, too, when they come alone or with `UPDATED`; beside another state they name the package that the
/// report is about. What a report makes of the update is decided by `UpdateRules`: `UPDATED` counts only if the device runs the
/// target.
///
/// For each kind of package that the message is about, the last report that changed the update decides the relation; a message
/// about both may leave by two. A message leaves by `Success` only if it leaves by nothing else.
///
/// | Relation     | When                                                                                          |
/// |--------------|-----------------------------------------------------------------------------------------------|
/// | `Success`    | No report in it, progress, a step forward, or a repetition.                                   |
/// | `Updated`    | An update ended well.                                                                         |
/// | `Failed`     | An update failed.                                                                             |
/// | `RolledBack` | After the installation the device runs its former version again; the update is FAILED.        |
/// | `Flagged`    | A report does not fit the update, or there is none; it is kept in the history and changes nothing. |
/// | `Failure`    | The data could not be read, or the store could not answer.                                    |
public struct StateTrackingNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "state-tracking",
        summary:
            "Records what the device reports about its update (fw_state, fw_error, fw_progress, or sw_…) and what it runs (current_fw_version …).",
        relations: [
            RelationDescriptor(.success, "No report in it, progress, a step forward, or a repetition."),
            RelationDescriptor("Updated", "An update ended well."),
            RelationDescriptor("Failed", "An update failed; let error-classification find out why."),
            RelationDescriptor(
                "RolledBack",
                "After the installation the device runs its former version again; the update is FAILED."
            ),
            RelationDescriptor(
                "Flagged",
                "A report does not fit the update, or there is none; it is kept all the same."
            ),
            RelationDescriptor(.failure, "The data could not be read, or the store could not answer."),
        ],
        variables: [
            .packageType,
            VariableDescriptor("flag", "Why a report leaves by Flagged, such as OTHER_VERSION or NOT_SERVED."),
            VariableDescriptor(
                "errorClass",
                "Why the update failed, where that is certain: the device runs another version."
            ),
        ]
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
    private let clocks = SessionClocks()

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.updates = try services.require((any UpdateService).self)
    }

    /// Records each report before it lets the message go on.
    public func process(_ message: Message) async throws -> Emission {
        let moments = try self.moments(of: message)
        guard !moments.isEmpty else { return .route(message, to: .success) }
        var firmware = Finding()
        var software = Finding()
        for moment in moments {
            for report in [moment.firmware, moment.software] {
                guard let report else { continue }
                let result = try await self.updates.record(report, of: message.device)
                if report.type == .firmware { firmware.add(report, result) } else { software.add(report, result) }
            }
        }
        let routes = [(OtaPackageType.firmware, firmware), (.software, software)].compactMap { type, finding in
            finding.relation.map { (finding.described(in: message, as: type), $0) }
        }
        return routes.isEmpty ? .route(message, to: .success) : .routes(routes)
    }

    /// The moments that a message reports about, in the order of their times and then of their places.
    private func moments(of message: Message) throws(NodeError) -> [Moment] {
        let points = try Self.points(of: message)
        let source: StateReport.Source = message.type == .postAttributesRequest ? .attributes : .telemetry
        guard points.contains(where: { $0.timestamp != nil }) || points.count > 1 else {
            return points.first.flatMap { Moment($0, at: message.timestamp, source) }.map { [$0] } ?? []
        }
        let times = self.clocks.times(
            of: points.map(\.timestamp),
            arrival: message.timestamp,
            session: message.session
        )
        var moments: [Moment] = []
        // As save-telemetry gives times to points without one.
        var untimed = 0
        for (point, deviceTime) in zip(points, times) {
            let arrival = message.timestamp.adding(.milliseconds(untimed))
            if point.timestamp == nil { untimed += 1 }
            guard var moment = Moment(point, at: point.timestamp ?? arrival, deviceTime: deviceTime, source) else {
                continue
            }
            // A time that makes no sense counts as arrival.
            if deviceTime == nil { moment.order = arrival }
            moments.append(moment)
        }
        return moments.enumerated()
            .sorted { ($0.element.order, $0.offset) < ($1.element.order, $1.offset) }
            .map(\.element)
    }

    private static func points(of message: Message) throws(NodeError) -> [TelemetryPoint] {
        guard case .json(let data) = message.data else { return [] }
        guard message.type == .postAttributesRequest else { return try data.telemetryPoints() }
        guard case .object(let values) = data else { throw NodeError(.badRequest, "attributes must be a JSON object") }
        return [TelemetryPoint(timestamp: nil, values: values.withoutNulls)]
    }
}

/// How far the clocks of devices are off, by session.
private final class SessionClocks: Sendable {
    /// The most sessions whose clocks are known.
    ///
    /// Beyond that those are forgotten that were not asked for the longest; an unknown clock counts as right.
    static let countMax = 100_000

    private struct State {
        var young: [SessionNumber: DeviceClock] = [:]
        var old: [SessionNumber: DeviceClock] = [:]
    }

    private let state = Mutex(State())

    /// When the reports of a message were made, by the host's clock.
    func times(of stamps: [Timestamp?], arrival: Timestamp, session: SessionNumber?) -> [Timestamp?] {
        guard let session else {
            var clock = DeviceClock()
            return clock.times(of: stamps, arrival: arrival)
        }
        return self.state.withLock { state in
            var clock = state.young[session] ?? state.old.removeValue(forKey: session) ?? DeviceClock()
            let times = clock.times(of: stamps, arrival: arrival)
            if state.young.count >= Self.countMax / 2 { state = State(old: state.young) }
            state.young[session] = clock
            return times
        }
    }
}

/// What a device reports about its updates at one moment.
private struct Moment {
    /// Its place among those of a message.
    var order: Timestamp
    var firmware: StateReport?
    var software: StateReport?

    /// Reads the values of one moment; `nil` if none of them is about an update.
    ///
    /// - Parameters:
    ///   - point: The values.
    ///   - time: Their time, as stored.
    ///   - deviceTime: When the report was made, by the host's clock, if the device says.
    ///   - source: What kind of message it is.
    init?(
        _ point: TelemetryPoint,
        at time: Timestamp,
        deviceTime: Timestamp? = nil,
        _ source: StateReport.Source
    ) {
        var firmware = Values()
        var software = Values()
        for (name, value) in point.values.members {
            // Most telemetry has none of these names.
            guard let first = name.utf8.first,
                first == UInt8(ascii: "c") || first == UInt8(ascii: "f") || first == UInt8(ascii: "s"),
                let member = Member.named[name.exact]
            else { continue }
            let text = point.values.text(of: name) ?? ""
            if member.type == .firmware {
                firmware.add(member.kind, value, text)
            } else {
                software.add(member.kind, value, text)
            }
        }
        self.order = time
        self.firmware = firmware.report(.firmware, at: time, deviceTime, source)
        self.software = software.report(.software, at: time, deviceTime, source)
        guard self.firmware != nil || self.software != nil else { return nil }
    }
}

/// The names under which a device reports about an update.
private struct Member {
    enum Kind: String, CaseIterable { case state, error, progress, title, version, currentTitle, currentVersion }

    let type: OtaPackageType
    let kind: Kind

    static let named: [ExactText: Member] = Dictionary(
        uniqueKeysWithValues: OtaPackageType.allCases.flatMap { type in
            Kind.allCases.map { kind in (Self.name(of: kind, type.prefix).exact, Member(type: type, kind: kind)) }
        }
    )

    private static func name(of kind: Kind, _ prefix: String) -> String {
        switch kind {
        case .state, .error, .progress, .title, .version: "\(prefix)_\(kind.rawValue)"
        case .currentTitle: "current_\(prefix)_title"
        case .currentVersion: "current_\(prefix)_version"
        }
    }
}

/// The values of one kind of package.
private struct Values {
    private var state: String?
    private var error: String?
    private var progress: Int?
    /// `fw_title` and `fw_version`.
    private var plain = ReportedVersion()
    /// `current_fw_title` and `current_fw_version`.
    private var current = ReportedVersion()

    mutating func add(_ kind: Member.Kind, _ value: JSON, _ text: String) {
        let name = text.limited(to: ReportedVersion.lengthMax)
        switch kind {
        case .state: self.state = text.limited(to: StateTrackingNode.stateLengthMax)
        case .error: self.error = text.limited(to: StateTrackingNode.errorLengthMax)
        case .progress: self.progress = Self.percent(value)
        case .title: self.plain.title = name
        case .version: self.plain.version = name
        case .currentTitle: self.current.title = name
        case .currentVersion: self.current.version = name
        }
    }

    /// The report; `nil` if nothing is about this kind of package.
    func report(
        _ type: OtaPackageType,
        at time: Timestamp,
        _ deviceTime: Timestamp?,
        _ source: StateReport.Source
    ) -> StateReport? {
        let isAboutUpdate = self.state != nil || self.progress != nil || self.error != nil
        guard isAboutUpdate || !self.plain.isEmpty || !self.current.isEmpty else { return nil }
        // Beside a state other than UPDATED, `fw_…` is the package that the device is busy with.
        let namesTarget = self.state == nil ? isAboutUpdate : self.state != OtaUpdateState.updated.rawValue
        let running = namesTarget ? self.current : self.plain.updated(by: self.current)
        return StateReport(
            type: type,
            state: self.state,
            progress: self.progress,
            error: self.error,
            running: running,
            isCurrent: running == self.current && (namesTarget || !running.isEmpty),
            target: namesTarget ? self.plain : ReportedVersion(),
            timestamp: time,
            deviceTime: deviceTime,
            source: source
        )
    }

    /// A number of percent, brought into 0…100; `nil` for what is not a number.
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
    private var errorClass: OtaErrorClass?
    private var flag: ReportFlag?

    mutating func add(_ report: StateReport, _ result: StateReportResult) {
        // A device may send the reason in an element of its own before the one with the state.
        if let error = report.error { self.error = error }
        switch result {
        case .recorded(let state, let cause, let reason):
            guard report.state != nil || state == .updated else { return }
            self.relation = Self.relation(for: state, cause)
            self.flag = nil
            self.errorClass = cause?.errorClass
            self.state = state.rawValue
            if let reason { self.error = reason }
        case .flagged(let flag):
            guard self.relation == nil else { return }
            self.relation = "Flagged"
            self.flag = flag
            self.state = report.state
        case .duplicate, .interrupted, .unrelated: break
        }
    }

    private static func relation(for state: OtaUpdateState, _ cause: UpdateCause?) -> Relation? {
        switch (state, cause) {
        case (.failed, .rolledBack): "RolledBack"
        case (.failed, _): "Failed"
        case (.updated, _): "Updated"
        default: nil
        }
    }

    /// The message with what was found in its metadata, where it takes precedence over other elements of the data.
    func described(in message: Message, as type: OtaPackageType) -> Message {
        var message = message
        message.metadata[MessageKey.packageType] = .string(type.rawValue)
        message.metadata["\(type.prefix)_state"] = self.state.map(JSON.string)
        message.metadata["\(type.prefix)_error"] = self.error.map(JSON.string)
        message.metadata["errorClass"] = (self.errorClass?.rawValue).map(JSON.string)
        message.metadata["flag"] = (self.flag?.rawValue).map(JSON.string)
        return message
    }
}
