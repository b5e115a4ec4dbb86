import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct EntityQueryTests {
    private static let all: JSON = ["type": "entityType", "entityType": "DEVICE"]
    private static let state: JSON = ["type": "TIME_SERIES", "key": "fw_state"]

    private func isState(_ text: String) -> JSON {
        [
            "key": Self.state, "valueType": "STRING",
            "predicate": [
                "type": "STRING", "operation": "EQUAL", "ignoreCase": false,
                "value": ["defaultValue": .string(text), "userValue": nil, "dynamicValue": nil],
            ],
        ]
    }

    /// Two devices, `d1` that is UPDATED and `d2` that never told anything.
    private func fill(_ server: TestServer) async throws -> [String] {
        var ids: [String] = []
        for name in ["d1", "d2"] {
            ids.append(try await server.post("/api/device", ["name": .string(name)]).json.entityId)
        }
        let path = "/api/plugins/telemetry/DEVICE/\(ids[0])"
        let point: JSON = ["ts": 1000, "values": ["fw_state": "UPDATED", "level": 2.5, "on": true]]
        #expect(try await server.post("\(path)/timeseries/ANY", point).status == 200)
        #expect(try await server.post("\(path)/SERVER_SCOPE", ["v": "1.10"]).status == 200)
        return ids
    }

    private func found(_ server: TestServer, _ filter: JSON, _ more: JSON.Object = [:]) async throws -> [String] {
        var body: JSON.Object = [
            "entityFilter": filter, "pageLink": ["pageSize": 10, "page": 0],
            "entityFields": [["type": "ENTITY_FIELD", "key": "name"]],
        ]
        for member in more.members { body[member.name] = member.value }
        let page = try await server.post("/api/entitiesQuery/find", .object(body)).json
        let count = try await server.post("/api/entitiesQuery/count", .object(body)).json
        #expect(page["totalElements"] == count, "\(page)")
        return (page["data"]?.array ?? []).map { $0["latest"]?["ENTITY_FIELD"]?["name"]?["value"]?.string ?? "" }
    }

    @Test func aQueryIsAnsweredInThingsBoardsShape() async throws {
        try await TestServer.run { server in
            let ids = try await self.fill(server)
            let page = try await server.post(
                "/api/entitiesQuery/find",
                [
                    "entityFilter": ["type": "deviceType", "deviceTypes": ["default"], "deviceNameFilter": ""],
                    "keyFilters": [],
                    "pageLink": [
                        "pageSize": 1, "page": 0,
                        "sortOrder": ["key": ["type": "ENTITY_FIELD", "key": "name"], "direction": "ASC"],
                    ],
                    "entityFields": [["type": "ENTITY_FIELD", "key": "name"]],
                    "latestValues": [
                        Self.state, ["type": "TIME_SERIES", "key": "level"], ["type": "TIME_SERIES", "key": "on"],
                        ["type": "ATTRIBUTE", "key": "v"], ["type": "SHARED_ATTRIBUTE", "key": "v"],
                    ],
                ]
            ).json
            let updated = page["data"]?.array?.first?["latest"]?["ATTRIBUTE"]?["v"]?["ts"] ?? .null
            #expect(
                page == [
                    "data": [
                        [
                            "entityId": ["entityType": "DEVICE", "id": .string(ids[0])],
                            "latest": [
                                "ENTITY_FIELD": ["name": ["ts": 1_700_000_000_000, "value": "d1"]],
                                "TIME_SERIES": [
                                    "fw_state": ["ts": 1000, "value": "UPDATED"],
                                    "level": ["ts": 1000, "value": "2.5"],
                                    "on": ["ts": 1000, "value": "true"],
                                ],
                                "ATTRIBUTE": ["v": ["ts": updated, "value": "1.10"]],
                                "SHARED_ATTRIBUTE": ["v": ["ts": 0, "value": ""]],
                            ],
                            "timeseries": [:], "aggLatest": [:],
                        ]
                    ],
                    "totalPages": 2, "totalElements": 2, "hasNext": true,
                ]
            )
        }
    }

    @Test func entityFiltersFindWhatTheyName() async throws {
        try await TestServer.run { server in
            let ids = try await self.fill(server)
            let filters: [(JSON, [String])] = [
                (Self.all, ["d1", "d2"]), (["type": "entityType", "entityType": "ASSET"], []),
                (["type": "singleEntity", "singleEntity": ["entityType": "DEVICE", "id": .string(ids[1])]], ["d2"]),
                (["type": "singleEntity", "singleEntity": ["entityType": "TENANT", "id": .string(ids[1])]], []),
                (["type": "entityList", "entityType": "DEVICE", "entityList": [.string(ids[0])]], ["d1"]),
                (["type": "entityName", "entityType": "DEVICE", "entityNameFilter": "D"], ["d1", "d2"]),
                (["type": "entityName", "entityType": "DEVICE", "entityNameFilter": "%2"], ["d2"]),
                (["type": "deviceType", "deviceType": "default"], ["d1", "d2"]),
                (["type": "deviceType", "deviceTypes": ["default", "x"], "deviceNameFilter": "d1"], ["d1"]),
                (["type": "deviceType", "deviceTypes": ["x"]], []), (["type": "assetType", "assetTypes": ["x"]], []),
                (["type": "relationsQuery", "rootEntity": ["entityType": "DEVICE", "id": .string(ids[0])]], []),
                (["type": "apiUsageState"], []),
            ]
            for (filter, names) in filters { #expect(try await self.found(server, filter) == names, "\(filter)") }
        }
    }

    @Test func keyFiltersAreRead() async throws {
        try await TestServer.run { server in
            _ = try await self.fill(server)
            func predicate(_ type: String, _ operation: String, _ value: JSON) -> JSON {
                ["type": .string(type), "operation": .string(operation), "value": ["defaultValue": value]]
            }
            func find(_ key: String, _ predicate: JSON) async throws -> [String] {
                let key: JSON = ["type": "TIME_SERIES", "key": .string(key)]
                let filters: JSON = [["key": key, "valueType": "STRING", "predicate": predicate]]
                return try await self.found(server, Self.all, ["keyFilters": filters])
            }
            #expect(try await find("fw_state", predicate("STRING", "IN", "FAILED, 'UPDATED'")) == ["d1"])
            #expect(try await find("fw_state", predicate("STRING", "NOT_IN", "\"UPDATED\",x")) == [])
            #expect(try await find("level", predicate("NUMERIC", "GREATER_OR_EQUAL", 2.5)) == ["d1"])
            #expect(try await find("level", predicate("NUMERIC", "LESS", 2)) == [])
            #expect(try await find("on", predicate("BOOLEAN", "EQUAL", true)) == ["d1"])
            #expect(try await find("on", predicate("BOOLEAN", "NOT_EQUAL", true)) == [])
            let both: JSON = [
                "type": "COMPLEX", "operation": "OR",
                "predicates": [predicate("STRING", "EQUAL", "x"), predicate("STRING", "STARTS_WITH", "UP")],
            ]
            #expect(try await find("fw_state", both) == ["d1"])
            let chosen: JSON = [
                "type": "STRING", "operation": "EQUAL", "ignoreCase": true,
                "value": ["defaultValue": "x", "userValue": "updated", "dynamicValue": ["sourceType": "CURRENT_USER"]],
            ]
            #expect(try await find("fw_state", chosen) == ["d1"])
            let filters: JSON = [self.isState("UPDATED"), self.isState("FAILED")]
            #expect(try await self.found(server, Self.all, ["keyFilters": filters]) == [])
            #expect(
                try await self.found(server, Self.all, ["keyFilters": filters, "keyFiltersOperation": "OR"]) == ["d1"]
            )
            let sorted: JSON = ["pageSize": 10, "sortOrder": ["key": Self.state, "direction": "DESC"]]
            #expect(try await self.found(server, Self.all, ["pageLink": sorted]) == ["d1", "d2"])
            let searched: JSON = ["pageSize": 10, "page": 0, "textSearch": "D2"]
            let body: JSON = [
                "entityFilter": Self.all, "pageLink": searched,
                "entityFields": [["type": "ENTITY_FIELD", "key": "name"]],
            ]
            #expect(try await server.post("/api/entitiesQuery/find", body).json["totalElements"] == 1)
        }
    }

    @Test func whatCannotBeAskedIsToldWhy() async throws {
        try await TestServer.run { server in
            let link: JSON = ["pageSize": 10, "page": 0]
            func filtered(_ key: JSON, _ predicate: JSON) -> JSON {
                ["entityFilter": Self.all, "pageLink": link, "keyFilters": [["key": key, "predicate": predicate]]]
            }
            func nested(_ depth: Int) -> JSON {
                let one: JSON = ["type": "NUMERIC", "operation": "EQUAL", "value": ["defaultValue": 1]]
                return (1..<depth).reduce(one) { part, _ in
                    ["type": "COMPLEX", "operation": "AND", "predicates": [part]]
                }
            }
            #expect(try await server.post("/api/entitiesQuery/find", filtered(Self.state, nested(8))).status == 200)
            let cases: [(JSON, String)] = [
                ([:], "Parameter 'entityFilter' can't be empty!"),
                (["entityFilter": Self.all], "Parameter 'pageLink' can't be empty!"),
                (["entityFilter": Self.all, "pageLink": [:]], "Parameter 'pageSize' can't be empty!"),
                (
                    ["entityFilter": Self.all, "pageLink": ["pageSize": 1001]],
                    "Incorrect page link page size '1001'. It must be between 1 and 1000."
                ),
                (
                    ["entityFilter": ["type": "deviceQuery"], "pageLink": link],
                    "'deviceQuery' is no type of an entity filter; known are singleEntity, entityList, entityName, entityType, "
                        + "deviceType, apiUsageState, assetSearchQuery, assetType, deviceSearchQuery, edgeSearchQuery, edgeType, "
                        + "entityViewSearchQuery, entityViewType, relationsQuery"
                ),
                (
                    [
                        "entityFilter": ["type": "entityList", "entityType": "DEVICE", "entityList": ["x"]],
                        "pageLink": link,
                    ],
                    "Invalid UUID string: x"
                ),
                (
                    filtered(["type": "ALARM_FIELD", "key": "x"], nested(1)),
                    "'type' is 'ALARM_FIELD'; it must be one of ATTRIBUTE, CLIENT_ATTRIBUTE, SHARED_ATTRIBUTE, "
                        + "SERVER_ATTRIBUTE, TIME_SERIES, ENTITY_FIELD"
                ),
                (
                    filtered(["type": "ENTITY_FIELD", "key": "colour"], nested(1)),
                    "devices have no field 'colour'; they have id, createdTime, entityType, name, type, label, additionalInfo"
                ),
                (filtered(Self.state, nested(9)), "Predicates may be nested 8 deep and no deeper"),
                (
                    filtered(Self.state, ["type": "STRING", "operation": "GREATER", "value": ["defaultValue": "x"]]),
                    "'operation' is 'GREATER'; it must be one of EQUAL, NOT_EQUAL, STARTS_WITH, ENDS_WITH, CONTAINS, "
                        + "NOT_CONTAINS, IN, NOT_IN"
                ),
                (
                    filtered(Self.state, ["type": "STRING", "operation": "EQUAL", "value": ["defaultValue": 1]]),
                    "'value' of this predicate must be a string"
                ),
                (
                    filtered(Self.state, ["type": "STRING", "operation": "EQUAL", "value": [:]]),
                    "Parameter 'value.defaultValue' can't be empty!"
                ),
                (
                    filtered(Self.state, ["type": "COMPLEX", "operation": "AND", "predicates": []]),
                    "Parameter 'predicates' can't be empty!"
                ),
                (
                    ["entityFilter": Self.all, "pageLink": link, "entityFields": [1]],
                    "'entityFields' must be an array of objects"
                ),
            ]
            for (body, message) in cases {
                try (try await server.post("/api/entitiesQuery/find", body)).expectError(400, 31, message)
            }
        }
    }
}
