import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct DeviceListTests {
    /// The devices `a`, which is active, and `b` of the profile `pump`, and `c` of `valve`.
    private func fill(_ server: TestServer) async throws {
        for (name, type, label) in [("a", "pump", "z"), ("b", "pump", "y"), ("c", "valve", "x")] {
            let device = try await server.post(
                "/api/device",
                ["name": .string(name), "type": .string(type), "label": .string(label)]
            ).json
            let attributes = "/api/plugins/telemetry/DEVICE/\(device.entityId)/SERVER_SCOPE"
            _ = try await server.post(attributes, ["active": .bool(name == "a")])
        }
    }

    private func names(_ server: TestServer, _ path: String) async throws -> [String] {
        let response = try await server.get(path)
        #expect(response.status == 200, "\(path): \(response.text)")
        return (try response.json["data"]?.array ?? []).map { $0["name"]?.string ?? "" }
    }

    @Test func devicesAreListedByTypeProfileAndActivity() async throws {
        try await TestServer.run { server in
            try await self.fill(server)
            let profile = try await server.get("/api/deviceProfiles?pageSize=9&page=0&textSearch=valve").json
            let valve = profile["data"]?.array?.first?.entityId ?? ""
            let null = EntityShape.nullCustomerId
            for path in ["/api/tenant/deviceInfos", "/api/deviceInfos/all", "/api/customer/\(null)/deviceInfos"] {
                let list = "\(path)?pageSize=9&page=0&sortProperty=name"
                #expect(try await self.names(server, list) == ["a", "b", "c"])
                #expect(try await self.names(server, "\(list)&type=pump") == ["a", "b"])
                #expect(try await self.names(server, "\(list)&type=other") == [])
                #expect(try await self.names(server, "\(list)&deviceProfileId=\(valve)") == ["c"])
                #expect(try await self.names(server, "\(list)&active=true") == ["a"])
                #expect(try await self.names(server, "\(list)&active=false&type=pump") == ["b"])
                #expect(try await self.names(server, "\(list)&textSearch=C") == ["c"])
                try (try await server.get("\(list)&active=maybe"))
                    .expectError(400, 31, "Parameter 'active' must be true or false, not 'maybe'")
            }
            for path in ["/api/tenant/devices", "/api/customer/\(null)/devices"] {
                #expect(try await self.names(server, "\(path)?pageSize=9&page=0&type=valve") == ["c"])
            }
            let unknown = DeviceId.random()
            try (try await server.get("/api/customer/\(unknown)/devices?pageSize=9&page=0"))
                .expectError(404, 32, "Customer with id [\(unknown)] is not found")
        }
    }

    @Test func infosTellWhatPeopleWantToKnow() async throws {
        try await TestServer.run { server in
            try await self.fill(server)
            let page = try await server.get("/api/tenant/deviceInfos?pageSize=9&page=0&sortProperty=name").json
            let infos = page["data"]?.array ?? []
            #expect(infos.map { $0["active"] } == [true, false, false])
            #expect(infos.map { $0["deviceProfileName"] } == ["pump", "pump", "valve"])
            #expect(try await server.get("/api/device/info/\(infos[0].entityId)").json == infos[0])
            #expect(
                try await server.get("/api/device/types").json.array?.map { $0["type"] } == [
                    "default", "pump", "valve",
                ]
            )
            let names = try await server.get("/api/deviceProfile/names").json.array ?? []
            #expect(names.map { $0["name"] } == ["default", "pump", "valve"])
            let used = try await server.get("/api/deviceProfile/names?activeOnly=true").json.array ?? []
            #expect(used.map { $0["name"] } == ["pump", "valve"])
        }
    }

    @Test func listsAreSortedAsClientsAsk() async throws {
        try await TestServer.run { server in
            try await self.fill(server)
            let list = "/api/tenant/deviceInfos?pageSize=9&page=0"
            for (order, names) in [
                ("", ["c", "b", "a"]), ("&sortOrder=ASC", ["a", "b", "c"]),
                ("&sortProperty=name&sortOrder=DESC", ["c", "b", "a"]),
                ("&sortProperty=label", ["c", "b", "a"]),
                ("&sortProperty=deviceProfileName&sortOrder=desc", ["c", "b", "a"]),
                ("&sortProperty=active&sortOrder=DESC", ["a", "c", "b"]), ("&sortProperty=unknown", ["a", "b", "c"]),
            ] {
                #expect(try await self.names(server, list + order) == names, "\(order)")
            }
            try (try await server.get("\(list)&sortOrder=UP"))
                .expectError(400, 31, "Unsupported sort order 'UP'! Only 'ASC' or 'DESC' types are allowed.")
            let sorted = "/api/deviceProfiles?pageSize=9&page=0&sortProperty=transportType"
            #expect(try await self.names(server, sorted).sorted() == ["default", "pump", "valve"])
            let packages = "/api/otaPackages?pageSize=9&page=0&sortProperty=checksumAlgorithm&sortOrder=ASC"
            #expect(try await self.names(server, packages) == [])
        }
    }
}
