import NodeKit
import OTA
import Testing

@Suite struct AssignmentRulesTests {
    static let profile = DeviceProfileId.random()
    static let package = OtaPackageRulesTests.changed(OtaPackageRulesTests.stored) { $0.deviceProfileId = profile }

    @Test("a device should have its own package, or else that of its profile")
    func effective() {
        let (own, other) = (OtaPackageId.random(), OtaPackageId.random())
        #expect(AssignmentRules.effective(own: own, ofProfile: other) == own)
        #expect(AssignmentRules.effective(own: own, ofProfile: nil) == own)
        #expect(AssignmentRules.effective(own: nil, ofProfile: other) == other)
        #expect(AssignmentRules.effective(own: nil, ofProfile: nil) == nil)
    }

    @Test(
        "a package that is assigned must fit",
        arguments: [
            (package, OtaPackageType.firmware, nil),
            (nil, .firmware, "Can't assign non-existent firmware!"),
            (nil, .software, "Can't assign non-existent software!"),
            (
                OtaPackageRulesTests.changed(package) { $0.tenantId = .random() }, .firmware,
                "Can't assign firmware from different tenant!"
            ),
            (package, .software, "Can't assign software with type: FIRMWARE"),
            (
                OtaPackageRulesTests.changed(package) { $0.type = .software }, .firmware,
                "Can't assign firmware with type: SOFTWARE"
            ),
            (
                OtaPackageRulesTests.changed(package) { $0.hasData = false }, .firmware,
                "Can't assign firmware with empty data!"
            ),
            (
                OtaPackageRulesTests.changed(package) { $0.deviceProfileId = .random() }, .firmware,
                "Can't assign firmware with different deviceProfile!"
            ),
            (
                OtaPackageRulesTests.changed(package) { $0.deviceProfileId = nil }, .firmware,
                "Can't assign firmware with different deviceProfile!"
            ),
        ] as [(OtaPackage?, OtaPackageType, String?)]
    )
    func assignment(found: OtaPackage?, type: OtaPackageType, sentence: String?) {
        let id = Self.package.id
        let packages = found.map { [id: $0] } ?? [:]
        var device = Device(name: "d", deviceProfileId: Self.profile)
        var profile = DeviceProfile(id: Self.profile, name: "p")
        if type == .firmware {
            (device.firmwareId, profile.firmwareId) = (id, id)
        } else {
            (device.softwareId, profile.softwareId) = (id, id)
        }
        #expect(refusal { try AssignmentRules.check(device, over: nil, packages: packages) } == sentence)
        #expect(refusal { try AssignmentRules.check(profile, over: nil, packages: packages) } == sentence)
        // What did not change was checked before; a device that moves to another profile takes its packages along.
        #expect(refusal { try AssignmentRules.check(device, over: device, packages: packages) } == nil)
        #expect(refusal { try AssignmentRules.check(profile, over: profile, packages: packages) } == nil)
        var elsewhere = device
        elsewhere.deviceProfileId = .random()
        #expect(refusal { try AssignmentRules.check(device, over: elsewhere, packages: packages) } == sentence)
    }

    @Test("packages are only taken away if one is, and none is assigned")
    func takingAway() {
        let (a, b) = (OtaPackageId.random(), OtaPackageId.random())
        func device(_ firmware: OtaPackageId?, _ software: OtaPackageId?) -> Device {
            Device(name: "d", deviceProfileId: Self.profile, firmwareId: firmware, softwareId: software)
        }
        for (old, new, expected) in [
            (device(a, b), device(nil, b), true), (device(a, b), device(nil, nil), true),
            (device(a, b), device(a, b), false), (device(a, nil), device(nil, b), false),
            (device(nil, nil), device(a, nil), false), (device(a, nil), device(b, nil), false),
        ] {
            #expect(AssignmentRules.onlyTakesAway(from: old, to: new) == expected)
        }
    }
}

@Suite struct DeviceRulesTests {
    static let profile = DeviceProfile(name: "p")

    @Test(
        "a device needs a name that is not blank, and no text is too long",
        arguments: [
            (" ", nil, "Device name should be specified!"),
            (String(repeating: "x", count: 256), nil, "name length must be equal or less than 255"),
            ("x", String(repeating: "x", count: 256), "label length must be equal or less than 255"),
            (String(repeating: "x", count: 255), "", nil),
        ] as [(String, String?, String?)]
    )
    func itself(name: String, label: String?, sentence: String?) {
        let device = Device(name: name, label: label, deviceProfileId: Self.profile.id)
        #expect(refusal { try DeviceRules.check(device) } == sentence)
    }

