import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

@Suite struct AttributePushNodeTests {
    private static let checksum = "a12871fee210fb8619291eaea194581cbd2531e4b23759d225f6806923f63222"

    private let domain: NodeDomain
    private let values: JSON.Object = [
        "fw_title": "fw", "fw_version": "1.1", "fw_size": 2, "fw_checksum_algorithm": "SHA256",
        "fw_checksum": .string(Self.checksum),
    ]

    init() async throws { self.domain = try await NodeDomain() }

    private func push(
        _ package: OtaPackage,
        _ attributes: [String: String] = [:]
    ) async throws -> Relation {
        let node = try AttributePushNode.make(attributes, services: self.domain.services())
        let metadata: Metadata = ["packageType": "FIRMWARE", "packageId": .string(package.id.description)]
        return try await node.process(.of(.packageAssigned, metadata)).only.relation
    }

    private func clear(_ attributes: [String: String] = [:]) async throws -> Relation {
        let node = try AttributePushNode.make(attributes, services: self.domain.services())
        return try await node.process(.of(.packageUnassigned, ["packageType": "FIRMWARE"])).only.relation
    }

    /// A package with a URL, which the device is to have.
    private func elsewhere() async throws -> OtaPackage {
        let package = try await self.domain.domain.package(
            "fw",
            "1.1",
            in: try await self.domain.profile(),
            url: "https://example.org/fw"
        )
        try await self.domain.domain.assign(package.id, to: self.domain.device)
        return package
    }

    private var initiated: [OtaPackageId] { self.domain.updates.look { $0.initiated } }

    @Test func `saves all attributes in one step and deletes nothing if nothing is obsolete`() async throws {
        let package = try await self.domain.assign()
        let told = self.domain.domain.notifications(of: self.domain.device)
        #expect(try await self.push(package) == .success)
        #expect(self.initiated == [package.id])
        #expect(told.all == [.attributesUpdated(self.values)])
        #expect(try await self.domain.attributes(.shared) == self.values)
    }

