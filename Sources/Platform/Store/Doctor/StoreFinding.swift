/// Something in a store that must not be, and how to mend it.
public struct StoreFinding: Sendable, Hashable, CustomStringConvertible {
    /// Kinds of faults; the names are stable.
    public enum Code: String, Sendable, CaseIterable {
        /// SQLite finds its own file damaged, or rows that break a rule of the schema.
        case databaseDamaged = "database-damaged"
        /// A row refers to one that is not there.
        case danglingReference = "dangling-reference"
        /// A value or text cannot be read as what it should be.
        case unreadableValue = "unreadable-value"
        /// A row belongs to a tenant that is not there, or to another than its profile.
        case wrongTenant = "wrong-tenant"
        /// A tenant has not exactly one default device profile.
        case defaultProfile = "default-profile"
        /// A device has no credentials.
        case credentialsMissing = "credentials-missing"
        /// An update record does not fit the device's effective package, or itself.
        case updateRecord = "update-record"
        /// An update is UPDATED although nothing shows that the device runs its package.
        case unprovenUpdate = "unproven-update"
        /// An assignment waits that is out of date.
        case staleAssignment = "stale-assignment"
        /// An update's state is not in its history.
        case historyGap = "history-gap"
        /// The newest value of a state, which is noted for queries, is not the newest of its series.
        case newestState = "newest-state"
        /// A package's bytes are nowhere.
        case bytesMissing = "bytes-missing"
        /// A package's bytes are more or fewer than they should be.
        case bytesSize = "bytes-size"
        /// A package's bytes do not have its checksum.
        case bytesChecksum = "bytes-checksum"
        /// A package's bytes cannot be read from the disk.
        case bytesUnreadable = "bytes-unreadable"
        /// Bytes that no package uses.
        case orphan = "orphan"
        /// An upload that was cut off.
        case unfinishedUpload = "unfinished-upload"
        /// A file that the store did not make.
        case foreignFile = "foreign-file"
    }

    /// What can be done about it without losing anything that is still good.
    enum Repair: Sendable, Hashable {
        /// Remove something from a storage.
        case removeLeftover(StoredBytes, PackageStorage)
        /// Remove damaged bytes, so that the same file can be uploaded again.
        case removeBytes(String)
    }

    /// What kind it is.
    public var code: Code
    /// What is wrong, with what.
    public var sentence: String
    /// What would mend it.
    public var remedy: String
    var repair: Repair?

    init(_ code: Code, _ sentence: String, remedy: String, repair: Repair? = nil) {
        self.code = code
        self.sentence = sentence
        self.remedy = remedy
        self.repair = repair
    }

    /// Whether ``StoreDoctor`` can mend it by itself.
    public var isRepairable: Bool { self.repair != nil }

    /// The sentence with its code.
    public var description: String { "\(self.sentence) [\(self.code.rawValue)]" }
}
