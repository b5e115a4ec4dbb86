import NodeKit
import OTA

extension UpdateRecord {
    /// The record, with the times of its states in the order of the states.
    var json: JSON.Object {
        let entered = OtaUpdateState.allCases.compactMap { state in
            self.entered[state].map { (state.rawValue, JSON($0)) }
        }
        return [
            "deviceId": self.deviceId.json,
            "type": .string(self.type.rawValue),
            "state": .string(self.state.rawValue),
            "packageId": self.packageId?.json ?? .null,
            "title": .string(self.title),
            "version": .string(self.version),
            "entered": .object(JSON.Object(entered)),
            "lastChange": JSON(self.activeTime),
            "progress": self.progress.map { .integer(Int64($0)) } ?? .null,
            "attempts": .integer(Int64(self.attempts)),
            "retryTime": self.retryTime.map { JSON($0) } ?? .null,
            "failureCause": JSON(self.failureCause?.rawValue),
            "errorClass": JSON(self.errorClass?.rawValue),
            "error": JSON(self.error),
            "servedTime": self.servedTime.map { JSON($0) } ?? .null,
            "interrupted": .bool(self.isInterrupted),
            "installed": self.installed?.json ?? .null,
            "priority": .integer(Int64(self.priority)),
            "waiting": self.hold?.json ?? .null,
        ]
    }
}

extension UpdateHold {
    /// Why a device was not notified yet.
    var json: JSON {
        [
            "queue": JSON(self.queue),
            "since": JSON(self.since),
            "until": self.until.map { JSON($0) } ?? .null,
            "tries": .integer(Int64(self.tries)),
            "code": JSON(self.reason?.code),
            "reason": JSON(self.reason?.text),
        ]
    }
}

extension InstalledVersion {
    /// What a device says it runs, since when and by which report.
    var json: JSON {
        [
            "title": JSON(self.running.title),
            "version": JSON(self.running.version),
            "since": JSON(self.since),
            "report": .string(self.report),
        ]
    }
}

extension InstalledCount {
    var json: JSON {
        [
            "type": .string(self.type.rawValue),
            "title": JSON(self.running.title),
            "version": JSON(self.running.version),
            "devices": .integer(Int64(self.count)),
        ]
    }
}

extension UpdateHistoryEntry {
    var json: JSON {
        [
            "id": .integer(self.id),
            "ts": JSON(self.timestamp),
            "state": .string(self.state),
            "title": .string(self.title),
            "version": .string(self.version),
            "accepted": .bool(self.accepted),
            "cause": JSON(self.cause?.rawValue),
            "flag": JSON(self.flag?.rawValue),
            "flagReason": JSON(self.flag?.sentence),
            "error": JSON(self.error),
        ]
    }
}
