public import NodeKit

/// What packages are assigned to: a device, or a profile for its devices.
public protocol PackageHolder: TenantOwned {
    /// The profile whose packages may be assigned.
    var assignableProfileId: DeviceProfileId { get }
    /// The package of a type that is assigned, if any.
    func packageId(of type: OtaPackageType) -> OtaPackageId?
}

extension Device: PackageHolder {
    /// Its profile.
    public var assignableProfileId: DeviceProfileId { self.deviceProfileId }
}

extension DeviceProfile: PackageHolder {
    /// Itself.
    public var assignableProfileId: DeviceProfileId { self.id }
}

/// The rules of which package a device should have.
public enum AssignmentRules {
    /// The package that a device should have: its own, or its profile's.
    ///
    /// A store may say the same in SQL where it looks at many devices at once.
    public static func effective(own: OtaPackageId?, ofProfile: OtaPackageId?) -> OtaPackageId? { own ?? ofProfile }

    /// Checks that a device or a profile may have its packages assigned.
    ///
    /// What did not change was checked when it was saved.
    ///
    /// - Parameters:
    ///   - wanted: The device or profile as it is to be, with the owner that it keeps.
    ///   - old: As it is stored; `nil` if it is new.
    ///   - packages: The packages that it names, of those that exist.
    /// - Throws: ``NodeError`` with the sentence of the first rule that is broken.
    public static func check<Holder: PackageHolder>(
        _ wanted: Holder,
        over old: Holder?,
        packages: [OtaPackageId: OtaPackage]
    ) throws(NodeError) {
        for type in OtaPackageType.allCases {
            guard let id = wanted.packageId(of: type) else { continue }
            if let old, old.packageId(of: type) == id, old.assignableProfileId == wanted.assignableProfileId {
                continue
            }
            try Self.check(
                packages[id],
                as: type,
                tenantId: wanted.tenantId,
                deviceProfileId: wanted.assignableProfileId
            )
        }
    }

    /// Whether packages are taken away and none is assigned, so that a save must succeed on a full disk, too: a package that is
    /// assigned cannot be deleted.
    public static func onlyTakesAway<Holder: PackageHolder>(from old: Holder, to wanted: Holder) -> Bool {
        let changed = OtaPackageType.allCases.filter { old.packageId(of: $0) != wanted.packageId(of: $0) }
        return !changed.isEmpty && changed.allSatisfy { wanted.packageId(of: $0) == nil }
    }

    /// Checks that a package may be assigned.
    private static func check(
        _ package: OtaPackage?,
        as type: OtaPackageType,
        tenantId: TenantId,
        deviceProfileId: DeviceProfileId
    ) throws(NodeError) {
        let word = type.rawValue.lowercased()
        func refusal(_ reason: String) -> NodeError { EntityRules.broken("Can't assign \(reason)") }
        guard let package else { throw refusal("non-existent \(word)!") }
        guard package.tenantId == tenantId else { throw refusal("\(word) from different tenant!") }
        guard package.type == type else { throw refusal("\(word) with type: \(package.type.rawValue)") }
        guard package.hasData else { throw refusal("\(word) with empty data!") }
        guard package.deviceProfileId == deviceProfileId else {
            throw refusal("\(word) with different deviceProfile!")
        }
    }
}
