import GRDB
import NodeKit
import OTA
import Waiting

/// What a write changes beside the database, done after its commit and before its caller goes on.
struct Effects {
    /// Credentials that are not what they were.
    var credentials: [String] = []
    /// Whether any credentials may lead to a device with another name or type.
    var allCredentials = false
    /// Devices whose effective package or transport may be another.
    var devices: [DeviceId] = []
    /// Whether the effective package of any device may be another.
    var allDevices = false
    /// Whether the transport of any device may be another.
    var allTransports = false
    /// Whether any API key may open something else, or nothing.
    var allHolders = false
    /// Packages that are not what they were.
    var packages: [OtaPackageId] = []
    /// Whether there are new assignments.
    var assignments = false
    /// Whether a mass assignment began or ended.
    var massAssignments = false
    /// Whether updates changed their states.
    var updateEvents = false
    /// Bytes served that are in the database now.
    var served = ProgressCounter.Stored()
    /// What connected devices are to be told.
    var notifications: [(device: DeviceId, notification: DeviceNotification)] = []

    /// Whether there is nothing to do.
    var isEmpty: Bool {
        !self.updateEvents && !self.assignments && !self.massAssignments && self.served.isEmpty
            && self.notifications.isEmpty
            && self.devices.isEmpty
            && self.credentials.isEmpty && self.packages.isEmpty && !self.allCredentials
            && !self.allDevices && !self.allTransports && !self.allHolders
    }

    /// Adds those of a write that came later.
    mutating func add(_ later: Effects) {
        self.credentials += later.credentials
        self.allCredentials = self.allCredentials || later.allCredentials
        self.devices += later.devices
        self.allDevices = self.allDevices || later.allDevices
        self.allTransports = self.allTransports || later.allTransports
        self.allHolders = self.allHolders || later.allHolders
        self.packages += later.packages
        self.assignments = self.assignments || later.assignments
        self.massAssignments = self.massAssignments || later.massAssignments
        self.updateEvents = self.updateEvents || later.updateEvents
        self.served.add(later.served)
        self.notifications += later.notifications
    }
}

/// The push of a package that its device need not get again: a session took it, or a reply held the same.
struct TakenPush: Sendable {
    var device: DeviceId
    var type: OtaPackageType
    /// The package; `nil` for whichever it is.
    var package: OtaPackageId?

    /// Notes that the device knows of its package: it need not be notified when it returns, and of a package with a URL it has
    /// got all that it gets from here.
    func store(_ db: Database, at now: Timestamp) throws {
        try db.run(
            """
            UPDATE update_record SET push_missed = 0, served_time = coalesce(served_time,
                (SELECT ?4 FROM ota_package k WHERE k.id = update_record.package_id AND k.url IS NOT NULL))
            WHERE device = (SELECT no FROM device WHERE id = ?1) AND type = ?2 AND push_missed = 1
                AND package_id IS coalesce(?3, package_id)
            """,
            [self.device.uuid, self.type.rawValue, self.package?.uuid, now.rawValue]
        )
        guard db.changesCount > 0 else { return }
        // With the URL the device was given all that it is given from here.
        try db.run(
            """
            INSERT INTO device_package (device, type, given_id)
            SELECT r.device, r.type, r.package_id FROM update_record r JOIN ota_package k ON k.id = r.package_id
            WHERE r.device = (SELECT no FROM device WHERE id = ?) AND r.type = ? AND k.url IS NOT NULL
                AND r.state NOT IN (\(OtaUpdateState.over))
            ON CONFLICT (device, type) DO UPDATE SET given_id = excluded.given_id
            """,
            [self.device.uuid, self.type.rawValue]
        )
    }
}

/// Carries out effects.
struct EffectApplier: Sendable {
    let caches: StoreCaches
    let numbers: DeviceNumbers
    let times: ServerTimes
    let progress: ProgressCounter
    let assignments: Signal
    let queues: QueueTable
    let updateEvents: Signal
    let massAssignments: MassAssignments
    let sessions: DeviceSessions

    /// A transaction was undone: devices that were made in it never were, and nothing that was served or said of the clock is stored.
    func undone() {
        self.numbers.forgetAll()
        self.times.undone()
        self.progress.undone()
    }

    /// Called by the writer's thread outside a transaction, so `db` shows what is committed and nothing changes meanwhile.
    ///
    /// - Returns: The pushes of packages that a session took, which is to be stored.
    func apply(_ effects: Effects, _ db: Database) -> [TakenPush] {
        self.caches.forget(effects)
        if effects.allDevices { self.numbers.forgetAll() } else { self.numbers.forget(effects.devices) }
        self.progress.forget(effects.served)
        if effects.assignments {
            self.assignments.raise()
            // What they hold for the same devices is pointless now.
            self.queues.signalAll()
        }
        if effects.massAssignments { self.massAssignments.look(db) }
        if effects.assignments || effects.updateEvents { self.updateEvents.raise() }
        var taken: [TakenPush] = []
        for (device, notification) in effects.notifications {
            guard self.sessions.notify(device.uuid, notification) > 0,
                case .attributesUpdated(let values) = notification
            else { continue }
            for type in OtaPackageType.allCases where values["\(type.prefix)_title"] != nil {
                taken.append(TakenPush(device: device, type: type))
            }
        }
        return taken
    }
}
