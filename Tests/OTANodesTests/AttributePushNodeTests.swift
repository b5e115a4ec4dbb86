import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import OTANodes

@Suite struct AttributePushNodeTests {
    private let store = FakeStore()
    private let values: JSON.Object = [
        "fw_title": "fw", "fw_version": "1.1", "fw_size": 2, "fw_checksum_algorithm": "SHA256",
        "fw_checksum": "c0ffee",
    ]

    private func push(
        _ package: OtaPackage,
        _ attributes: [String: String] = [:]
    ) async throws -> Relation {
        let node = try AttributePushNode.make(attributes, services: self.store.services())
        let metadata: Metadata = ["packageType": "FIRMWARE", "packageId": .string(package.id.description)]
        return try await node.process(.of(.packageAssigned, metadata)).only.relation
    }

    private func clear(_ attributes: [String: String] = [:]) async throws -> Relation {
        let node = try AttributePushNode.make(attributes, services: self.store.services())
        return try await node.process(.of(.packageUnassigned, ["packageType": "FIRMWARE"])).only.relation
    }

    private var steps: [FakeStore.AttributeStep] { self.store.look { $0.attributeSteps } }

    @Test func `saves all attributes in one step and deletes nothing if nothing is obsolete`() async throws {
        let package = self.store.add(.firmware(), bytes: [1, 2]).package
        #expect(try await self.push(package) == .success)
        #expect(self.store.look { $0.initiated } == [package.id])
        #expect(self.steps == [.saved(.shared, self.values, Timestamp(milliseconds: 1000))])
    }

