import Crypto
import FoundationEssentials
import Logging
import NodeKit
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// The keys that the host signs logins and download links with.
///
/// Each has a name. They are random and in a file beside the database, so that a copy of the database, or a look into it, lets
/// nobody make logins; or they are derived from one key that an operator gives, and are nowhere on the disk.
final class SigningKeys: Sendable {
    static let fileName = "windlass.keys"
    /// The most bytes of the file, many times what the keys of one host take.
    static let fileBytesMax = 65536
    /// How many bytes a given key has: RFC 2104 §3 advises against fewer than the digest has.
    static let givenBytes = 32...4096

    /// Where the keys are kept; `nil` if they go with the object.
    private let place: (folder: DataFolder, system: any FileSystem)?
    private let given: SymmetricKey?
    private let keys: Mutex<[String: [UInt8]]>

    /// Keeps keys in memory.
    init() {
        self.place = nil
        self.given = nil
        self.keys = Mutex([:])
    }

    /// Reads the keys; blocks.
    ///
    /// - Parameters:
    ///   - folder: Where the file is.
    ///   - givenFile: A file with one key that takes the place of all.
    ///   - system: The files.
    ///   - logger: Hears of a given key that others may read.
    /// - Throws: ``NodeError`` if a file cannot be read or is no such file; keys are never made anew because of that.
    init(in folder: DataFolder, givenFile: String?, system: any FileSystem, logger: Logger) throws(NodeError) {
        self.place = (folder, system)
        self.given = try givenFile.map { path throws(NodeError) in try Self.given(path, system, logger) }
        self.keys = Mutex(try Self.stored(in: folder, system))
    }

    /// The key with this name, made of random bytes and stored on first use; blocks.
    ///
    /// - Parameters:
    ///   - name: The name, for good.
    ///   - count: How many bytes a new or derived key has.
    /// - Returns: The key; it is on the disk.
    /// - Throws: ``NodeError`` if it cannot be stored.
    func key(named name: String, count: Int) throws(NodeError) -> [UInt8] {
        if let given = self.given {
            let key = HKDF<SHA256>.deriveKey(
                inputKeyMaterial: given,
                info: Data("windlass \(name)".utf8),
                outputByteCount: count
            )
            return key.withUnsafeBytes(Array.init)
        }
        return try self.adding([name: (0..<max(0, count)).map { _ in UInt8.random(in: .min ... .max) }])[name] ?? []
    }

    /// Stores keys that came from elsewhere under names that have none yet; blocks.
    ///
    /// - Returns: All keys; they are on the disk.
    @discardableResult
    func adding(_ others: [String: [UInt8]]) throws(NodeError) -> [String: [UInt8]] {
        try self.keys.withLock { keys throws(NodeError) in
            let all = keys.merging(others) { known, _ in known }
            if all.count > keys.count {
                try self.store(all)
                keys = all
            }
            return all
        }
    }

    private func store(_ keys: [String: [UInt8]]) throws(NodeError) {
        guard let (folder, system) = self.place else { return }
        var object: JSON.Object = [:]
        for (name, key) in keys.sorted(by: { $0.key < $1.key }) {
            object[name] = .string(Data(key).base64EncodedString())
        }
        do {
            try system.replace(
                Self.fileName,
                in: folder.path,
                with: Array("\(JSON.object(object))\n".utf8),
                mode: DataFolder.keyMode
            )
        } catch {
            throw NodeError(file: error, "could not store the signing keys '\(Self.path(in: folder))'")
        }
    }

    private static func path(in folder: DataFolder) -> String { "\(folder.path)/\(Self.fileName)" }

    private static func stored(
        in folder: DataFolder,
        _ system: any FileSystem
    ) throws(NodeError) -> [String: [UInt8]] {
        let path = Self.path(in: folder)
        do {
            guard let bytes = try system.contents(of: path, max: Self.fileBytesMax) else { return [:] }
            var keys: [String: [UInt8]] = [:]
            let damaged = NodeError(.conflict, "it is not a list of keys")
            let list = try JSON(parsing: String(decoding: bytes, as: UTF8.self)).object
            guard let list, !list.isEmpty else { throw damaged }
            for (name, value) in list.members {
                guard let key = value.string.flatMap({ Data(base64Encoded: $0) }), !key.isEmpty else { throw damaged }
                keys[name] = Array(key)
            }
            return keys
        } catch {
            throw NodeError(
                .conflict,
                """
                could not read the signing keys '\(path)' (\(error)); put a copy from before in its place, or remove it: then \
                everyone has to log in again, and download links end
                """,
                cause: error
            )
        }
    }

    private static func given(
        _ path: String,
        _ system: any FileSystem,
        _ logger: Logger
    ) throws(NodeError) -> SymmetricKey {
        let bytes: [UInt8]
        do {
            guard let contents = try system.contents(of: path, max: Self.givenBytes.upperBound + 2) else {
                throw SystemError.missing
            }
            bytes = contents
        } catch {
            throw NodeError(
                "setting",
                "could not read the key '\(path)' (\(error)); the setting 'signing.key.file' names a file with one key",
                cause: error
            )
        }
        // Editors and `echo` end a file with a line end, which is no part of a key.
        let key = bytes.prefix(bytes.last == 0x0A ? bytes.count - (bytes.dropLast().last == 0x0D ? 2 : 1) : bytes.count)
        guard Self.givenBytes.contains(key.count) else {
            throw NodeError(
                "setting",
                """
                the key '\(path)' has \(key.count) bytes and must have \(Self.givenBytes.lowerBound) to \
                \(Self.givenBytes.upperBound); make one with: openssl rand -base64 48
                """
            )
        }
        if let mode = DataFolder.mode(of: path), mode & 0o007 != 0 {
            logger.warning(
                "the signing key can be read by every user of this machine; take that away with chmod o=",
                metadata: ["signing.key.file": "\(path)"]
            )
        }
        return SymmetricKey(data: key)
    }
}
