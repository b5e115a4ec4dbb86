public import NIOCore
public import NodeKit

/// Packages and their bytes.
public protocol OtaPackageService: Sendable {
    /// The package with this identifier, if it exists.
    func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage?

    /// Creates a package that is not saved yet, or updates what may change of one that is; see ``OtaPackage/isSaved``.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` and the sentence of ThingsBoard if a rule is broken, with
    ///   ``NodeError/Code/conflict`` if a new one has the identifier of another, and with ``NodeError/Code/notFound`` if it has
    ///   been deleted.
    func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage

    /// Removes a package and, if no other uses them, its bytes.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if a device or a profile refers to it, and with
    ///   ``NodeError/Code/notFound`` if it does not exist.
    func deleteOtaPackage(_ id: OtaPackageId) async throws

    /// The package of a type that a profile assigns to its devices, if any.
    func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage?

    /// A page of a tenant's packages, newest first unless the link says otherwise; those for one profile and type if given.
    func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage>

    /// Begins to store the bytes of a saved package. Nothing is visible before ``OtaPackageUpload/finish(fileName:contentType:algorithm:checksum:)``.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/notFound`` or ``NodeError/Code/badRequest``.
    func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload

    /// Begins to store the bytes of a package that does not exist yet. The package is made together with them, in one step, when
    /// they have come in whole, so that an upload that is cut off leaves nothing.
    ///
    /// - Throws: ``NodeError`` as for saving such a package, before any bytes are sent; finishing the upload may throw it as well.
    func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload

    /// The bytes of a package, if they are stored here.
    func content(of id: OtaPackageId) async throws -> (any Content)?

    /// The package with this identifier and its bytes. Kept in memory: cheap enough to call for every chunk.
    func package(_ id: OtaPackageId) async throws -> EffectivePackage?

    /// The package that a device should have: its own, or its profile's. Kept in memory: cheap enough to call for every
    /// chunk.
    func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage?

    /// The package with this identifier and its bytes, if that is in memory.
    func known(_ id: OtaPackageId) -> EffectivePackage?

    /// The package that a device should have, if that is in memory; `.some(nil)` if it is known that there is none.
    func known(effectiveFor device: DeviceId, type: OtaPackageType) -> EffectivePackage??
}

extension OtaPackageService {
    /// Nothing is in memory.
    public func known(_ id: OtaPackageId) -> EffectivePackage? { nil }
    /// Nothing is in memory.
    public func known(effectiveFor device: DeviceId, type: OtaPackageType) -> EffectivePackage?? { nil }
}

/// Takes in the bytes of one package as they come.
public protocol OtaPackageUpload: Sendable {
    /// Appends bytes; returns when more can come.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/storageFull`` if the disk is full. What came so far is removed.
    func write(_ bytes: ByteBuffer) async throws

    /// Makes the bytes the package's, for good.
    ///
    /// - Parameters:
    ///   - fileName: The file's name, without path.
    ///   - contentType: Its media type.
    ///   - algorithm: How the package's checksum is computed.
    ///   - checksum: The checksum in lower-case hexadecimal to compare with; `nil` to take what was computed.
    /// - Returns: The package as it is now.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the checksum differs, the file is empty or a name is
    ///   missing. What came so far is removed.
    func finish(
        fileName: String?,
        contentType: String?,
        algorithm: ChecksumAlgorithm,
        checksum: String?
    ) async throws -> OtaPackage

    /// Gives up; nothing remains. May be called after a failure and more than once.
    func cancel() async
}

