public import NodeKit

/// The rules of device profiles, with the sentences that ThingsBoard's REST API answers when one is broken; see ``EntityRules``.
public enum DeviceProfileRules {
    /// The profile that a tenant has from its beginning, for devices that name none.
    public static func first(of tenant: TenantId, at now: Timestamp) -> DeviceProfile {
        DeviceProfile(
            createdTime: now,
            tenantId: tenant,
            name: "default",
            description: "Default device profile",
            isDefault: true
        )
    }

    /// Checks what a profile says about itself, before it is looked at beside others.
    public static func check(_ profile: DeviceProfile) throws(NodeError) {
        try EntityRules.checkGiven(profile.name, "Device profile name")
        try EntityRules.checkLength(profile.name, of: "name")
        try EntityRules.checkLength(profile.provisioning.deviceKey, of: "provisionDeviceKey")
        try EntityRules.checkLength(profile.provisioning.deviceSecret, of: "provisionDeviceSecret")
    }

    /// A profile as it is stored, if nothing speaks against it.
    ///
    /// Owner, time of creation, and whether it is the default one stay what they were. So do key and secret of its provisioning if it
    /// names none; they are made if its kind needs them.
    ///
    /// - Parameters:
    ///   - wanted: The profile as it is to be.
    ///   - old: The profile as stored; `nil` if it is new.
    ///   - random: Makes a text that nobody can guess.
    /// - Returns: The profile, to be checked beside others.
    public static func saved(
        _ wanted: DeviceProfile,
        over old: DeviceProfile?,
        random: () -> String
    ) -> DeviceProfile {
        var saved = wanted
        saved.isSaved = true
        saved.isDefault = old?.isDefault ?? false
        if let old {
            saved.createdTime = old.createdTime
            saved.tenantId = old.tenantId
        }
        func given(_ text: String?) -> String? { text?.isEmpty == true ? nil : text }
        saved.provisioning.deviceKey = given(wanted.provisioning.deviceKey)
        saved.provisioning.deviceSecret = given(wanted.provisioning.deviceSecret)
        if saved.provisioning.kind.needsKey {
            let known = old?.provisioning
            saved.provisioning.deviceKey = saved.provisioning.deviceKey ?? known?.deviceKey ?? random()
            saved.provisioning.deviceSecret = saved.provisioning.deviceSecret ?? known?.deviceSecret ?? random()
        }
        return saved
    }

    /// Checks a profile beside others.
    ///
    /// - Parameters:
    ///   - saved: The profile as ``saved(_:over:random:)`` says it.
    ///   - old: The profile as stored; `nil` if it is new.
    ///   - isNameTaken: Whether another profile of the tenant has its name.
    ///   - isKeyTaken: Whether another profile of any tenant has its key for provisioning.
    ///   - packages: The packages that it names, of those that exist.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func check(
        _ saved: DeviceProfile,
        over old: DeviceProfile?,
        isNameTaken: Bool,
        isKeyTaken: Bool,
        packages: [OtaPackageId: OtaPackage]
    ) throws(NodeError) {
        try EntityRules.checkUnique("Device profile with such name", isTaken: isNameTaken)
        try AssignmentRules.check(saved, over: old, packages: packages)
        try EntityRules.checkUnique("Device profile with such provision device key", isTaken: isKeyTaken)
    }

    /// Checks that a profile may be removed.
    ///
    /// - Parameters:
    ///   - profile: The profile.
    ///   - isUsed: Whether a device has it.
    /// - Throws: ``NodeError`` if it is the default one of its tenant, or used.
    public static func checkRemoval(of profile: DeviceProfile, isUsed: Bool) throws(NodeError) {
        guard !profile.isDefault else {
            throw EntityRules.broken("Deletion of Default Device Profile is prohibited!")
        }
        try EntityRules.checkUnused("device profile", by: "devices", isUsed: isUsed)
    }
}