    private func facts(
        old: Device? = nil,
        followed: [OtaPackageType: OtaPackageId] = [:],
        profile: DeviceProfile? = profile,
        isNameTaken: Bool = false,
        packages: [OtaPackage] = []
    ) -> DeviceRules.Facts {
        DeviceRules.Facts(
            old: old,
            followed: followed,
            profile: profile,
            isNameTaken: isNameTaken,
            packages: Dictionary(uniqueKeysWithValues: packages.map { ($0.id, $0) })
        )
    }

    @Test("a device needs a profile of its tenant and a name that no other device there has")
    func others() {
        let device = Device(name: "d", deviceProfileId: Self.profile.id)
        func sentence(_ facts: DeviceRules.Facts) -> String? {
            refusal { _ = try DeviceRules.change(to: device, facts) }
        }
        let missing = "Device is referencing to non-existent device profile!"
        #expect(sentence(self.facts()) == nil)
        #expect(sentence(self.facts(profile: nil, isNameTaken: true)) == missing)
        #expect(sentence(self.facts(profile: DeviceProfile(tenantId: .random(), name: "p"))) == missing)
        #expect(sentence(self.facts(isNameTaken: true)) == "Device with such name already exists!")
        // The tenant is that of the stored device, whatever is wanted.
        let elsewhere = Device(tenantId: .random(), name: "d", deviceProfileId: Self.profile.id)
        #expect(sentence(self.facts(old: elsewhere)) == missing)
    }

    @Test("owner and time of creation of a device stay, and the names that messages carry are followed")
    func merging() throws {
        let old = Device(createdTime: Timestamp(milliseconds: 1), name: "d", deviceProfileId: Self.profile.id)
        var wanted = old
        wanted.createdTime = Timestamp(milliseconds: 2)
        wanted.tenantId = .random()
        wanted.label = "l"
        var change = try DeviceRules.change(to: wanted, self.facts(old: old))
        #expect(change.device.createdTime == old.createdTime && change.device.tenantId == old.tenantId)
        #expect(change.device.label == "l" && change.device.isSaved && !change.isRenamed)
        wanted.name = "e"
        change = try DeviceRules.change(to: wanted, self.facts(old: old))
        #expect(change.isRenamed)
        var moved = old
        moved.deviceProfileId = .random()
        #expect(try DeviceRules.change(to: old, self.facts(old: moved)).isRenamed)
        #expect(try !DeviceRules.change(to: old, self.facts()).isRenamed)
    }

    @Test("the targets of a device are its effective packages, unless its updates follow them already")
    func targets() throws {
        func package(_ type: OtaPackageType) -> OtaPackage {
            var package = OtaPackage(deviceProfileId: Self.profile.id, type: type, title: "t", version: "1")
            package.hasData = true
            return package
        }
        let (own, software) = (package(.firmware), package(.software))
        let ofProfile = OtaPackageId.random()
        var profile = Self.profile
        profile.firmwareId = ofProfile
        var device = Device(name: "d", deviceProfileId: profile.id)
        func targets(_ wanted: Device, over old: Device, reached: Bool = true) throws -> [OtaPackageType: OtaPackageId?]
        {
            var followed: [OtaPackageType: OtaPackageId] = [:]
            for type in OtaPackageType.allCases where reached {
                followed[type] = old.packageId(of: type) ?? profile.packageId(of: type)
            }
            let facts = self.facts(old: old, followed: followed, profile: profile, packages: [own, software])
            return Dictionary(
                uniqueKeysWithValues: try DeviceRules.change(to: wanted, facts).targets.map { ($0.type, $0.package) }
            )
        }
        #expect(try DeviceRules.change(to: device, self.facts(profile: profile)).targets.map(\.package) == [ofProfile])
        #expect(try targets(device, over: device) == [:])
        // The package of the profile has not reached the device.
        #expect(try targets(device, over: device, reached: false) == [.firmware: ofProfile])
        var changed = device
        (changed.firmwareId, changed.softwareId) = (own.id, software.id)
        #expect(try targets(changed, over: device) == [.firmware: own.id, .software: software.id])
        #expect(try targets(device, over: changed) == [.firmware: ofProfile, .software: nil])
        // The same package by another way is the same.
        profile.firmwareId = own.id
        device.softwareId = software.id
        #expect(try targets(changed, over: device) == [:])
    }
}

