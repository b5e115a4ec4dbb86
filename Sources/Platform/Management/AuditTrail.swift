import NodeKit
import OTA
import Synchronization

/// An entity that entries of the audit log may be about.
protocol Audited {
    /// The word for its kind, as in ThingsBoard's identifiers.
    static var entityType: String { get }
    var id: EntityID<Self> { get }
    /// What people know it by.
    var auditName: String { get }
}

extension Device: Audited {
    static var entityType: String { "DEVICE" }
    var auditName: String { self.name }
}

extension DeviceProfile: Audited {
    static var entityType: String { "DEVICE_PROFILE" }
    var auditName: String { self.name }
}

extension OtaPackage: Audited {
    static var entityType: String { "OTA_PACKAGE" }
    var auditName: String { "\(self.title) \(self.version)" }
}

extension Tenant: Audited {
    static var entityType: String { "TENANT" }
    var auditName: String { self.title }
}

extension User: Audited {
    static var entityType: String { "USER" }
    var auditName: String { self.name }
}

extension ApiKey: Audited {
    static var entityType: String { "API_KEY" }
    var auditName: String { self.description }
}

/// What is found out about a request while it is handled, for its entry in the audit log.
///
/// Entities that are looked up by ``ManagementServices`` are taken in by themselves; a handler adds what only it knows.
/// Nothing secret belongs here.
final class AuditTrail: Sendable {
    struct Content: Sendable {
        var user: User?
        var action: AuditAction?
        var entity: AuditEntity?
        var details: JSON.Object = [:]
    }

    private let state = Mutex(Content())

    var content: Content { self.state.withLock { $0 } }

    /// Who sent it, where no login is needed.
    func isBy(_ user: User) { self.state.withLock { $0.user = user } }

    /// What was done, if that is not what its route does in general.
    func did(_ action: AuditAction) { self.state.withLock { $0.action = action } }

    /// What it is about; of several entities the first counts.
    func concerns(_ entity: some Audited) {
        let found = Self.entity(entity)
        self.state.withLock { if $0.entity == nil { $0.entity = found } }
    }

    /// An entity was created or changed, and is what it is about.
    func saved(_ entity: some Audited, isNew: Bool) {
        let saved = Self.entity(entity)
        self.state.withLock { content in
            content.entity = saved
            content.action = isNew ? .added : .updated
        }
    }

    /// Something worth knowing about the change.
    func note(_ name: String, _ value: JSON) { self.state.withLock { $0.details[name] = value } }

    /// The most names that an entry holds.
    static let keysMax = 32

    /// Notes the names of what was written or removed, some of them if there are many; never the values.
    func noteKeys(_ keys: some Sequence<String>) {
        var names: [String] = []
        for key in keys where !names.contains(where: { $0.exact == key.exact }) {
            guard names.count < Self.keysMax else { break }
            names.append(AuditLog.cut(key))
        }
        self.note("keys", .array(names.map(JSON.string)))
    }

    /// Notes what a device or a profile is to have, of each kind of package that changed.
    func noteAssignments(
        from old: (OtaPackageType) -> OtaPackageId?,
        to new: (OtaPackageType) -> OtaPackageId?
    ) {
        for type in OtaPackageType.allCases where old(type) != new(type) {
            self.note(type == .firmware ? "firmwareId" : "softwareId", JSON(new(type)?.description))
        }
    }

    private static func entity<Entity: Audited>(_ entity: Entity) -> AuditEntity {
        AuditEntity(type: Entity.entityType, id: entity.id.uuid, name: entity.auditName)
    }
}
