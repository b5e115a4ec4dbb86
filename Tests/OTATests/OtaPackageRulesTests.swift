import NodeKit
import OTA
import Testing

@Suite struct OtaPackageRulesTests {
    static let profile = DeviceProfileId.random()
    static let package = OtaPackage(deviceProfileId: profile, type: .firmware, title: "fw", version: "1", tag: "fw 1")

    /// The package with changes.
    static func changed(_ package: OtaPackage = Self.package, _ change: (inout OtaPackage) -> Void) -> OtaPackage {
        var package = package
        change(&package)
        return package
    }

    static let texts = String(repeating: "x", count: 255)

    @Test(
        "what a package says about itself is checked in the words of ThingsBoard",
        arguments: [
            (changed { $0.title = "" }, "OtaPackage title should be specified!"),
            (changed { $0.version = "" }, "OtaPackage version should be specified!"),
            (changed { $0.title = texts + "x" }, "title length must be equal or less than 255"),
            (changed { $0.version = texts + "x" }, "version length must be equal or less than 255"),
            (changed { $0.tag = texts + "x" }, "tag length must be equal or less than 255"),
            (changed { $0.url = texts + "x" }, "url length must be equal or less than 255"),
            (changed { $0.fileName = texts + "x" }, "file name length must be equal or less than 255"),
            (changed { $0.contentType = texts + "x" }, "contentType length must be equal or less than 255"),
            (
                changed { $0.checksum = String(repeating: "0", count: 1021) },
                "checksum length must be equal or less than 1020"
            ),
            (changed { $0.url = "" }, "Ota package URL should be specified!"),
            (changed { $0.url = "  " }, "Ota package URL should be specified!"),
        ]
    )
    func itself(package: OtaPackage, sentence: String) {
        Self.expect(sentence) { () throws(NodeError) in try OtaPackageRules.check(package) }
    }

    @Test("texts at the limit pass, counted in characters")
    func limits() {
        let longest = Self.changed {
            $0.title = Self.texts
            $0.version = String(repeating: "é", count: 255)
            $0.url = Self.texts
            $0.checksum = String(repeating: "0", count: 1020)
        }
        #expect(throws: Never.self) { try OtaPackageRules.check(longest) }
    }

    static let stored = changed {
        $0.fileName = "fw.bin"
        $0.contentType = "application/octet-stream"
        $0.checksumAlgorithm = .md5
        $0.checksum = "00"
        $0.dataSize = 1
        $0.sha256 = "11"
        $0.hasData = true
    }

    @Test(
        "a saved package stays what it is",
        arguments: [
            (changed(stored) { $0.type = .software }, "Updating type is prohibited!"),
            (changed(stored) { $0.title = "x" }, "Updating otaPackage title is prohibited!"),
            (changed(stored) { $0.version = "x" }, "Updating otaPackage version is prohibited!"),
            (changed(stored) { $0.tag = nil }, "Updating otaPackage tag is prohibited!"),
            (changed(stored) { $0.deviceProfileId = nil }, "Updating otaPackage deviceProfile is prohibited!"),
            (changed(stored) { $0.fileName = nil }, "Updating otaPackage file name is prohibited!"),
            (changed(stored) { $0.contentType = "x" }, "Updating otaPackage content type is prohibited!"),
            (changed(stored) { $0.checksum = "x" }, "Updating otaPackage content type is prohibited!"),
            (changed(stored) { $0.checksumAlgorithm = .crc32 }, "Updating otaPackage content type is prohibited!"),
            (changed(stored) { $0.dataSize = 2 }, "Updating otaPackage data size is prohibited!"),
            (changed(stored) { $0.url = "http://x" }, "Updating otaPackage URL is prohibited!"),
            (changed(stored) { $0.sha256 = "22" }, "Updating otaPackage data is prohibited!"),
        ]
    )
    func changes(package: OtaPackage, sentence: String) {
        Self.expect(sentence) { () throws(NodeError) in
            try OtaPackageRules.checkChange(from: Self.stored, to: package)
        }
    }

    @Test("what is free to change may change, and what describes the bytes may be set once")
    func allowed() throws {
        try OtaPackageRules.checkChange(from: Self.stored, to: Self.changed(Self.stored) { $0.additionalInfo = [:] })
        try OtaPackageRules.checkChange(from: Self.package, to: Self.stored)
    }

    @Test(
        "what comes with the bytes is checked",
        arguments: [
            (nil, "t", 1, "OtaPackage file name should be specified!"),
            ("", "t", 1, "OtaPackage file name should be specified!"),
            ("f", nil, 1, "OtaPackage content type should be specified!"),
            ("f", "t", 0, "OtaPackage data should be specified!"),
            (texts + "x", "t", 1, "file name length must be equal or less than 255"),
        ] as [(String?, String?, Int64, String)]
    )
    func upload(fileName: String?, contentType: String?, size: Int64, sentence: String) {
        Self.expect(sentence) { () throws(NodeError) in
            try OtaPackageRules.checkUpload(fileName: fileName, contentType: contentType, size: size)
        }
    }

