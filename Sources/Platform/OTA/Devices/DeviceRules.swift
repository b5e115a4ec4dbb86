public import NodeKit

/// The rules of devices, with the sentences that ThingsBoard's REST API answers when one is broken; see ``EntityRules``.
public enum DeviceRules {
    /// Checks what a device says about itself, before it is looked at beside others.
    public static func check(_ device: Device) throws(NodeError) {
        try EntityRules.checkGiven(device.name, "Device name")
        try EntityRules.checkLength(device.name, of: "name")
        try EntityRules.checkLength(device.label, of: "label")
    }

    /// What decides about a device that is saved.
    public struct Facts: Sendable {
        /// The device as stored; `nil` if it is new.
        public var old: Device?
        /// The packages that its updates follow: its effective ones, unless another package of its whole profile has not reached it
        /// yet.
        public var followed: [OtaPackageType: OtaPackageId]
        /// The profile that the device is to have; `nil` if that does not exist.
        public var profile: DeviceProfile?
        /// Whether another device of the tenant has the name.
        public var isNameTaken: Bool
        /// The packages that the device names, of those that exist.
        public var packages: [OtaPackageId: OtaPackage]

        /// Joins what is known.
        public init(
            old: Device?,
            followed: [OtaPackageType: OtaPackageId],
            profile: DeviceProfile?,
            isNameTaken: Bool,
            packages: [OtaPackageId: OtaPackage]
        ) {
            self.old = old
            self.followed = followed
            self.profile = profile
            self.isNameTaken = isNameTaken
            self.packages = packages
        }
    }

    /// What a save of a device comes to.
    public struct Change: Sendable {
        /// The device as it is stored.
        public var device: Device
        /// The types of which its effective package is not the one that its updates follow, in order, with that package; `nil` for none.
        public var targets: [(type: OtaPackageType, package: OtaPackageId?)]
        /// Whether messages name it in another way: by its name, or by that of its profile.
        public var isRenamed: Bool
    }

    /// What a save of a device comes to.
    ///
    /// - Parameters:
    ///   - wanted: The device as it is to be, which was checked by itself.
    ///   - facts: What is known around it.
    /// - Returns: What to store. Owner and time of creation stay what they were.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func change(to wanted: Device, _ facts: Facts) throws(NodeError) -> Change {
        var saved = wanted
        saved.isSaved = true
        if let old = facts.old {
            saved.createdTime = old.createdTime
            saved.tenantId = old.tenantId
        }
        let exists = facts.profile?.tenantId == saved.tenantId
        try EntityRules.checkReference(from: Device.noun, to: "device profile", exists: exists)
        try EntityRules.checkUnique("Device with such name", isTaken: facts.isNameTaken)
        try AssignmentRules.check(saved, over: facts.old, packages: facts.packages)
        let targets = OtaPackageType.allCases.compactMap { type -> (type: OtaPackageType, package: OtaPackageId?)? in
            let after = AssignmentRules.effective(
                own: saved.packageId(of: type),
                ofProfile: facts.profile?.packageId(of: type)
            )
            return facts.followed[type] == after ? nil : (type, after)
        }
        let isRenamed = facts.old.map { $0.$name != saved.$name || $0.deviceProfileId != saved.deviceProfileId }
        return Change(device: saved, targets: targets, isRenamed: isRenamed ?? false)
    }
}