    @Test func `deletes what an earlier package left before it saves`() async throws {
        let package = try await self.domain.assign()
        try await self.domain.save(
            ["fw_url": "u", "fw_tag": "t", "fw_title": "old", "sw_url": "stays", "targetFwUrl": "u", "other": 1],
            .shared
        )
        let told = self.domain.domain.notifications(of: self.domain.device)
        #expect(try await self.push(package) == .success)
        #expect(
            told.all == [
                .attributesDeleted(["fw_tag", "fw_url", "targetFwUrl"]), .attributesUpdated(self.values),
            ]
        )
        #expect(try await self.domain.attributes(.shared)["sw_url"] == "stays")
    }

    @Test func `a package with a URL takes size and checksum away`() async throws {
        try await self.domain.save(self.values, .shared)
        let package = try await self.elsewhere()
        #expect(try await self.push(package) == .success)
        #expect(
            try await self.domain.attributes(.shared) == [
                "fw_title": "fw", "fw_version": "1.1", "fw_url": "https://example.org/fw",
            ]
        )
    }

    @Test(arguments: ["https://ota.example.org", "http://127.0.0.1:8080/behind/"])
    func `gives a link to a package that is stored here, if asked`(base: String) async throws {
        let package = try await self.domain.assign()
        let attributes = ["download-url": base, "download-link-seconds": "60", "target-attributes": "true"]
        let node = try AttributePushNode.make(
            attributes,
            services: self.domain.services()
        )
        let metadata: Metadata = ["packageType": "FIRMWARE", "packageId": .string(package.id.description)]
        #expect(try await node.process(.of(.packageAssigned, metadata)).only.relation == .success)
        let values = try await self.domain.attributes(.shared)
        #expect(values["fw_size"] == 2 && values["fw_checksum"] == .string(Self.checksum))
        let url = try #require(values["fw_url"]?.string)
        #expect(values["targetFwUrl"] == .string(url))
        let start = base.hasSuffix("/") ? "\(base)api/download/" : "\(base)/api/download/"
        #expect(url.hasPrefix(start) && url.hasSuffix("/fw.bin"))
        let text = url.dropFirst(start.count).dropLast("/fw.bin".count)
        let expires = self.domain.domain.now().adding(.seconds(60))
        let link = try #require(self.domain.domain.links.link(text, at: expires.adding(.milliseconds(-1))))
        #expect(link.device == DeviceId(Originator.device.id) && link.package == package.id)
        #expect(link.type == .firmware && link.expires == expires)
    }

    @Test func `leaves the URL of a package that has one`() async throws {
        let package = try await self.elsewhere()
        #expect(try await self.push(package, ["download-url": "http://h"]) == .success)
        #expect(try await self.domain.attributes(.shared)["fw_url"] == "https://example.org/fw")
    }

    @Test(arguments: ["ftp://h", "h", "http://", "http://h?x", "http://h#x", "http://a b"])
    func `refuses a base that no path can be appended to`(base: String) {
        #expect(throws: NodeError.self) {
            try AttributePushNode.make(["download-url": base], services: self.domain.services())
        }
    }

    @Test func `sets the target attributes if asked`() async throws {
        let package = try await self.domain.assign()
        #expect(try await self.push(package, ["target-attributes": "true"]) == .success)
        var values = self.values
        values["targetFwVersion"] = "1.1"
        values["targetFwChecksum"] = .string(Self.checksum)
        #expect(try await self.domain.attributes(.shared) == values)
    }

    @Test func `calls a method of the connected device if asked, each call with its own number`() async throws {
        let package = try await self.domain.assign()
        let told = self.domain.domain.notifications(of: self.domain.device)
        let node = try AttributePushNode.make(["rpc-method": "update"], services: self.domain.services())
        let metadata: Metadata = ["packageType": "FIRMWARE", "packageId": .string(package.id.description)]
        for _ in 1...2 { _ = try await node.process(.of(.packageAssigned, metadata)) }
        #expect(
            told.all.filter { if case .rpcRequest = $0 { true } else { false } } == [
                .rpcRequest(id: 1, method: "update", params: .object(self.values)),
                .rpcRequest(id: 2, method: "update", params: .object(self.values)),
            ]
        )
    }

    @Test func `leaves the device alone if it should have another package by now`() async throws {
        let old = try await self.domain.package("fw", "1.0")
        try await self.domain.assign("fw", "2.0")
        #expect(try await self.push(old) == "Superseded")
        let deleted = OtaPackage(deviceProfileId: nil, type: .firmware, title: "fw", version: "deleted")
        #expect(try await self.push(deleted) == "Superseded")
        #expect(try await self.domain.attributes(.shared) == [:])
        #expect(self.initiated.isEmpty)
    }

    @Test func `deletes all attributes of the kind if the device has no package any more`() async throws {
        var values = self.values
        values["targetFwVersion"] = "1.1"
        values["sw_title"] = "stays"
        try await self.domain.save(values, .shared)
        let told = self.domain.domain.notifications(of: self.domain.device)
        #expect(try await self.clear() == .success)
        #expect(try await self.domain.attributes(.shared) == ["sw_title": "stays"])
        #expect(told.all.count == 1)
    }

    @Test func `deletes nothing if the device has a package again`() async throws {
        try await self.domain.assign()
        try await self.domain.save(self.values, .shared)
        #expect(try await self.clear() == "Superseded")
        #expect(try await self.domain.attributes(.shared) == self.values)
    }

    @Test func `a device that was removed while its message waited is nobody to tell`() async throws {
        let package = try await self.domain.assign()
        try await self.domain.store.deleteDevice(self.domain.device)
        #expect(try await self.push(package) == "Superseded")
        #expect(try await self.clear() == "Superseded")
        await self.domain.close()
        await #expect(throws: NodeError.self) { try await self.clear() }
    }

    @Test(arguments: [
        Message.of(.postTelemetryRequest, ["packageType": "FIRMWARE"]), .of(.packageAssigned, [:]),
        .of(.packageAssigned, ["packageType": "FIRMWARE"]),
        .of(.packageAssigned, ["packageType": "FIRMWARE", "packageId": "x"]),
    ])
    func `a message that is no assignment fails`(message: Message) async throws {
        let node = try AttributePushNode.make(services: self.domain.services())
        let error = await #expect(throws: NodeError.self) { try await node.process(message) }
        #expect(error?.code == .badRequest)
    }
}