    @Test func `deletes what an earlier package left before it saves`() async throws {
        let package = self.store.add(.firmware(), bytes: [1, 2]).package
        self.store.look {
            $0.attributes[.shared] = [
                "fw_url": "u", "fw_tag": "t", "fw_title": "old", "sw_url": "stays", "targetFwUrl": "u", "other": 1,
            ]
        }
        #expect(try await self.push(package) == .success)
        #expect(
            self.steps == [
                .deleted(["fw_tag", "fw_url", "targetFwUrl"]),
                .saved(.shared, self.values, Timestamp(milliseconds: 1000)),
            ]
        )
        #expect(self.store.look { $0.attributes[.shared]?["sw_url"] } == "stays")
    }

    @Test func `a package with a URL takes size and checksum away`() async throws {
        self.store.look { $0.attributes[.shared] = self.values }
        let package = self.store.add(.firmware(url: "https://example.org/fw")).package
        #expect(try await self.push(package) == .success)
        #expect(
            self.store.look { $0.attributes[.shared] } == [
                "fw_title": "fw", "fw_version": "1.1", "fw_url": "https://example.org/fw",
            ]
        )
    }

    @Test(arguments: ["https://ota.example.org", "http://127.0.0.1:8080/behind/"])
    func `gives a link to a package that is stored here, if asked`(base: String) async throws {
        let package = self.store.add(.firmware(), bytes: [1, 2]).package
        let attributes = ["download-url": base, "download-link-seconds": "60", "target-attributes": "true"]
        let node = try AttributePushNode.make(
            attributes,
            services: self.store.services(now: { Timestamp(milliseconds: 5000) })
        )
        let metadata: Metadata = ["packageType": "FIRMWARE", "packageId": .string(package.id.description)]
        #expect(try await node.process(.of(.packageAssigned, metadata)).only.relation == .success)
        let values = try #require(self.store.look { $0.attributes[.shared] })
        #expect(values["fw_size"] == 2 && values["fw_checksum"] == "c0ffee")
        let url = try #require(values["fw_url"]?.string)
        #expect(values["targetFwUrl"] == .string(url))
        let start = base.hasSuffix("/") ? "\(base)api/download/" : "\(base)/api/download/"
        #expect(url.hasPrefix(start) && url.hasSuffix("/fw.bin"))
        let text = url.dropFirst(start.count).dropLast("/fw.bin".count)
        let link = try #require(DownloadLinks(secret: [1, 2, 3]).link(text, at: Timestamp(milliseconds: 64_999)))
        #expect(link.device == DeviceId(Originator.device.id) && link.package == package.id)
        #expect(link.type == .firmware && link.expires == Timestamp(milliseconds: 65_000))
    }

    @Test func `leaves the URL of a package that has one`() async throws {
        let package = self.store.add(.firmware(url: "https://example.org/fw")).package
        #expect(try await self.push(package, ["download-url": "http://h"]) == .success)
        #expect(self.store.look { $0.attributes[.shared]?["fw_url"] } == "https://example.org/fw")
    }

    @Test(arguments: ["ftp://h", "h", "http://", "http://h?x", "http://h#x", "http://a b"])
    func `refuses a base that no path can be appended to`(base: String) {
        #expect(throws: NodeError.self) {
            try AttributePushNode.make(["download-url": base], services: self.store.services())
        }
    }

    @Test func `sets the target attributes if asked`() async throws {
        let package = self.store.add(.firmware(), bytes: [1, 2]).package
        #expect(try await self.push(package, ["target-attributes": "true"]) == .success)
        var values = self.values
        values["targetFwVersion"] = "1.1"
        values["targetFwChecksum"] = "c0ffee"
        #expect(self.steps == [.saved(.shared, values, Timestamp(milliseconds: 1000))])
    }

    @Test func `calls a method of the connected device if asked, each call with its own number`() async throws {
        let calls = Mutex<[DeviceNotification]>([])
        _ = self.store.sessions.subscribe(Originator.device.id) { call in calls.withLock { $0.append(call) } }
        let package = self.store.add(.firmware(), bytes: [1, 2]).package
        let node = try AttributePushNode.make(["rpc-method": "update"], services: self.store.services())
        let metadata: Metadata = ["packageType": "FIRMWARE", "packageId": .string(package.id.description)]
        for _ in 1...2 { _ = try await node.process(.of(.packageAssigned, metadata)) }
        #expect(
            calls.withLock { $0 } == [
                .rpcRequest(id: 1, method: "update", params: .object(self.values)),
                .rpcRequest(id: 2, method: "update", params: .object(self.values)),
            ]
        )
    }

    @Test func `leaves the device alone if it should have another package by now`() async throws {
        let old = self.store.add(.firmware("1.0"), bytes: [1]).package
        self.store.add(.firmware("2.0"), bytes: [2])
        #expect(try await self.push(old) == "Superseded")
        #expect(try await self.push(.firmware("deleted")) == "Superseded")
        #expect(self.steps.isEmpty)
        #expect(self.store.look { $0.initiated }.isEmpty)
    }

    @Test func `deletes all attributes of the kind if the device has no package any more`() async throws {
        self.store.look {
            var values = self.values
            values["targetFwVersion"] = "1.1"
            values["sw_title"] = "stays"
            $0.attributes[.shared] = values
        }
        #expect(try await self.clear() == .success)
        #expect(self.store.look { $0.attributes[.shared] } == ["sw_title": "stays"])
        #expect(self.steps.count == 1)
    }

    @Test func `deletes nothing if the device has a package again`() async throws {
        self.store.add(.firmware(), bytes: [1])
        self.store.look { $0.attributes[.shared] = self.values }
        #expect(try await self.clear() == "Superseded")
        #expect(self.steps.isEmpty)
    }

    @Test func `a device that was removed while its message waited is nobody to tell`() async throws {
        let package = self.store.add(.firmware(), bytes: [1]).package
        self.store.look { $0.failure = NodeError(.notFound, "the device is not found") }
        #expect(try await self.push(package) == "Superseded")
        #expect(try await self.clear() == "Superseded")
        self.store.look { $0.failure = NodeError(.unavailable, "the store is busy") }
        await #expect(throws: NodeError.self) { try await self.clear() }
    }

    @Test(arguments: [
        Message.of(.postTelemetryRequest, ["packageType": "FIRMWARE"]), .of(.packageAssigned, [:]),
        .of(.packageAssigned, ["packageType": "FIRMWARE"]),
        .of(.packageAssigned, ["packageType": "FIRMWARE", "packageId": "x"]),
    ])
    func `a message that is no assignment fails`(message: Message) async throws {
        let node = try AttributePushNode.make(services: self.store.services())
        let error = await #expect(throws: NodeError.self) { try await node.process(message) }
        #expect(error?.code == .badRequest)
    }
}