@Suite struct DeviceProfileRulesTests {
    @Test(
        "a profile needs a name that is not blank, and no text is too long",
        arguments: [
            ("", nil, nil, "Device profile name should be specified!"),
            (String(repeating: "x", count: 256), nil, nil, "name length must be equal or less than 255"),
            ("x", String(repeating: "x", count: 256), nil, "provisionDeviceKey length must be equal or less than 255"),
            (
                "x", "k", String(repeating: "x", count: 256),
                "provisionDeviceSecret length must be equal or less than 255"
            ),
            ("x", "k", "s", nil),
        ] as [(String, String?, String?, String?)]
    )
    func itself(name: String, key: String?, secret: String?, sentence: String?) {
        let provisioning = ProfileProvisioning(deviceKey: key, deviceSecret: secret)
        let profile = DeviceProfile(name: name, provisioning: provisioning)
        #expect(refusal { try DeviceProfileRules.check(profile) } == sentence)
    }

    @Test("owner, time of creation and being the default one stay as they were, and no new profile is the default one")
    func merging() {
        let old = DeviceProfile(createdTime: Timestamp(milliseconds: 1), name: "p", isDefault: true)
        let wanted = DeviceProfile(id: old.id, tenantId: .random(), name: "q", isDefault: false)
        let saved = DeviceProfileRules.saved(wanted, over: old) { "random" }
        #expect(saved.name == "q" && saved.tenantId == old.tenantId && saved.createdTime == old.createdTime)
        #expect(saved.isDefault && saved.isSaved)
        #expect(!DeviceProfileRules.saved(old, over: nil) { "random" }.isDefault)
        #expect(DeviceProfileRules.first(of: .main, at: old.createdTime).isDefault)
    }

    @Test(
        "key and secret are made if the kind needs them, and kept if none are named",
        arguments: [
            (ProfileProvisioning.Kind.disabled, nil, nil, nil), (.disabled, "", "old", nil),
            (.disabled, "new", "old", "new"), (.allowCreateNewDevices, nil, nil, "random"),
            (.allowCreateNewDevices, nil, "old", "old"), (.checkPreProvisionedDevices, "", "old", "old"),
            (.checkPreProvisionedDevices, "new", "old", "new"),
        ] as [(ProfileProvisioning.Kind, String?, String?, String?)]
    )
    func secrets(kind: ProfileProvisioning.Kind, wanted: String?, known: String?, expected: String?) {
        func profile(_ text: String?) -> DeviceProfile {
            DeviceProfile(
                name: "p",
                provisioning: ProfileProvisioning(kind: kind, deviceKey: text, deviceSecret: text)
            )
        }
        let saved = DeviceProfileRules.saved(profile(wanted), over: known.map(profile)) { "random" }.provisioning
        #expect(saved.deviceKey == expected && saved.deviceSecret == expected)
    }

    @Test("name and key are unique, and assigned packages must exist")
    func others() {
        var profile = DeviceProfile(name: "p")
        func sentence(_ isNameTaken: Bool, _ isKeyTaken: Bool) -> String? {
            refusal {
                try DeviceProfileRules.check(
                    profile,
                    over: nil,
                    isNameTaken: isNameTaken,
                    isKeyTaken: isKeyTaken,
                    packages: [:]
                )
            }
        }
        #expect(sentence(false, false) == nil)
        #expect(sentence(true, true) == "Device profile with such name already exists!")
        #expect(sentence(false, true) == "Device profile with such provision device key already exists!")
        profile.firmwareId = .random()
        #expect(sentence(false, true) == "Can't assign non-existent firmware!")
    }

    @Test("a profile is removed unless it is the default one, or a device has it")
    func removal() {
        func sentence(isDefault: Bool, isUsed: Bool) -> String? {
            refusal {
                try DeviceProfileRules.checkRemoval(of: DeviceProfile(name: "p", isDefault: isDefault), isUsed: isUsed)
            }
        }
        #expect(sentence(isDefault: false, isUsed: false) == nil)
        #expect(sentence(isDefault: true, isUsed: true) == "Deletion of Default Device Profile is prohibited!")
        #expect(
            sentence(isDefault: false, isUsed: true)
                == "The device profile referenced by the devices cannot be deleted!"
        )
    }
}
