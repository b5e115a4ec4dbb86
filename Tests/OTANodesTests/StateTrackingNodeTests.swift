import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

@Suite struct StateTrackingNodeTests {
    private let store = FakeStore()

    private func track(_ data: JSON, _ type: MessageType = .postTelemetryRequest) async throws -> Emission {
        try await StateTrackingNode.make(services: self.store.services()).process(.of(type, [:], data))
    }

    private var reports: [StateReport] { self.store.look { $0.reports } }

    @Test(arguments: [["temperature": 20], [:], [], ["fw_state": nil], ["fw_progress": "much"]] as [JSON])
    func `lets a message without a report pass`(data: JSON) async throws {
        #expect(try await self.track(data).only.relation == .success)
        #expect(self.reports.isEmpty)
    }

    @Test(arguments: [MessageType.postTelemetryRequest, .postAttributesRequest])
    func `records what telemetry and client attributes say`(type: MessageType) async throws {
        let data: JSON = ["fw_state": "DOWNLOADING", "fw_progress": 40, "fw_version": "1"]
        #expect(try await self.track(data, type).only.relation == .success)
        #expect(
            self.reports == [
                StateReport(
                    type: .firmware,
                    state: "DOWNLOADING",
                    progress: 40,
                    timestamp: Timestamp(milliseconds: 1000)
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
        #expect(try await self.track(again).only.relation == .success)
        let done: JSON = [["fw_state": "FAILED"], ["fw_state": "UPDATED"], ["fw_progress": 100]]
        self.store.look {
            $0.results = [.recorded(.failed), .recorded(.updated), .recorded(.updated)]
        }
        #expect(try await self.track(done).only.relation == "Updated")
    }

    @Test func `a message about both kinds leaves by two relations`() async throws {
        let data: JSON = ["fw_state": "UPDATED", "sw_state": "FAILED", "sw_error": "boom"]
        let routes = try await self.track(data).routes
        #expect(routes.map(\.relation) == ["Updated", "Failed"])
        #expect(routes.map { $0.message.metadata.string("packageType") } == ["FIRMWARE", "SOFTWARE"])
    }

    @Test func `a report about one kind does not hide that of the other`() async throws {
        let data: JSON = ["fw_state": "VERIFIED", "sw_state": "FAILED"]
        #expect(try await self.track(data).routes.map(\.relation) == ["Failed"])
    }

    @Test func `a report that does not fit leaves by Flagged`() async throws {
        self.store.look { $0.results = [.flagged] }
        let (message, relation) = try await self.track(["fw_state": "IDLE"]).only
        #expect(relation == "Flagged")
        #expect(message.metadata.string("fw_state") == "IDLE")
    }

    @Test(arguments: [OtaUpdateState.failed, .updated, .downloading])
    func `a repetition leaves by Success`(state: OtaUpdateState) async throws {
        self.store.look { $0.results = [.duplicate(state)] }
        #expect(try await self.track(["fw_state": .string(state.rawValue)]).only.relation == .success)
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
        self.store.look { $0.failure = NodeError(.unavailable, "busy") }
        await #expect(throws: NodeError.self) { try await self.track(["fw_state": "UPDATED"]) }
    }
}
