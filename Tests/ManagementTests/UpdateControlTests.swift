import NodeKit
import OTA
import Synchronization
import Testing

@testable import Management

/// Updates that are listed, and what was to be done with which.
final class FakeUpdateControl: UpdateControlService, DeviceQueryService {
    struct State {
        var listed: [ListedUpdate] = []
        var filters: [UpdateFilter] = []
        var commands: [(command: UpdateCommand, filter: UpdateFilter, who: String)] = []
        var touched = 1
        var queried: [DeviceId] = []
        var queries: [JSON.Object] = []
    }

    let state = Mutex(State())

    func findUpdates(_ filter: UpdateFilter, page: PageLink) async throws -> Page<ListedUpdate> {
        self.state.withLock { state in
            state.filters.append(filter)
            return Page(data: state.listed, totalElements: state.listed.count, link: page)
        }
    }

    func countUpdates(_ filter: UpdateFilter) async throws -> [OtaUpdateState: Int] {
        self.state.withLock { $0.filters.append(filter) }
        return [.queued: 3, .failed: 1]
    }

    func countInstalled(_ filter: UpdateFilter) async throws -> [InstalledCount] {
        self.state.withLock { $0.filters.append(filter) }
        return [InstalledCount(type: .firmware, running: ReportedVersion(title: "fw", version: "1"), count: 2)]
    }

    func carryOut(_ command: UpdateCommand, on filter: UpdateFilter, by who: String) async throws -> Int {
        self.state.withLock { state in
            state.commands.append((command, filter, who))
            return state.touched
        }
    }

    func devices(
        matching query: JSON.Object,
        of tenant: TenantId,
        after: DeviceId?,
        limit: Int
    ) async throws -> [DeviceId] {
        self.state.withLock { state in
            state.queries.append(query)
            let start = after.flatMap { state.queried.firstIndex(of: $0) }.map { $0 + 1 } ?? 0
            return Array(state.queried.dropFirst(start).prefix(limit))
        }
    }
}

@Suite struct UpdateControlTests {
    private func record(_ device: DeviceId, _ state: OtaUpdateState = .failed) -> UpdateRecord {
        UpdateRecord(
            deviceId: device,
            type: .firmware,
            packageId: nil,
            title: "fw",
            version: "2",
            state: state,
            entered: [:],
            attempts: 2,
            error: "cancelled by x",
            failureCause: .cancelled,
            retryTime: Timestamp(milliseconds: 5),
            activeTime: Timestamp(milliseconds: 7)
        )
    }

    @Test("updates are listed with their devices, by the filter of the query")
    func list() async throws {
        try await TestServer.run { server in
            let device = DeviceId.random()
            let profile = server.services.defaultProfile.id
            let stored = OtaPackage(deviceProfileId: profile, type: .firmware, title: "fw", version: "2")
            server.services.state.withLock { $0.packages[stored.id] = stored }
            let package = stored.id
            let control = server.services.updateControl
            control.state.withLock {
                $0.listed = [ListedUpdate(record: self.record(device), deviceName: "d", deviceProfileId: profile)]
            }
            let query = "type=firmware&state=FAILED,QUEUED&packageId=\(package)&deviceProfileId=\(profile)"
            let response = try await server.get("/api/updates?\(query)&pageSize=10&page=0")
            #expect(response.status == 200)
            let update = try #require(try response.json["data"]?.array?.first)
            #expect(update["deviceName"] == "d")
            #expect(update["deviceProfileId"]?["id"] == .string(profile.description))
            #expect(update["failureCause"] == "CANCELLED" && update["retryTime"] == 5 && update["lastChange"] == 7)
            let filter = UpdateFilter(
                type: .firmware,
                states: [.failed, .queued],
                packageId: package,
                deviceProfileId: profile
            )
            #expect(control.state.withLock { $0.filters } == [filter])
            let counts = try await server.get("/api/updates/count?\(query)").json
            #expect(counts["QUEUED"] == 3 && counts["FAILED"] == 1 && counts["UPDATED"] == 0)
            try (try await server.get("/api/updates?pageSize=1&page=0&state=DONE")).expectError(
                400,
                31,
                "'DONE' is no update state; known are QUEUED, INITIATED, DOWNLOADING, DOWNLOADED, VERIFIED, UPDATING, "
                    + "UPDATED, FAILED"
            )
            try (try await server.get("/api/updates?page=0")).expectError(
                400,
                31,
                "Parameter 'pageSize' can't be empty!"
            )
            try (try await server.send(.GET, "/api/updates", json: [:], token: nil)).expectError(401, 10)
        }
    }