    @Test(
        "what is assigned must fit",
        arguments: [
            (nil, OtaPackageType.firmware, "Can't assign non-existent firmware!"),
            (nil, .software, "Can't assign non-existent software!"),
            (
                changed(stored) { $0.tenantId = .random() }, .firmware,
                "Can't assign firmware from different tenant!"
            ),
            (changed(stored) { $0.type = .software }, .firmware, "Can't assign firmware with type: SOFTWARE"),
            (stored, .software, "Can't assign software with type: FIRMWARE"),
            (package, .firmware, "Can't assign firmware with empty data!"),
            (
                changed(stored) { $0.deviceProfileId = .random() }, .firmware,
                "Can't assign firmware with different deviceProfile!"
            ),
            (
                changed(stored) { $0.deviceProfileId = nil }, .firmware,
                "Can't assign firmware with different deviceProfile!"
            ),
        ] as [(OtaPackage?, OtaPackageType, String)]
    )
    func assignment(package: OtaPackage?, type: OtaPackageType, sentence: String) {
        Self.expect(sentence) { () throws(NodeError) in
            try OtaPackageRules.checkAssignment(
                of: package,
                as: type,
                tenantId: .main,
                deviceProfileId: Self.profile
            )
        }
    }

    @Test("other rules have their sentences too")
    func sentences() {
        #expect(
            [
                OtaPackageRules.profileMissing, OtaPackageRules.duplicate, OtaPackageRules.wrongFile,
                OtaPackageRules.uploadToURL, OtaPackageRules.usedByDevices(.firmware),
                OtaPackageRules.usedByProfile(.firmware), OtaPackageRules.usedByDevices(.software),
                OtaPackageRules.usedByProfile(.software),
            ].map(\.message) == [
                "OtaPackage is referencing to non-existent device profile!",
                "OtaPackage with such title and version already exists!",
                "Wrong otaPackage file!",
                "File can't be saved if URL present!",
                "The otaPackage referenced by the devices cannot be deleted!",
                "The otaPackage referenced by the device profile cannot be deleted!",
                "The software referenced by the devices cannot be deleted!",
                "The software referenced by the device profile cannot be deleted!",
            ]
        )
    }

    private static func expect(_ sentence: String, _ body: () throws(NodeError) -> Void) {
        do {
            try body()
            Issue.record("nothing was thrown; expected: \(sentence)")
        } catch {
            #expect(error.message == sentence)
            #expect(error.code == .badRequest)
        }
    }

    static let external = changed { $0.url = "http://x/y" }

    @Test(
        "attributes offer a package if they hold all that a device needs to fetch and check it",
        .bug(id: "T2"),
        arguments: [
            (stored, ["title", "version", "size", "checksum", "checksum_algorithm"], true),
            (stored, ["title", "version", "size", "checksum", "checksum_algorithm", "tag"], true),
            (stored, ["title", "version"], false),
            (stored, ["title", "version", "size", "checksum"], false),
            (stored, ["version", "size", "checksum", "checksum_algorithm"], false),
            (external, ["title", "version", "url"], true),
            (external, ["title", "version"], false),
            (external, ["url"], false),
        ]
    )
    func offers(package: OtaPackage, names: [String], isOffer: Bool) {
        let all = package.sharedAttributes
        var values: JSON.Object = ["sw_title": "other", "color": "red"]
        for name in names {
            #expect(all["fw_\(name)"] != nil)
            values["fw_\(name)"] = all["fw_\(name)"]
        }
        let offer = OtaPackageType.firmware.offer(in: values)
        #expect((offer != nil) == isOffer)
        #expect(offer?.names.allSatisfy { $0.hasPrefix("fw_") } ?? true)
        #expect(package.isOffered(by: values) == isOffer)
        #expect(OtaPackageType.software.offer(in: values) == nil)
    }

    @Test(
        "an offer of another package is not one of this",
        .bug(id: "T2"),
        arguments: ["fw_title", "fw_version", "fw_size", "fw_checksum", "fw_checksum_algorithm"]
    )
    func otherOffers(name: String) {
        var values = Self.stored.sharedAttributes
        values[name] = "another"
        #expect(!Self.stored.isOffered(by: values))
        // A URL that attribute-push adds changes nothing.
        var linked = Self.stored.sharedAttributes
        linked["fw_url"] = "http://x/link"
        #expect(Self.stored.isOffered(by: linked))
    }
}
