/// A device with what people want to know of it.
public struct DeviceInfo: Sendable, Hashable {
    /// The device.
    public var device: Device
    /// The name of its profile.
    public var type: String
    /// Whether it was heard of lately: the server attribute `active` says so.
    public var isActive: Bool
    /// What it says it runs, for each package type that it ever reported.
    public var installed: [OtaPackageType: InstalledVersion]

    /// Joins what is known.
    public init(
        device: Device,
        type: String,
        isActive: Bool,
        installed: [OtaPackageType: InstalledVersion] = [:]
    ) {
        self.device = device
        self.type = type
        self.isActive = isActive
        self.installed = installed
    }
}

/// Which devices of a tenant a list has; `nil` where it does not matter.
public struct DeviceFilter: Sendable, Hashable {
    /// Their profile.
    public var deviceProfileId: DeviceProfileId?
    /// The name of their profile.
    public var type: String?
    /// Whether they were heard of lately.
    public var isActive: Bool?

    /// Makes a filter.
    public init(deviceProfileId: DeviceProfileId? = nil, type: String? = nil, isActive: Bool? = nil) {
        self.deviceProfileId = deviceProfileId
        self.type = type
        self.isActive = isActive
    }
}
