import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import Management

/// Finds devices as a store does, and notes how many it found each time.
private final class NotedQueries: DeviceQueryService {
    let queries: EntityQueries
    let counts = Mutex<[Int]>([])

    init(_ entities: any EntityQueryService) { self.queries = EntityQueries(entities: entities) }

    func devices(
        matching query: JSON.Object,
        of tenant: TenantId,
        after: DeviceId?,
        limit: Int
    ) async throws -> [DeviceId] {
        let found = try await self.queries.devices(matching: query, of: tenant, after: after, limit: limit)
        self.counts.withLock { $0.append(found.count) }
        return found
    }
}

@Suite struct UpdateControlTests {
    /// Devices of two profiles, each with an update to `fw 2` or `sw 2`.
    private struct Fleet {
        let domain: TestDomain
        let profile: DeviceProfile
        let other: DeviceProfile
        let packages: [DeviceProfileId: [OtaPackageType: OtaPackage]]

        init(_ server: TestServer) async throws {
            self.domain = server.domain
            self.profile = try await self.domain.store.defaultDeviceProfile(of: .main)
            self.other = try await self.domain.profile("other")
            var packages: [DeviceProfileId: [OtaPackageType: OtaPackage]] = [:]
            for profile in [self.profile, self.other] {
                for (type, title) in [(OtaPackageType.firmware, "fw"), (.software, "sw")] {
                    // A title and a version are one package's alone.
                    let title = profile.id == self.profile.id ? title : "\(title) of \(profile.name)"
                    packages[profile.id, default: [:]][type] =
                        try await self.domain.package(title, "2", type: type, in: profile.id)
                }
            }
            self.packages = packages
        }

        /// Makes a device with an update in a state.
        @discardableResult
        func device(
            _ name: String,
            _ state: OtaUpdateState,
            _ type: OtaPackageType = .firmware,
            in profile: DeviceProfile? = nil
        ) async throws -> DeviceId {
            let profile = profile ?? self.profile
            let device = try await self.domain.device(name, in: profile.id).id
            try await self.domain.assign(self.packages[profile.id]?[type]?.id, to: device, type: type)
            if state != .queued { try await self.report(state, of: device, type) }
            return device
        }

        func report(_ state: OtaUpdateState, of device: DeviceId, _ type: OtaPackageType = .firmware) async throws {
            let title = type == .firmware ? "fw" : "sw"
            let report = StateReport(
                type: type,
                state: state.rawValue,
                running: state == .updated ? ReportedVersion(title: title, version: "2") : ReportedVersion(),
                timestamp: self.domain.now()
            )
            #expect(try await self.domain.store.record(report, of: device) == .recorded(state))
        }

        /// The states of all updates, by the names of their devices.
        func states() async throws -> [String: String] {
            let updates = try await self.domain.store.findUpdates(UpdateFilter(), page: PageLink(pageSize: 100)).data
            return Dictionary(updates.map { ($0.deviceName, $0.record.state.rawValue) }) { "\($0) \($1)" }
        }
    }

    @Test("updates are listed with their devices, by the filter of the query")
    func list() async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            let (profile, store) = (fleet.profile.id, server.store)
            let package = try #require(fleet.packages[profile]?[.firmware]?.id)
            try await fleet.device("queued", .queued)
            let cancelled = try await fleet.device("cancelled", .downloading)
            let retried = try await fleet.device("retried", .failed)
            // Each lacks one thing that the query asks for.
            try await fleet.device("of another state", .downloading)
            try await fleet.device("of another type", .failed, .software)
            try await fleet.device("of another profile", .failed, in: fleet.other)
            let another = try await server.domain.package("fw", "3")
            try await server.domain.assign(another.id, to: try await fleet.device("of another package", .queued))
            server.advance(by: .seconds(1))
            let filter = UpdateFilter(type: .firmware, devices: [cancelled])
            #expect(try await store.carryOut(.cancel, on: filter, by: "x") == 1)
            let time = Timestamp(milliseconds: 1_700_000_009_000)
            #expect(try await store.scheduleRetry(of: retried, .firmware, at: time))
            let query = "type=firmware&state=FAILED,QUEUED&packageId=\(package)&deviceProfileId=\(profile)"
            let response = try await server.get("/api/updates?\(query)&pageSize=10&page=0&sortProperty=deviceName")
            #expect(response.status == 200)
            let updates = try #require(try response.json["data"]?.array)
            #expect(Set(updates.map { $0["deviceName"] }) == ["cancelled", "queued", "retried"])
            let first = try #require(updates.first { $0["deviceName"] == "cancelled" })
            #expect(first["deviceProfileId"]?["id"] == .string(profile.description))
            #expect(first["failureCause"] == "CANCELLED" && first["error"] == "cancelled by x")
            #expect(first["lastChange"] == 1_700_000_001_000)
            #expect(updates.first { $0["deviceName"] == "retried" }?["retryTime"] == 1_700_000_009_000)
            for (query, names) in [
                ("type=SOFTWARE", ["of another type"]), ("packageId=\(another.id)", ["of another package"]),
                ("deviceProfileId=\(fleet.other.id)", ["of another profile"]),
                ("state=DOWNLOADING", ["of another state"]),
            ] {
                let found = try await server.get("/api/updates?\(query)&pageSize=10&page=0").json["data"]?.array
                #expect(found?.map { $0["deviceName"]?.string } == names, "\(query)")
            }
            let counts = try await server.get("/api/updates/count?\(query)").json
            #expect(counts["QUEUED"] == 1 && counts["FAILED"] == 2 && counts["UPDATED"] == 0)
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