/// Devices, their profiles and credentials.
public protocol DeviceService: Sendable {
    /// The device with this identifier, if it exists.
    func findDeviceById(_ id: DeviceId) async throws -> Device?
    /// A tenant's device with this name, if it exists.
    func findDeviceByName(_ name: String, of tenant: TenantId) async throws -> Device?
    /// A page of a tenant's devices, of one profile if given.
    func findDevices(of tenant: TenantId, deviceProfileId: DeviceProfileId?, page: PageLink) async throws -> Page<
        Device
    >
    /// A page of a tenant's devices with what people want to know of them.
    func findDeviceInfos(of tenant: TenantId, matching filter: DeviceFilter, page: PageLink) async throws -> Page<
        DeviceInfo
    >
    /// What people want to know of a device.
    func deviceInfo(of device: Device) async throws -> DeviceInfo
    /// Creates a device that is not saved yet, or replaces one that is; see ``Device/isSaved``. If its effective package changes,
    /// the update is QUEUED in the same step.
    ///
    /// - Parameters:
    ///   - device: The device as it is to be.
    ///   - accessToken: The token of a new device; `nil` for a random one.
    /// - Returns: The device as stored.
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveDevice(_ device: Device, accessToken: String?) async throws -> Device
    /// Creates or replaces a device as ``saveDevice(_:accessToken:)`` does, and its credentials, in one step: either both are
    /// stored or nothing is.
    func saveDevice(_ device: Device, credentials: DeviceCredentials) async throws -> Device
    /// Removes a device with all that is stored about it; one that does not exist is ``NodeError/Code/notFound``.
    func deleteDevice(_ id: DeviceId) async throws
    /// How many devices of a profile have no package of this type of their own.
    func countDevices(deviceProfileId: DeviceProfileId, withoutOwn type: OtaPackageType) async throws -> Int

    /// The credentials of a device.
    func findCredentials(of id: DeviceId) async throws -> DeviceCredentials?
    /// Replaces the credentials of a device.
    func saveCredentials(_ credentials: DeviceCredentials) async throws -> DeviceCredentials

    /// The profile with this identifier, if it exists.
    func findDeviceProfileById(_ id: DeviceProfileId) async throws -> DeviceProfile?
    /// A tenant's profile with this name, if it exists.
    func findDeviceProfileByName(_ name: String, of tenant: TenantId) async throws -> DeviceProfile?
    /// The profile of a tenant's devices that name none; every tenant has one.
    func defaultDeviceProfile(of tenant: TenantId) async throws -> DeviceProfile
    /// A page of a tenant's profiles.
    func findDeviceProfiles(of tenant: TenantId, page: PageLink) async throws -> Page<DeviceProfile>
    /// Creates a profile that is not saved yet, or replaces one that is; see ``DeviceProfile/isSaved``. If its package changes,
    /// the update of every device without its own is QUEUED in the same step.
    ///
    /// - Throws: ``NodeError`` as ``OtaPackageService/saveOtaPackage(_:)`` does.
    func saveDeviceProfile(_ profile: DeviceProfile) async throws -> DeviceProfile
    /// Makes a profile the default one.
    func setDefaultDeviceProfile(_ id: DeviceProfileId) async throws -> DeviceProfile
    /// Removes a profile that no device uses, with its packages.
    func deleteDeviceProfile(_ id: DeviceProfileId) async throws
}

/// Tells who a device is by what it presents.
///
/// Kept in memory: cheap enough to call for every request.
public protocol DeviceAuthenticator: Sendable {
    /// The device with this access token; `nil` if there is none.
    func device(accessToken: String) async throws -> Originator?
    /// The device with these MQTT credentials, in ThingsBoard's order: MQTT basic by client identifier and user name, then
    /// an access token in place of the user name; `nil` if there is none.
    func device(clientId: String, userName: String?, password: String?) async throws -> Originator?
    /// The device with this identifier, as whoever follows a link that the host signed for it; `nil` if there is none any more.
    func device(_ id: DeviceId) async throws -> Originator?
    /// The device that has exactly this certificate, in DER form, as credentials; `nil` if there is none.
    ///
    /// That the peer has its private key is the caller's to make sure.
    func device(certificate: [UInt8]) async throws -> Originator?
    /// How the profile of a device lets it connect; ``ProfileTransport/any`` if there is no such device.
    func transport(of device: Originator) async throws -> ProfileTransport
    /// The device with this access token and how it may connect, if both are in memory.
    ///
    /// For who asks for each of many small requests: what the other functions say, without waiting. If there is nothing in
    /// memory, ask them.
    func known(accessToken: String) -> (device: Originator, transport: ProfileTransport)?
}

extension DeviceAuthenticator {
    /// Knows no device by its identifier.
    public func device(_ id: DeviceId) async throws -> Originator? { nil }

    /// Knows no device by a certificate.
    public func device(certificate: [UInt8]) async throws -> Originator? { nil }

    /// Lets devices connect as they like.
    public func transport(of device: Originator) async throws -> ProfileTransport { .any }

    /// Has nothing in memory.
    public func known(accessToken: String) -> (device: Originator, transport: ProfileTransport)? { nil }
}