    @Test(
        "a command for one device answers with its record, or says why it does not fit",
        arguments: UpdateCommand.allCases
    )
    func one(command: UpdateCommand) async throws {
        try await TestServer.run { server in
            let control = server.services.updateControl
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            let path = "/api/device/\(id)/update/FIRMWARE/\(command.rawValue)"
            try (try await server.post(path, [:])).expectError(
                404,
                32,
                "Device with id [\(id)] never had a FIRMWARE update"
            )
            let device = try #require(DeviceId(id))
            server.services.state.withLock { $0.records = [self.record(device, .updated)] }
            let response = try await server.send(.POST, path)
            #expect(response.status == 200)
            #expect(try response.json["state"] == "UPDATED")
            let sent = try #require(control.state.withLock { $0.commands.first })
            #expect(sent.command == command)
            #expect(sent.filter == UpdateFilter(type: .firmware, devices: [device]))
            #expect(sent.who == TestServer.userName)
            control.state.withLock { $0.touched = 0 }
            let sentence =
                switch command {
                case .retry: "The update to fw 2 is UPDATED; only one that FAILED or was cancelled can be retried"
                case .cancel: "The update to fw 2 is UPDATED; there is nothing to cancel"
                case .resend: "The update to fw 2 is not that to the device's present package"
                }
            try (try await server.send(.POST, path)).expectError(409, 35, sentence)
            let unknown = DeviceId.random()
            try (try await server.post("/api/device/\(unknown)/update/FIRMWARE/\(command.rawValue)", [:]))
                .expectError(404, 32, "Device with id [\(unknown)] is not found")
        }
    }

    @Test("a command for a profile or a filter answers with the number of devices")
    func many() async throws {
        try await TestServer.run { server in
            let control = server.services.updateControl
            control.state.withLock { $0.touched = 7 }
            let profile = server.services.defaultProfile.id
            let byProfile = try await server.post("/api/deviceProfile/\(profile)/update/software/retry", [:])
            #expect(try byProfile.json == ["devices": 7])
            let device = DeviceId.random()
            let body: JSON = [
                "type": "FIRMWARE", "states": ["FAILED"], "deviceProfileId": .string(profile.description),
                "deviceIds": [
                    ["entityType": "DEVICE", "id": .string(device.description)], .string(device.description),
                ],
            ]
            #expect(try await server.post("/api/updates/cancel", body).json == ["devices": 7])
            #expect(try await server.post("/api/updates/resend", ["all": true]).json == ["devices": 7])
            let filters = control.state.withLock { $0.commands.map(\.filter) }
            #expect(
                filters == [
                    UpdateFilter(type: .software, deviceProfileId: profile),
                    UpdateFilter(
                        type: .firmware,
                        states: [.failed],
                        deviceProfileId: profile,
                        devices: [device, device]
                    ),
                    UpdateFilter(),
                ]
            )
            let unknown = DeviceProfileId.random()
            try (try await server.post("/api/deviceProfile/\(unknown)/update/FIRMWARE/retry", [:]))
                .expectError(404, 32, "Device profile with id [\(unknown)] is not found")
        }
    }

    @Test(
        "a body that does not say which updates are meant is refused",
        arguments: [
            "", "[]", "{}", #"{"type":"FIRMWARE"}"#, #"{"all":false}"#, #"{"states":"FAILED"}"#, #"{"states":["X"]}"#,
            #"{"deviceIds":[]}"#, #"{"deviceIds":["x"]}"#, #"{"deviceIds":[null]}"#, #"{"packageId":"x"}"#,
            #"{"entityFilter":{},"deviceIds":["f14a55d0-0000-11ef-8000-000000000001"]}"#,
        ]
    )
    func refused(body: String) async throws {
        try await TestServer.run { server in
            let response = try await server.send(
                .POST,
                "/api/updates/retry",
                [:],
                .init(string: body),
                token: server.token
            )
            try response.expectError(400, 31)
            #expect(server.services.updateControl.state.withLock { $0.commands.isEmpty })
        }
    }

    @Test("as many devices can be named as allowed and not one more")
    func devicesMax() async throws {
        try await TestServer.run { server in
            for (count, status) in [(UpdateFilter.devicesMax, 200), (UpdateFilter.devicesMax + 1, 400)] {
                let ids = (0..<count).map { _ in JSON.string(DeviceId.random().description) }
                let response = try await server.post("/api/updates/retry", ["deviceIds": .array(ids)])
                #expect(response.status == status)
            }
        }
    }

    @Test("a command for what an entity query finds goes through all of it")
    func query() async throws {
        try await TestServer.run { server in
            let control = server.services.updateControl
            let count = UpdateFilter.devicesMax + 1
            control.state.withLock { $0.queried = (0..<count).map { _ in .random() } }
            let body: JSON = [
                "entityFilter": ["type": "deviceType", "deviceTypes": ["default"]], "keyFilters": [],
                "type": "FIRMWARE",
                "states": ["FAILED"],
            ]
            let answer = try await server.post("/api/updates/retry", body).json
            #expect(answer == ["devices": 2])
            let state = control.state.withLock { ($0.commands.map(\.filter), $0.queries) }
            #expect(state.0.map { $0.devices?.count } == [UpdateFilter.devicesMax, 1])
            #expect(state.0.allSatisfy { $0.type == .firmware && $0.states == [.failed] })
            #expect(state.1.allSatisfy { $0["entityFilter"]?["type"] == "deviceType" })
        }
    }
}
