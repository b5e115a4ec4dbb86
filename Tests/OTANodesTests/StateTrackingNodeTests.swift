import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

@Suite struct StateTrackingNodeTests {
    private let domain: NodeDomain

    init() async throws {
        self.domain = try await NodeDomain()
        try await self.domain.assign()
        try await self.domain.assign("a", "2", type: .software)
    }

    private func track(_ data: JSON, _ type: MessageType = .postTelemetryRequest) async throws -> Emission {
        try await StateTrackingNode.make(services: self.domain.services()).process(.of(type, [:], data))
    }

    private var reports: [StateReport] { self.domain.updates.look { $0.reports } }

    @Test(arguments: [["temperature": 20], [:], [], ["fw_state": nil], ["fw_progress": "much"]] as [JSON])
    func `lets a message without a report pass`(data: JSON) async throws {
        #expect(try await self.track(data).only.relation == .success)
        #expect(self.reports.isEmpty)
    }

    @Test(arguments: [MessageType.postTelemetryRequest, .postAttributesRequest])
    func `records what telemetry and client attributes say`(type: MessageType) async throws {
        let data: JSON = ["fw_state": "DOWNLOADING", "fw_progress": 40, "fw_version": "1.1"]
        #expect(try await self.track(data, type).only.relation == .success)
        #expect(
            self.reports == [
                StateReport(
                    type: .firmware,
                    state: "DOWNLOADING",
                    progress: 40,
                    target: ReportedVersion(version: "1.1"),
                    timestamp: Timestamp(milliseconds: 1000),
                    source: type == .postAttributesRequest ? .attributes : .telemetry
                )
            ]
        )
    }

    @Test func `records each element of an array in order and with its own time`() async throws {
        let data: JSON = [
            ["ts": 5, "values": ["fw_state": "DOWNLOADED"]], ["ts": 6, "values": ["fw_state": "VERIFIED"]],
            ["fw_state": "UPDATING"],
        ]
        #expect(try await self.track(data).only.relation == .success)
        #expect(self.reports.map(\.state) == ["DOWNLOADED", "VERIFIED", "UPDATING"])
        #expect(self.reports.map(\.timestamp.rawValue) == [5, 6, 1000])
    }

    @Test(
        arguments: [
            (0, 0), (100, 100), (101, 100), (-1, 0), (55.9, 55), ("12", 12), (1e300, 100),
        ] as [(JSON, Int)]
    )
    func `brings progress into 0 to 100`(value: JSON, progress: Int) async throws {
        _ = try await self.track(["sw_progress": value])
        #expect(self.reports.map(\.progress) == [progress])
        #expect(self.reports.map(\.state) == [nil])
        #expect(self.reports.map(\.type) == [.software])
    }

    /// What the reports of a message say about versions: what runs, whether that is certain, and what they are about.
    private func versions(_ data: JSON, _ type: MessageType = .postTelemetryRequest) async throws -> [String] {
        _ = try await self.track(data, type)
        return self.reports.map { report in
            let running = [report.running.title, report.running.version].map { $0 ?? "-" }.joined(separator: " ")
            let target = [report.target.title, report.target.version].map { $0 ?? "-" }.joined(separator: " ")
            return "\(report.isCurrent ? "current" : "plain") \(running) about \(target)"
        }
    }

    @Test(
        .bug(id: "T1.1"),
        arguments: [
            (["current_fw_title": "a", "current_fw_version": "1"], "current a 1 about - -"),
            (["current_fw_version": "1", "fw_state": "UPDATED"], "current - 1 about - -"),
            (["fw_title": "a", "fw_version": "1"], "plain a 1 about - -"),
            (["fw_title": "a", "fw_version": "1", "fw_state": "UPDATED"], "plain a 1 about - -"),
            (["fw_title": "a", "fw_version": "1", "fw_state": "DOWNLOADING"], "current - - about a 1"),
            (["fw_version": "2", "fw_progress": 5], "current - - about - 2"),
            (["current_fw_version": "1", "fw_version": "2"], "current - 1 about - -"),
            (["current_fw_version": "1", "fw_version": "2", "fw_state": "UPDATED"], "current - 1 about - -"),
            (["current_fw_version": "1", "fw_version": "2", "fw_state": "VERIFIED"], "current - 1 about - 2"),
            (["fw_state": "UPDATED"], "plain - - about - -"),
            (["current_fw_version": 3], "current - 3 about - -"),
            (["current_fw_version": true], "current - true about - -"),
        ] as [(JSON, String)]
    )
    func `current_fw says what runs, fw_ so or what the report is about`(data: JSON, expected: String) async throws {
        for type in [MessageType.postTelemetryRequest, .postAttributesRequest] {
            self.domain.updates.look { $0.reports = [] }
            #expect(try await self.versions(data, type) == [expected])
        }
    }

    @Test(
        .bug(id: "T1.1"),
        arguments: [
            "1.10", "1.0", "2", "1.1000", "1e2", "0.00001", "1234567.123456789", "18446744073709551616", "-0.50",
        ]
    )
    func `a version without quotes is the characters that the device sent`(version: String) async throws {
        let forms = [
            "{\"current_fw_version\":\(version)}", "[{\"current_fw_version\":\(version),\"x\":null}]",
            "{\"ts\":1700000000000,\"values\":{\"current_fw_version\": \(version) , \"x\":null}}",
        ]
        for form in forms {
            self.domain.updates.look { $0.reports = [] }
            _ = try await self.track(try JSON(parsing: form))
            #expect(self.reports.map(\.running.version) == [version], "\(form)")
        }
    }

    @Test(.bug(id: "T1.1")) func `a version that is set anew is not the old spelling`() throws {
        guard case .object(var object) = try JSON(parsing: "{\"v\":1.10,\"w\":1.10}") else { return }
        object["v"] = 2.5
        #expect(object.text(of: "v") == "2.5" && object.text(of: "w") == "1.10" && object.text(of: "x") == nil)
        #expect(object == ["v": 2.5, "w": 1.1])
    }

    @Test(.bug(id: "T1.1")) func `the reports of a message are recorded in the order of their times, then places`()
        async throws
    {
        let now = Int64(1_800_000_000_000)
        func at(_ ago: Int64, _ state: JSON) -> JSON { ["ts": .integer(now - ago), "values": ["fw_state": state]] }
        var message = Message.of(
            .postTelemetryRequest,
            [:],
            [
                ["fw_state": "UPDATING"], at(10, "VERIFIED"), at(30, "DOWNLOADING"), at(10, "FAILED"),
                // The time of a clock that was never set counts as arrival.
                ["ts": 5, "values": ["fw_state": "IDLE"]], ["fw_state": "UPDATED"],
            ]
        )
        message.timestamp = Timestamp(milliseconds: now)
        _ = try await StateTrackingNode.make(services: self.domain.services()).process(message)
        let states = ["DOWNLOADING", "VERIFIED", "FAILED", "UPDATING", "IDLE", "UPDATED"]
        #expect(self.reports.map(\.state) == states)
    }

    @Test(.bug(id: "T1.5"))
    func `the error of a device's clock is known from the other reports of message and session`()
        async throws
    {
        let node = try StateTrackingNode.make(services: self.domain.services())
        let now = Int64(1_800_000_000_000)
        let session = SessionNumber()
        func send(_ ages: [Int64], _ session: SessionNumber?) async throws -> [Int64?] {
            self.domain.updates.look { $0.reports = [] }
            var message = Message.of(
                .postTelemetryRequest,
                [:],
                .array(ages.map { ["ts": .integer(now - $0), "values": ["fw_progress": 1]] })
            )
            message.timestamp = Timestamp(milliseconds: now)
            message.session = session
            _ = try await node.process(message)
            return self.reports.map { report in report.deviceTime.map { now - $0.rawValue } }
        }
        #expect(try await send([5000], nil) == [5000])
        #expect(try await send([9000, 5000], nil) == [4000, -4000])
        #expect(try await send([5000], session) == [5000])
        #expect(try await send([9000], session) == [4000])
        // Another session of the device begins without knowledge.
        #expect(try await send([9000], SessionNumber()) == [9000])
    }

    @Test(.bug(id: "T1.4")) func `a device that runs its former version again leaves by RolledBack`() async throws {
        self.domain.updates.look { $0.results = [.recorded(.failed, cause: .rolledBack, reason: "runs 1")] }
        let (message, relation) = try await self.track(["fw_state": "UPDATED", "current_fw_version": "1"]).only
        #expect(relation == "RolledBack")
        #expect(message.metadata.string("fw_state") == "FAILED")
        #expect(message.metadata.string("fw_error") == "runs 1")
        #expect(message.metadata.string("errorClass") == "INSTALLATION_FAILED")
    }

    @Test(.bug(id: "T1.4")) func `a third version leaves by Failed and keeps its class in error-classification`()
        async throws
    {
        self.domain.updates.look { $0.results = [.recorded(.failed, cause: .otherVersion, reason: "checksum")] }
        let (message, relation) = try await self.track(["fw_state": "UPDATED", "current_fw_version": "3"]).only
        #expect(relation == "Failed")
        let why = try ErrorClassificationNode.make(services: self.domain.services())
        #expect(try await why.process(message).only.relation == "INVALID_PACKAGE")
        #expect(self.domain.updates.look { $0.classes } == [.invalidPackage])
    }

    @Test(.bug(id: "T1.3")) func `a version without a state can end an update`() async throws {
        self.domain.updates.look { $0.results = [.recorded(.updated)] }
        let (message, relation) = try await self.track(["current_fw_version": "2"]).only
        #expect(relation == "Updated")
        #expect(message.metadata.string("fw_state") == "UPDATED")
    }

    @Test(.bug(id: "T1.4")) func `an interruption leaves by Success`() async throws {
        self.domain.updates.look { $0.results = [.interrupted(.downloading)] }
        #expect(try await self.track(["fw_state": "UPDATED", "current_fw_version": "1"]).only.relation == .success)
    }

    @Test func `a failure leaves by Failed with its reason`() async throws {
        let (message, relation) = try await self.track(["fw_state": "FAILED", "fw_error": "no space"]).only
        #expect(relation == "Failed")
        #expect(message.metadata.string("packageType") == "FIRMWARE")
        #expect(message.metadata.string("fw_state") == "FAILED")
        #expect(message.metadata.string("fw_error") == "no space")
    }

    @Test func `the reason may come in an element before the state`() async throws {
        let (message, relation) = try await self.track([["fw_error": "crc"], ["fw_state": "FAILED"]]).only
        #expect(relation == "Failed")
        #expect(message.metadata.string("fw_error") == "crc")
    }

    @Test func `an update that ends well leaves by Updated`() async throws {
        let data: JSON = ["current_sw_title": "a", "current_sw_version": "2", "sw_state": "UPDATED"]
        let (message, relation) = try await self.track(data).only
        #expect(relation == "Updated")
        #expect(message.metadata.string("packageType") == "SOFTWARE")
    }

    @Test func `the last report of a kind decides`() async throws {
        let again: JSON = [["fw_state": "FAILED"], ["fw_state": "DOWNLOADING"]]
        self.domain.updates.look { $0.results = [.recorded(.failed), .recorded(.downloading)] }
        #expect(try await self.track(again).only.relation == .success)
        let done: JSON = [["fw_state": "FAILED"], ["fw_state": "UPDATED"], ["fw_progress": 100]]
        self.domain.updates.look {
            $0.results = [.recorded(.failed), .recorded(.updated), .recorded(.updated)]
        }
        #expect(try await self.track(done).only.relation == "Updated")
    }

    @Test func `a message about both kinds leaves by two relations`() async throws {
        let data: JSON = ["fw_state": "UPDATED", "sw_state": "FAILED", "sw_error": "boom"]
        self.domain.updates.look { $0.results = [.recorded(.updated), .recorded(.failed)] }
        let routes = try await self.track(data).routes
        #expect(routes.map(\.relation) == ["Updated", "Failed"])
        #expect(routes.map { $0.message.metadata.string("packageType") } == ["FIRMWARE", "SOFTWARE"])
    }

    @Test func `a report about one kind does not hide that of the other`() async throws {
        let data: JSON = ["fw_state": "VERIFIED", "sw_state": "FAILED"]
        #expect(try await self.track(data).routes.map(\.relation) == ["Failed"])
    }

    @Test func `a report that does not fit leaves by Flagged`() async throws {
        self.domain.updates.look { $0.results = [.flagged(.unknownState)] }
        let (message, relation) = try await self.track(["fw_state": "IDLE"]).only
        #expect(relation == "Flagged")
        #expect(message.metadata.string("fw_state") == "IDLE")
        #expect(message.metadata.string("flag") == "UNKNOWN_STATE")
    }

    @Test(arguments: [OtaUpdateState.failed, .updated, .downloading])
    func `a repetition leaves by Success`(state: OtaUpdateState) async throws {
        self.domain.updates.look { $0.results = [.duplicate(state)] }
        #expect(try await self.track(["fw_state": .string(state.rawValue)]).only.relation == .success)
    }

    @Test(.bug(id: "T1.1")) func `a text of combining marks is recorded up to its limit, too`() async throws {
        let marks = "e" + String(repeating: "\u{301}", count: 5000)
        _ = try await self.track(["fw_state": .string(marks), "current_fw_version": .string(marks)])
        #expect(self.reports.map { $0.state?.unicodeScalars.count } == [StateTrackingNode.stateLengthMax])
        #expect(self.reports.map { $0.running.version?.unicodeScalars.count } == [ReportedVersion.lengthMax])
    }

    @Test func `long texts are recorded in part`() async throws {
        let long = JSON.string(String(repeating: "x", count: 5000))
        _ = try await self.track(["fw_state": long, "fw_error": long])
        #expect(self.reports.map { $0.state?.count } == [StateTrackingNode.stateLengthMax])
        #expect(self.reports.map { $0.error?.count } == [StateTrackingNode.errorLengthMax])
    }

    @Test func `data that is no telemetry and a store that does not answer are failures`() async throws {
        await #expect(throws: NodeError.self) { try await self.track("x") }
        await #expect(throws: NodeError.self) { try await self.track([1], .postAttributesRequest) }
        await self.domain.close()
        await #expect(throws: NodeError.self) { try await self.track(["fw_state": "UPDATED"]) }
    }
}