/// Attributes of devices.
public protocol AttributesService: Sendable {
    /// Attributes of one scope, those named or all, sorted by key.
    func attributes(of device: DeviceId, scope: AttributeScope, keys: [String]?) async throws -> [AttributeEntry]

    /// Writes attributes; `null` values are left out. Shared ones are pushed to the device's sessions, in one notification,
    /// once stored.
    func saveAttributes(of device: DeviceId, scope: AttributeScope, _ values: JSON.Object, at: Timestamp) async throws

    /// Begins to write attributes as ``saveAttributes(of:scope:_:at:)`` does and returns at once.
    ///
    /// - Throws: ``NodeError`` if they can never be stored.
    func beginSavingAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at: Timestamp
    ) throws -> PendingWrite

    /// Removes attributes and returns the names of those that existed. Of shared ones the device's sessions are told once
    /// they are gone; if none existed, nothing is told.
    @discardableResult
    func deleteAttributes(of device: DeviceId, scope: AttributeScope, keys: [String]) async throws -> [String]

    /// The devices that have an attribute with this value, at most `limit`, in order of identifier and later than `after`.
    ///
    /// Looks at every device: for when a host starts, not for every message.
    func devices(
        withAttribute key: String,
        equalTo value: JSON,
        in scope: AttributeScope,
        after: DeviceId?,
        limit: Int
    ) async throws -> [Originator]
}

extension AttributesService {
    /// Writes attributes when they are waited for.
    public func beginSavingAttributes(
        of device: DeviceId,
        scope: AttributeScope,
        _ values: JSON.Object,
        at time: Timestamp
    ) throws -> PendingWrite {
        PendingWrite { try await self.saveAttributes(of: device, scope: scope, values, at: time) }
    }
}

/// Time series of devices.
public protocol TimeseriesService: Sendable {
    /// Gives each point that a device reported in one message the time that it is stored with.
    ///
    /// Points without a time, and those whose time lies further ahead than a device's clock may be, get times of the host: a
    /// millisecond apart, and later than all that the device got before, so that no report takes the place of another. Asked for
    /// each report; waits for nothing.
    ///
    /// - Parameters:
    ///   - points: The points, in order.
    ///   - device: The device.
    ///   - arrival: When the message came.
    /// - Returns: The first of these times, which then is the message's; `arrival` if all points have times of their own.
    func settleTimes(of points: inout [TelemetryPoint], reportedBy device: DeviceId, at arrival: Timestamp) -> Timestamp

    /// Writes points; those without a time get times of the host from `at` on, as ``settleTimes(of:reportedBy:at:)`` gives them.
    func saveTimeseries(of device: DeviceId, _ points: [TelemetryPoint], at: Timestamp) async throws
    /// Begins to write points as ``saveTimeseries(of:_:at:)`` does and returns at once.
    ///
    /// - Throws: ``NodeError`` if they can never be stored.
    func beginSavingTimeseries(
        of device: DeviceId,
        _ points: [TelemetryPoint],
        at: Timestamp
    ) throws -> PendingWrite
    /// The newest entry of each series, those named or all, sorted by key.
    func latestTimeseries(of device: DeviceId, keys: [String]?) async throws -> [TimeseriesEntry]
    /// Entries of one series with `start <= time <= end`, newest first unless `ascending`, at most `limit`.
    func timeseries(
        of device: DeviceId,
        key: String,
        from start: Timestamp,
        to end: Timestamp,
        limit: Int,
        ascending: Bool
    ) async throws -> [TimeseriesEntry]
    /// One entry for each interval in which the series has entries to aggregate, with the time of its middle; oldest first if
    /// `ascending`.
    func timeseries(
        of device: DeviceId,
        key: String,
        in intervals: TimeIntervals,
        aggregation: TimeseriesAggregation,
        ascending: Bool
    ) async throws -> [TimeseriesEntry]
    /// Removes entries of the named series, those within a range of time or all; the newest that remains becomes the latest.
    func deleteTimeseries(of device: DeviceId, keys: [String], in range: ClosedRange<Timestamp>?) async throws
}

extension TimeseriesService {
    /// Leaves the points as they are; those without a time get one when they are saved.
    public func settleTimes(
        of points: inout [TelemetryPoint],
        reportedBy device: DeviceId,
        at arrival: Timestamp
    ) -> Timestamp { arrival }