    /// The last part of a command's paths, and what a query adds to it.
    private static func path(_ command: UpdateCommand) -> String {
        switch command {
        case .retry: "retry"
        case .cancel: "cancel"
        case .resend(includesUpdated: false): "resend"
        case .resend(includesUpdated: true): "resend?includeUpdated=true"
        }
    }

    @Test(
        "a command for one device answers with its record, or says why it does not fit",
        arguments: UpdateCommand.allCases
    )
    func one(command: UpdateCommand) async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            func path(_ device: DeviceId) -> String { "/api/device/\(device)/update/FIRMWARE/\(Self.path(command))" }
            let without = try await server.domain.device("without").id
            try (try await server.post(path(without), [:])).expectError(
                404,
                32,
                "Device with id [\(without)] never had a FIRMWARE update"
            )
            let before: OtaUpdateState = command == .cancel ? .downloading : .failed
            let device = try await fleet.device("d", before)
            try await fleet.device("of another type", before, .software)
            try await fleet.device("of another device", before)
            let response = try await server.send(.POST, path(device))
            #expect(response.status == 200)
            let after: OtaUpdateState = command == .cancel ? .failed : .queued
            #expect(try response.json["state"]?.string == after.rawValue)
            if command == .cancel {
                #expect(try response.json["error"]?.string == "cancelled by \(TestServer.userName)")
            }
            let cause: UpdateCause =
                switch command {
                case .retry: .retried
                case .cancel: .cancelled
                case .resend: .resent
                }
            let assignments = try await server.store.assignments(after: 0, limit: 100)
            #expect(assignments.filter { $0.device.id == device.uuid }.last?.cause == cause)
            #expect(
                try await fleet.states() == [
                    "d": after.rawValue, "of another type": before.rawValue, "of another device": before.rawValue,
                ]
            )

            let updated = try await fleet.device("updated", .updated)
            try await server.domain.assign(nil, to: updated)
            let sentence =
                switch command {
                case .retry: "The update to fw 2 is UPDATED; only one that FAILED or was cancelled can be retried"
                case .cancel: "The update to fw 2 is UPDATED; there is nothing to cancel"
                case .resend(includesUpdated: false):
                    "The update to fw 2 is UPDATED; it is sent again only with includeUpdated=true (--include-updated)"
                case .resend(includesUpdated: true): "The update to fw 2 is not that to the device's present package"
                }
            try (try await server.send(.POST, path(updated))).expectError(409, 35, sentence)
            let unknown = DeviceId.random()
            try (try await server.post(path(unknown), [:]))
                .expectError(404, 32, "Device with id [\(unknown)] is not found")
        }
    }

    @Test("a command for a profile or a filter answers with the number of devices")
    func many() async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            let profile = fleet.profile.id
            for name in ["a", "b"] { try await fleet.device(name, .failed, .software) }
            let device = try await fleet.device("c", .downloading)
            try await fleet.device("d", .downloading)
            try await fleet.device("e", .failed)
            try await fleet.device("f", .failed, .software, in: fleet.other)
            let byProfile = try await server.post("/api/deviceProfile/\(profile)/update/software/retry", [:])
            #expect(try byProfile.json == ["devices": 2])
            #expect(
                try await fleet.states() == [
                    "a": "QUEUED", "b": "QUEUED", "c": "DOWNLOADING", "d": "DOWNLOADING", "e": "FAILED", "f": "FAILED",
                ]
            )
            func cancel(_ members: JSON.Object) async throws -> JSON {
                var body: JSON.Object = [
                    "type": "FIRMWARE", "states": ["DOWNLOADING"], "deviceProfileId": .string(profile.description),
                    "deviceIds": [
                        ["entityType": "DEVICE", "id": .string(device.description)], .string(device.description),
                    ],
                ]
                for member in members.members { body[member.name] = member.value }
                return try await server.post("/api/updates/cancel", .object(body)).json
            }
            for members in [
                ["type": "SOFTWARE"], ["states": ["QUEUED"]],
                ["deviceProfileId": .string(fleet.other.id.description)],
                ["deviceIds": [.string(DeviceId.random().description)]],
            ] as [JSON.Object] {
                #expect(try await cancel(members) == ["devices": 0])
            }
            #expect(try await cancel([:]) == ["devices": 1])
            #expect(try await fleet.states()["c"] == "FAILED")
            #expect(try await fleet.states()["d"] == "DOWNLOADING")
            #expect(try await server.post("/api/updates/resend", ["all": true]).json == ["devices": 6])
            let unknown = DeviceProfileId.random()
            try (try await server.post("/api/deviceProfile/\(unknown)/update/FIRMWARE/retry", [:]))
                .expectError(404, 32, "Device profile with id [\(unknown)] is not found")
        }
    }

    @Test("a dry run counts the updates that its command then touches, and carries out nothing")
    func dryRun() async throws {
        try await TestServer.run { server in
            let fleet = try await Fleet(server)
            let updated = try await fleet.device("updated", .updated)
            for name in ["a", "b"] { try await fleet.device(name, .failed) }
            try await fleet.device("c", .downloading)
            let before = try await fleet.states()
            let ofDevice = "/api/device/\(updated)/update/FIRMWARE/resend"
            try (try await server.post("\(ofDevice)?dryRun=true", [:])).expectError(
                409,
                35,
                "The update to fw 2 is UPDATED; it is sent again only with includeUpdated=true (--include-updated)"
            )
            let included = try await server.post("\(ofDevice)?dryRun=true&includeUpdated=true", [:])
            #expect(try included.json["state"] == "UPDATED")
            let ofProfile = "/api/deviceProfile/\(fleet.profile.id)/update/FIRMWARE"
            let query: JSON = ["entityFilter": ["type": "deviceType", "deviceTypes": ["default"]]]
            let commands: [(path: String, body: JSON, count: Int64)] = [
                ("\(ofProfile)/resend?", [:], 3), ("\(ofProfile)/resend?includeUpdated=true", [:], 4),
                ("/api/updates/resend?", ["all": true], 3),
                ("/api/updates/resend?", ["all": true, "includeUpdated": true], 4),
                ("/api/updates/cancel?", query, 1), ("/api/updates/retry?", ["all": true], 2),
            ]
            for (path, body, count) in commands {
                #expect(try await server.post("\(path)&dryRun=true", body).json == ["devices": .integer(count)])
                #expect(try await fleet.states() == before)
            }
            for (path, body, count) in commands.suffix(2) {
                // What is retried here is also what was cancelled before.
                let more: Int64 = path.contains("retry") ? 1 : 0
                #expect(try await server.post(path, body).json == ["devices": .integer(count + more)])
            }
            try (try await server.post("/api/updates/retry?dryRun=maybe", ["all": true])).expectError(
                400,
                31,
                "Parameter 'dryRun' must be true or false, not 'maybe'"
            )
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
            let fleet = try await Fleet(server)
            try await fleet.device("failed", .failed)
            let response = try await server.send(
                .POST,
                "/api/updates/retry",
                [:],
                .init(string: body),
                token: server.token
            )
            try response.expectError(400, 31)
            #expect(try await fleet.states() == ["failed": "FAILED"])
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
        let domain = try TestDomain()
        let queries = NotedQueries(domain.store)
        let parts = try TestServer.Parts(domain) { $0.register(queries, as: (any DeviceQueryService).self) }
        try await TestServer.run(on: parts) { server in
            let fleet = try await Fleet(server)
            let count = UpdateFilter.devicesMax + 1
            for number in 0..<count { try await fleet.device("\(number)", .queued) }
            try await fleet.device("of another profile", .queued, in: fleet.other)
            try await fleet.device("of another type", .queued, .software)
            try await fleet.device("of another state", .downloading)
            let body: JSON = [
                "entityFilter": ["type": "deviceType", "deviceTypes": ["default"]], "keyFilters": [],
                "type": "FIRMWARE", "states": ["QUEUED"],
            ]
            let answer = try await server.post("/api/updates/cancel", body).json
            #expect(answer == ["devices": .integer(Int64(count))])
            #expect(queries.counts.withLock { $0 } == [UpdateFilter.devicesMax, 3, 0])
            let states = try await server.store.countUpdates(UpdateFilter())
            #expect(states == [.failed: count, .queued: 2, .downloading: 1])
        }
    }
}
