import NIOCore
import NodeKit
import OTA
import Testing

@testable import Management

@Suite struct DeviceTests {
    static let deviceMembers = [
        "id", "createdTime", "tenantId", "customerId", "name", "type", "label", "deviceProfileId", "firmwareId",
        "softwareId", "externalId", "version", "additionalInfo", "deviceData",
    ]

    // MARK: Profiles

    @Test func aProfileIsCreatedAsClientsDo() async throws {
        try await TestServer.run { server in
            let profileData: JSON = [
                "configuration": ["type": "DEFAULT"], "transportConfiguration": ["type": "DEFAULT"],
            ]
            server.advance(by: .seconds(1))
            let created = try await server.post(
                "/api/deviceProfile",
                ["name": "P", "type": "DEFAULT", "transportType": "MQTT", "profileData": profileData, "ours": [1]]
            ).json
            #expect(
                created.object?.names == [
                    "id", "createdTime", "tenantId", "name", "description", "default", "firmwareId", "softwareId",
                    "type", "transportType", "provisionType", "profileData", "provisionDeviceKey", "image",
                    "defaultRuleChainId", "defaultDashboardId", "defaultQueueName", "defaultEdgeRuleChainId",
                    "externalId", "version", "ours",
                ]
            )
            #expect(created["id"]?["entityType"] == "DEVICE_PROFILE")
            #expect(created["default"] == false)
            #expect(created["transportType"] == "MQTT")
            #expect(created["profileData"] == profileData)
            #expect(created["ours"] == [1], "members that are not known are kept")
            let id = created.entityId
            #expect(try await server.get("/api/deviceProfile/\(id)").json == created)
            let info = try await server.get("/api/deviceProfileInfo/\(id)").json
            #expect(
                info.object?.names == [
                    "id", "name", "image", "defaultDashboardId", "type", "transportType", "tenantId",
                ]
            )
            #expect(info["transportType"] == "MQTT")
            #expect(try await server.get("/api/deviceProfiles?pageSize=10&page=0").json["totalElements"] == 2)
            #expect(
                try await server.get("/api/deviceProfileInfos?pageSize=1&page=0").json["data"]?.array?.first == info
            )
        }
    }

    @Test func savingAProfileReplacesItInFull() async throws {
        try await TestServer.run { server in
            let created = try await server.post("/api/deviceProfile", ["name": "P"]).json
            let id = try #require(DeviceProfileId(created.entityId))
            let package = try await server.domain.package(in: id).id
            let full = try await server.post(
                "/api/deviceProfile",
                [
                    "id": created["id"] ?? .null, "name": "P", "description": "d", "ours": 1,
                    "firmwareId": ["entityType": "OTA_PACKAGE", "id": .string(package.description)],
                ]
            ).json
            #expect(full["firmwareId"]?["id"]?.string == package.description)
            #expect(full["description"] == "d")
            #expect(full["ours"] == 1)
            let saved = try await server.post("/api/deviceProfile", ["id": created["id"] ?? .null, "name": "Q"]).json
            #expect(saved.entityId == created.entityId)
            #expect(saved["createdTime"] == created["createdTime"])
            #expect(saved["name"] == "Q")
            #expect(saved["firmwareId"] == .null)
            #expect(saved["description"] == .null)
            #expect(saved["ours"] == nil)
        }
    }

    @Test func howAProfileProvisionsIsSavedAndToldInThingsBoardsPlaces() async throws {
        try await TestServer.run { server in
            let body: JSON = [
                "name": "P", "provisionType": "CHECK_PRE_PROVISIONED_DEVICES", "provisionDeviceKey": "k",
                "profileData": [
                    "configuration": ["type": "DEFAULT"],
                    "provisionConfiguration": [
                        "type": "CHECK_PRE_PROVISIONED_DEVICES", "provisionDeviceSecret": "s", "ours": 1,
                    ],
                ],
            ]
            let created = try await server.post("/api/deviceProfile", body).json
            for name in ["provisionType", "provisionDeviceKey", "profileData"] { #expect(created[name] == body[name]) }
            let id = try #require(DeviceProfileId(created.entityId))
            let saved = try #require(try await server.store.findDeviceProfileById(id))
            #expect(
                saved.provisioning
                    == ProfileProvisioning(kind: .checkPreProvisionedDevices, deviceKey: "k", deviceSecret: "s")
            )
            #expect(!saved.settings.description.contains("\"s\""), "a secret is kept in one place")
            #expect(try await server.post("/api/deviceProfile", created).json == created)
            let plain = try await server.post("/api/deviceProfile", ["name": "Q"]).json
            #expect(plain["provisionType"] == "DISABLED")
            #expect(
                plain["profileData"]?["provisionConfiguration"] == ["type": "DISABLED", "provisionDeviceSecret": nil]
            )
            try (try await server.post("/api/deviceProfile", ["name": "R", "provisionType": "SOMETIMES"]))
                .expectError(400, 31)
        }
    }

    @Test func theDefaultProfileIsToldAndChanged() async throws {
        try await TestServer.run { server in
            #expect(try await server.get("/api/deviceProfileInfo/default").json["name"] == "default")
            let id = try await server.post("/api/deviceProfile", ["name": "P"]).json.entityId
            try (try await server.post("/api/deviceProfile", ["name": "R", "default": true])).expectError(
                400,
                31,
                "Another default device profile is present in scope of current tenant!"
            )
            let changed = try await server.post("/api/deviceProfile/\(id)/default", [:])
            #expect(try changed.json["default"] == true)
            #expect(try await server.get("/api/deviceProfileInfo/default").json.entityId == id)
            let resaved = try await server.post("/api/deviceProfile", ["id": ["id": .string(id)], "name": "P"]).json
            #expect(resaved["default"] == true, "saving does not change which profile is the default")
        }
    }

    @Test func aProfileIsDeletedUnlessItIsUsed() async throws {
        try await TestServer.run { server in
            let id = try await server.post("/api/deviceProfile", ["name": "P"]).json.entityId
            let deviceId = try await server.post("/api/device", ["name": "d", "type": "P"]).json.entityId
            try (try await server.delete("/api/deviceProfile/\(id)"))
                .expectError(400, 31, "The device profile referenced by the devices cannot be deleted!")
            _ = try await server.delete("/api/device/\(deviceId)")
            #expect(try await server.delete("/api/deviceProfile/\(id)").status == 200)
            for path in ["/api/deviceProfile/\(id)", "/api/deviceProfileInfo/\(id)"] {
                try (try await server.get(path)).expectError(404, 32, "Device profile with id [\(id)] is not found")
            }
        }
    }

    // MARK: Devices

    @Test func aDeviceIsCreatedAsClientsDo() async throws {
        try await TestServer.run { server in
            let profile = try await server.defaultProfile
            let created = try await server.post(
                "/api/device?accessToken=TOKEN",
                [
                    "name": "d1", "label": "l", "additionalInfo": ["gateway": true],
                    "deviceProfileId": ["entityType": "DEVICE_PROFILE", "id": .string(profile.description)],
                ]
            ).json
            #expect(created.object?.names == Self.deviceMembers)
            #expect(created["id"]?["entityType"] == "DEVICE")
            #expect(created["customerId"] == ["entityType": "CUSTOMER", "id": "13814000-1dd2-11b2-8080-808080808080"])
            #expect(created["type"] == "default", "the profile's name")
            #expect(created["createdTime"] == 1_700_000_000_000)
            #expect(created["label"] == "l")
            #expect(created["firmwareId"] == .null)
            #expect(created["additionalInfo"] == ["gateway": true])
            #expect(
                created["deviceData"]
                    == ["configuration": ["type": "DEFAULT"], "transportConfiguration": ["type": "DEFAULT"]]
            )
            let id = created.entityId
            #expect(try await server.get("/api/device/\(id)").json == created)
            #expect(try await server.get("/api/tenant/device?deviceName=d1").json == created)
            #expect(try await server.get("/api/tenant/devices?deviceName=d1").json == created)
            #expect(try await server.get("/api/tenant/devices?pageSize=10&page=0").json["data"] == [created])
            let info = try await server.get("/api/device/info/\(id)").json
            #expect(info["deviceProfileName"] == "default")
            #expect(info["customerTitle"] == .null)
            for path in ["/api/tenant/deviceInfos", "/api/deviceInfos/all"] {
                #expect(try await server.get("\(path)?pageSize=10&page=0").json["data"] == [info])
            }
            let others = "/api/tenant/deviceInfos?pageSize=10&page=0&deviceProfileId=\(DeviceProfileId.random())"
            #expect(try await server.get(others).json["data"] == [])
            let second = try await server.post("/api/device", ["name": "d 2+3"]).json
            let several = try await server.get("/api/devices?deviceIds=\(id)%2C\(second.entityId),\(DeviceId.random())")
            #expect(try several.json == [created, second])
            #expect(try await server.get("/api/tenant/device?deviceName=d+2%2B3").json == second)
        }
    }

    @Test func savingADeviceReplacesItInFull() async throws {
        try await TestServer.run { server in
            let id = try await server.domain.package().id
            let package: JSON = ["entityType": "OTA_PACKAGE", "id": .string(id.description)]
            var device = try #require(try await server.post("/api/device", ["name": "d", "label": "l"]).json.object)
            device["firmwareId"] = package
            device["deviceData"] = ["configuration": ["type": "DEFAULT", "ours": 1]]
            let assigned = try await server.post("/api/device", .object(device)).json
            #expect(assigned["firmwareId"] == package)
            #expect(assigned["deviceData"] == device["deviceData"])
            let unassigned = try await server.post("/api/device", ["id": device["id"] ?? .null, "name": "d"]).json
            #expect(unassigned["firmwareId"] == .null)
            #expect(unassigned["label"] == .null)
            #expect(unassigned["createdTime"] == device["createdTime"])
        }
    }

    @Test func aDevicesTypeFindsOrMakesItsProfile() async throws {
        try await TestServer.run { server in
            let first = try await server.post("/api/device", ["name": "d1", "type": "thermostat"]).json
            #expect(first["type"] == "thermostat")
            let second = try await server.post("/api/device", ["name": "d2", "type": "thermostat"]).json
            #expect(second["deviceProfileId"] == first["deviceProfileId"])
        }
    }

    @Test func whatIsNotThereIsTold() async throws {
        try await TestServer.run { server in
            let id = DeviceId.random()
            for path in [
                "/api/device/\(id)", "/api/device/info/\(id)", "/api/device/\(id)/credentials",
                "/api/device/\(id)/update/FIRMWARE", "/api/device/\(id)/update/FIRMWARE/history",
                "/api/plugins/telemetry/DEVICE/\(id)/values/attributes",
            ] {
                try (try await server.get(path)).expectError(404, 32, "Device with id [\(id)] is not found")
            }
            try (try await server.delete("/api/device/\(id)")).expectError(404, 32)
            try (try await server.post("/api/device", ["id": ["id": .string(id.description)], "name": "d"]))
                .expectError(404, 32)
            try (try await server.get("/api/tenant/device?deviceName=x"))
                .expectError(404, 32, "Requested item wasn't found!")
            _ = try await server.post("/api/device", ["name": "d"])
            try (try await server.post("/api/device", ["name": "d"]))
                .expectError(400, 31, "Device with such name already exists!")
        }
    }

    // MARK: Credentials

    @Test func credentialsAreReadAndReplaced() async throws {
        try await TestServer.run { server in
            let device = try await server.post("/api/device?accessToken=FIRST", ["name": "d"]).json
            let path = "/api/device/\(device.entityId)/credentials"
            let credentials = try await server.get(path).json
            #expect(
                credentials.object?.names == [
                    "id", "createdTime", "deviceId", "credentialsType", "credentialsId", "credentialsValue", "version",
                ]
            )
            #expect(credentials["id"]?.object?.names == ["id"])
            #expect(credentials["deviceId"] == device["id"])
            #expect(credentials["credentialsType"] == "ACCESS_TOKEN")
            #expect(credentials["credentialsId"] == "FIRST")
            var changed = try #require(credentials.object)
            changed["credentialsId"] = "SECOND"
            #expect(try await server.post("/api/device/credentials", .object(changed)).json == .object(changed))
            #expect(try await server.get(path).json == .object(changed))
            changed["credentialsId"] = ""
            try (try await server.post("/api/device/credentials", .object(changed)))
                .expectError(400, 31, "Device credentials id should be specified!")
            changed["credentialsType"] = "LWM2M_CREDENTIALS"
            try (try await server.post("/api/device/credentials", .object(changed)))
                .expectError(400, 31, "Credentials of type 'LWM2M_CREDENTIALS' are not supported")
            try (try await server.post("/api/device/credentials", [:]))
                .expectError(400, 31, "Parameter 'deviceId' can't be empty!")
        }
    }

    @Test func aDeviceIsCreatedWithItsCredentialsOrNotAtAll() async throws {
        try await TestServer.run { server in
            let token = try await server.post(
                "/api/device-with-credentials",
                ["device": ["name": "d1"], "credentials": ["credentialsType": "ACCESS_TOKEN", "credentialsId": "T"]]
            ).json
            #expect(token.object?.names == Self.deviceMembers)
            #expect(try await server.get("/api/device/\(token.entityId)/credentials").json["credentialsId"] == "T")
            let value: JSON = "{\"clientId\":\"c\",\"userName\":\"u\",\"password\":\"p\"}"
            let basic = try await server.post(
                "/api/device-with-credentials",
                [
                    "device": ["name": "d2"],
                    "credentials": ["credentialsType": "MQTT_BASIC", "credentialsValue": value],
                ]
            ).json
            let stored = try await server.get("/api/device/\(basic.entityId)/credentials").json
            #expect(stored["credentialsType"] == "MQTT_BASIC")
            #expect(stored["credentialsValue"] == value)
            for (type, sentence) in [
                ("ACCESS_TOKEN", "Device credentials are already assigned to another device!"),
                ("X509_CERTIFICATE", "Device credentials value should be specified!"),
            ] {
                let refused = try await server.post(
                    "/api/device-with-credentials",
                    [
                        "device": ["name": "d3"],
                        "credentials": ["credentialsType": .string(type), "credentialsId": "T"],
                    ]
                )
                try refused.expectError(400, 31, sentence)
                try (try await server.get("/api/tenant/device?deviceName=d3")).expectError(404, 32)
            }
            try (try await server.post("/api/device-with-credentials", ["device": ["name": "d4"]]))
                .expectError(400, 31, "Parameter 'credentials' can't be empty!")
        }
    }

    // MARK: Updates

    @Test("a report that did not count says why in the history, by name and in words", .bug(id: "T1.2"))
    func flagReason() {
        let entry = UpdateHistoryEntry(
            id: 1,
            deviceId: .random(),
            type: .firmware,
            title: "fw",
            version: "1",
            state: "UPDATED",
            timestamp: Timestamp(milliseconds: 0),
            accepted: false,
            flag: .notServed
        )
        #expect(entry.json["flag"] == "NOT_SERVED")
        #expect(entry.json["flagReason"] == .string(ReportFlag.notServed.sentence))
    }

    @Test func anUpdateIsToldWithItsHistory() async throws {
        try await TestServer.run { server in
            let id = try await server.post("/api/device", ["name": "d"]).json.entityId
            let device = try #require(DeviceId(id))
            try (try await server.get("/api/device/\(id)/update/FIRMWARE"))
                .expectError(404, 32, "Device with id [\(id)] never had a FIRMWARE update")
            let package = try await server.domain.package().id
            try await server.domain.assign(package, to: device)
            let reports: [(String, String?)] = [
                ("DOWNLOADING", nil), ("FAILED", "no power"), ("DOWNLOADING", nil), ("FAILED", "no route"),
            ]
            for (state, error) in reports {
                server.advance(by: .seconds(1))
                _ = try await server.store.record(
                    StateReport(
                        type: .firmware,
                        state: state,
                        progress: state == "DOWNLOADING" ? 40 : nil,
                        error: error,
                        timestamp: server.domain.now()
                    ),
                    of: device
                )
            }
            try await server.store.classify(.networkError, of: device, type: .firmware)
            let record = try await server.get("/api/device/\(id)/update/firmware").json
            #expect(
                record == [
                    "deviceId": ["entityType": "DEVICE", "id": .string(id)], "type": "FIRMWARE", "state": "FAILED",
                    "packageId": ["entityType": "OTA_PACKAGE", "id": .string(package.description)],
                    "title": "fw", "version": "1",
                    "entered": [
                        "QUEUED": 1_700_000_000_000, "DOWNLOADING": 1_700_000_003_000, "FAILED": 1_700_000_004_000,
                    ],
                    "lastChange": 1_700_000_004_000, "progress": 40, "attempts": 2, "retryTime": nil,
                    "failureCause": nil, "errorClass": "NETWORK_ERROR", "error": "no route", "servedTime": nil,
                    "interrupted": false, "installed": nil, "priority": 0, "waiting": nil,
                ]
            )
            let history = try await server.get("/api/device/\(id)/update/FIRMWARE/history").json
            #expect(history.array?.map { $0["state"] } == ["QUEUED", "DOWNLOADING", "FAILED", "DOWNLOADING", "FAILED"])
            #expect(
                history.array?.last == [
                    "id": 5, "ts": 1_700_000_004_000, "state": "FAILED", "title": "fw", "version": "1",
                    "accepted": true, "cause": nil, "flag": nil, "flagReason": nil, "error": "no route",
                ]
            )
            #expect(try await server.get("/api/device/\(id)/update/SOFTWARE/history").json == [])
        }
    }
}