    /// Writes points when they are waited for.
    public func beginSavingTimeseries(
        of device: DeviceId,
        _ points: [TelemetryPoint],
        at time: Timestamp
    ) throws -> PendingWrite {
        PendingWrite { try await self.saveTimeseries(of: device, points, at: time) }
    }
}

/// Update records, their history, and assignments that devices are to be told of.
public protocol UpdateService: Sendable {
    /// The update record of a device, if there ever was an update.
    func updateRecord(of device: DeviceId, type: OtaPackageType) async throws -> UpdateRecord?
    /// The history of a device's updates of a type, oldest first.
    func updateHistory(of device: DeviceId, type: OtaPackageType) async throws -> [UpdateHistoryEntry]

    /// Records what a device told; returns when it is stored. Progress without a state changes only the record.
    func record(_ report: StateReport, of device: DeviceId) async throws -> StateReportResult
    /// Stores why a failed update failed.
    func classify(_ errorClass: OtaErrorClass?, of device: DeviceId, type: OtaPackageType) async throws
    /// Tells the device of its package, in one step: QUEUED becomes INITIATED, with the telemetry `fw_state`; shared attributes
    /// that are obsolete are removed, and those of the package are written. Its sessions are told of both, in this order,
    /// once that is stored. An update already further on stays in its state.
    ///
    /// - Parameters:
    ///   - packageId: The package.
    ///   - device: The device.
    ///   - type: Which of its packages.
    ///   - attributes: The shared attributes that tell of the package.
    ///   - obsolete: The names of others that an earlier package may have left.
    ///   - time: When the attributes change.
    /// - Returns: `false` if the package is not the effective one any more, or its update was cancelled or timed out, in which
    ///   case nothing was written.
    /// - Throws: ``NodeError`` if it could not be stored; nothing was written then, either.
    func initiate(
        _ packageId: OtaPackageId,
        of device: DeviceId,
        type: OtaPackageType,
        attributes: JSON.Object,
        obsolete: [String],
        at time: Timestamp
    ) async throws -> Bool
    /// Counts bytes served to a device, for its progress. Cheap; what was counted is stored now and then.
    func served(_ range: Range<Int64>, of package: EffectivePackage, to device: DeviceId)

    /// The oldest assignments that are not settled, at most `limit`, in order of identifier and later than `after`.
    func assignments(after id: Int64, limit: Int) async throws -> [Assignment]
    /// The devices of these assignments were told, or someone safe was asked to.
    func settle(_ assignments: [Int64]) async throws
    /// Waits until an assignment with a greater identifier may be there, or the task is cancelled.
    func waitForAssignments(after id: Int64) async throws
}

/// Which part of a list.
public struct PageLink: Sendable, Hashable {
    /// The most entries on a page, 1…1000 where it comes from a client.
    public var pageSize: Int
    /// Zero-based number of the page.
    public var page: Int
    /// Text that a name or title must contain, compared without case.
    public var textSearch: String?
    /// The member to sort by, as the REST API names it; unknown ones count as `createdTime`.
    public var sortProperty: String?
    /// Whether to sort upward.
    public var ascending: Bool

    /// Makes a link.
    public init(
        pageSize: Int,
        page: Int = 0,
        textSearch: String? = nil,
        sortProperty: String? = nil,
        ascending: Bool = false
    ) {
        self.pageSize = pageSize
        self.page = page
        self.textSearch = textSearch
        self.sortProperty = sortProperty
        self.ascending = ascending
    }
}

/// A part of a list, and how long the list is.
public struct Page<Element: Sendable>: Sendable {
    /// The entries.
    public var data: [Element]
    /// How many entries all pages have.
    public var totalElements: Int
    /// How many pages there are.
    public var totalPages: Int
    /// Whether there is a page after this one.
    public var hasNext: Bool

    /// Makes the page that a link asked for.
    public init(data: [Element], totalElements: Int, link: PageLink) {
        self.data = data
        self.totalElements = totalElements
        // Nothing is added or multiplied: a page number may be anything.
        self.totalPages = totalElements > 0 ? (totalElements - 1) / max(1, link.pageSize) + 1 : 0
        self.hasNext = link.page < self.totalPages - 1
    }
}
