import NIOCore
import NodeKit

/// Where the bytes of packages can be kept: files, rows of a database, memory, or an object store.
///
/// Bytes are known by their SHA-256 and never change under it. A storage knows no packages and shares no transaction with the database
/// that does. What must not come apart is up to the store, which keeps this order:
///
/// - Bytes get a name in three steps: the store notes that there may be bytes with this name and without a package; the storage names
///   them (``IncomingBytes/finish(as:)``); one transaction stores the package and takes the note away.
/// - Bytes go in three steps: one transaction takes the last package away and makes the note; the storage removes them
///   (``remove(_:)``); the note goes.
///
/// Cut off anywhere, the host looks at the notes when it starts. Nobody names and removes the same bytes at the same time.
protocol ByteStorage: Sendable {
    /// Begins to take in bytes that have no name yet.
    func begin() async throws -> any IncomingBytes
    /// How many bytes there are with this SHA-256; `nil` if there are none here.
    func size(of sha256: String) async throws -> Int64?
    /// The bytes with this SHA-256, which stay readable as long as anyone holds them, also when they are removed.
    ///
    /// - Parameters:
    ///   - sha256: Their name.
    ///   - size: How many there should be.
    /// - Returns: The bytes; `nil` if there are none here. If there are fewer, reading those that are missing throws.
    /// - Throws: Why the storage does not answer.
    func content(of sha256: String, size: Int64) async throws -> (any Content)?
    /// Removes the bytes with this SHA-256, if they are here; returns when they do not come back.
    func remove(_ sha256: String) async throws
    /// All that is here, for whoever looks for what should not be.
    func inventory() async throws -> [StoredBytes]
    /// Removes something that nobody uses.
    func remove(_ leftover: StoredBytes) async throws
}

/// Bytes on their way into a storage.
///
/// Whatever ends it without ``finish(as:)``, nothing remains: also when nobody holds it any more.
protocol IncomingBytes: AnyObject, Sendable {
    /// Appends bytes, in the order of the calls; returns when more can come.
    func append(_ bytes: ByteBuffer) async throws
    /// Gives the bytes their name for good; returns when they and their name are safe. Nothing is appended after it.
    func finish(as sha256: String) async throws
    /// Removes what has no name; may be called at any time and more than once.
    func discard() async
}

/// One thing in a storage.
struct StoredBytes: Sendable, Hashable {
    enum Kind: Sendable, Hashable {
        /// Bytes with this SHA-256.
        case named(String)
        /// What an upload has brought so far.
        case unfinished
        /// Nothing that the store put there.
        case foreign
    }

    /// What people call it, such as `the file 'x'`.
    var label: String
    /// What the storage calls it.
    var name: String
    var kind: Kind
}

extension NodeError {
    /// A package has fewer bytes than somebody wants to read.
    init(_ range: Range<Int64>, notWithin size: Int64) {
        self.init(.badRequest, "bytes \(range.lowerBound)..<\(range.upperBound) are not within \(size)")
    }
}
