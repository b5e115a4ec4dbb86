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

    static func bytes(_ change: (inout UploadedBytes) -> Void = { _ in }) -> UploadedBytes {
        var bytes = UploadedBytes(
            fileName: "fw.bin",
            contentType: "application/octet-stream",
            algorithm: .md5,
            checksum: "00",
            sha256: "11",
            size: 1
        )
        change(&bytes)
        return bytes
    }

    @Test(
        "what comes with the bytes is checked",
        arguments: [
            (bytes { $0.fileName = nil }, nil, "OtaPackage file name should be specified!"),
            (bytes { $0.fileName = "" }, nil, "OtaPackage file name should be specified!"),
            (bytes { $0.contentType = nil }, nil, "OtaPackage content type should be specified!"),
            (bytes { $0.size = 0 }, nil, "OtaPackage data should be specified!"),
            (bytes { $0.fileName = texts + "x" }, nil, "file name length must be equal or less than 255"),
            (bytes { $0.contentType = texts + "x" }, nil, "contentType length must be equal or less than 255"),
            (bytes(), "01", "Wrong otaPackage file!"),
            (bytes(), "00", nil), (bytes(), "", nil), (bytes(), nil, nil),
        ] as [(UploadedBytes, String?, String?)]
    )
    func upload(bytes: UploadedBytes, told: String?, sentence: String?) {
        #expect(refusal { try OtaPackageRules.check(bytes, told: told) } == sentence)
    }

    @Test(
        "a package takes bytes once, of the checksum that it was made with, and none if it has a URL",
        arguments: [
            (package, bytes(), nil),
            (stored, bytes(), nil),
            (stored, bytes { $0.sha256 = "22" }, "Updating otaPackage data is prohibited!"),
            (stored, bytes { $0.fileName = "x" }, "Updating otaPackage file name is prohibited!"),
            (
                changed {
                    $0.checksum = "00"; $0.checksumAlgorithm = .md5
                }, bytes(), nil
            ),
            (
                changed {
                    $0.checksum = "01"; $0.checksumAlgorithm = .md5
                }, bytes(), "Wrong otaPackage file!"
            ),
            (
                changed {
                    $0.checksum = "01"; $0.checksumAlgorithm = .crc32
                }, bytes(),
                "Updating otaPackage content type is prohibited!"
            ),
            (external, bytes(), "File can't be saved if URL present!"),
        ] as [(OtaPackage, UploadedBytes, String?)]
    )
    func filling(package: OtaPackage, bytes: UploadedBytes, sentence: String?) {
        var filled: OtaPackage?
        #expect(refusal { filled = try OtaPackageRules.filled(package, with: bytes) } == sentence)
        #expect(filled == (sentence == nil ? Self.stored : nil))
    }

    @Test(
        "a new package needs a profile of its tenant, if any, and a title and version of its own",
        arguments: [
            (DeviceProfile(id: profile, name: "p"), false, nil),
            (nil, false, "OtaPackage is referencing to non-existent device profile!"),
            (
                DeviceProfile(tenantId: .random(), name: "p"), true,
                "OtaPackage is referencing to non-existent device profile!"
            ),
            (DeviceProfile(id: profile, name: "p"), true, "OtaPackage with such title and version already exists!"),
        ] as [(DeviceProfile?, Bool, String?)]
    )
    func creation(profile: DeviceProfile?, isTaken: Bool, sentence: String?) throws {
        #expect(
            refusal { _ = try OtaPackageRules.created(Self.package, profile: profile, isTaken: isTaken) } == sentence
        )
        let free = Self.changed { $0.deviceProfileId = nil }
        #expect(try OtaPackageRules.created(free, profile: nil, isTaken: false).isSaved)
    }

    @Test("what describes the bytes of a new package comes with the bytes, unless it has a URL")
    func descriptions() throws {
        let wanted = Self.changed(Self.stored) { $0.deviceProfileId = nil }
        let created = try OtaPackageRules.created(wanted, profile: nil, isTaken: false)
        #expect(created.fileName == nil && created.contentType == nil && created.dataSize == nil)
        #expect(created.sha256 == nil && !created.hasData)
        // A checksum is a promise about the bytes to come.
        #expect(created.checksum == wanted.checksum && created.checksumAlgorithm == .md5)
        let linked = try OtaPackageRules.created(
            Self.changed(wanted) { $0.url = "http://x/y" },
            profile: nil,
            isTaken: false
        )
        #expect(linked.fileName == "fw.bin" && linked.dataSize == 1 && linked.hasData)
    }

    @Test("a change of a package keeps all but its additional information")
    func change() throws {
        let own = DeviceProfile(id: Self.profile, name: "p")
        // The REST API does not show the file.
        let wanted = Self.changed(Self.stored) {
            $0.sha256 = nil
            $0.additionalInfo = ["a": 1]
            $0.createdTime = Timestamp(milliseconds: 1)
        }
        let saved = try OtaPackageRules.changed(Self.stored, to: wanted, profile: own)
        #expect(saved == Self.changed(Self.stored) { $0.additionalInfo = ["a": 1] })
        #expect(
            refusal { _ = try OtaPackageRules.changed(Self.stored, to: wanted, profile: nil) }
                == "OtaPackage is referencing to non-existent device profile!"
        )
    }

    @Test(
        "a package that is used is not removed",
        arguments: [
            (OtaPackageType.firmware, true, true, "The otaPackage referenced by the devices cannot be deleted!"),
            (.firmware, false, true, "The otaPackage referenced by the device profile cannot be deleted!"),
            (.software, true, false, "The software referenced by the devices cannot be deleted!"),
            (.software, false, true, "The software referenced by the device profile cannot be deleted!"),
            (.software, false, false, nil),
        ] as [(OtaPackageType, Bool, Bool, String?)]
    )
    func removal(type: OtaPackageType, devices: Bool, profile: Bool, sentence: String?) {
        #expect(
            refusal {
                try OtaPackageRules.checkRemoval(of: type, isUsedByDevices: devices, isUsedByProfile: profile)
            } == sentence
        )
    }

    @Test(
        "the packages of a tenant have as many bytes as it may store, and no more",
        arguments: [(10, 0, true), (10, 5, false), (5, 5, true), (1, 10, false), (1, .max, false), (.max, 0, false)]
            as [(Int64, Int64, Bool)]
    )
    func quota(size: Int64, used: Int64, fits: Bool) {
        let sentence = "Ota packages total size exceeds the maximum of 10 bytes"
        #expect(
            refusal { try OtaPackageRules.checkQuota(adding: size, used: used, max: 10) } == (fits ? nil : sentence)
        )
    }

    @Test(
        "a tenant without a limit of bytes, or with 0, has none",
        arguments: [
            ([:], nil), (["maxOtaPackagesInBytes": 0], nil), (["maxOtaPackagesInBytes": nil], nil),
            (["maxOtaPackagesInBytes": 7], 7),
        ] as [(JSON, Int64?)]
    )
    func quotaOfTenant(details: JSON, max: Int64?) {
        #expect(Tenant(title: "t", details: details).packageBytesMax == max)
    }

    private static func expect(_ sentence: String, _ body: () throws(NodeError) -> Void) {
        #expect(refusal(body) == sentence)
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
