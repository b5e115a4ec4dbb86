import FoundationEssentials
import NodeKit

/// The folder with the bytes of packages: each file is named after the SHA-256 of its bytes, those under way end in `.part`.
struct PackageFiles: Sendable {
    let directory: String
    let system: any FileSystem

    /// Where the file with this SHA-256 is.
    func path(_ sha256: String) -> String { "\(self.directory)/\(sha256)" }

    /// A name that no other upload has.
    func newPartPath() -> String { "\(self.directory)/upload-\(UUID().uuidString.lowercased()).part" }

    /// Gives complete and synced bytes their name, for good; if they are there already, nothing is done.
    ///
    /// Called by the writer's thread only, as is ``remove(_:)``, so that no file goes between this and the commit of its row.
    func place(_ part: String, as sha256: String) throws {
        if try self.system.size(self.path(sha256)) == nil {
            try self.system.rename(part, to: self.path(sha256))
            // The name is on the disk only when the folder is (man 2 fsync).
            try self.system.syncDirectory(self.directory)
        }
    }

    /// Removes the file with this SHA-256, if it is there.
    func remove(_ sha256: String) {
        try? self.system.remove(self.path(sha256))
    }

    /// Reads a file from its start to its end; blocks.
    func forEachPiece(of sha256: String, _ body: (UnsafeRawBufferPointer) -> Void) throws {
        let file = try self.system.open(self.path(sha256))
        defer { posixClose(file) }
        var bytes = [UInt8](repeating: 0, count: 256 * 1024)
        try bytes.withUnsafeMutableBytes { bytes in
            while true {
                let count = try POSIXFileSystem.read(file, into: bytes)
                if count == 0 { return }
                body(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
            }
        }
    }

    /// Removes what uploads and deletions left behind when the host was cut off, given the files that packages use.
    func removeLeftovers(used: Set<String>) throws {
        for name in try self.system.names(in: self.directory) where !used.contains(name) && Self.isOurs(name) {
            try self.system.remove("\(self.directory)/\(name)")
        }
    }

    /// Whether a name is one that the store gives, so that nothing else in the folder is touched.
    static func isOurs(_ name: String) -> Bool {
        if name.hasPrefix("upload-") && name.hasSuffix(".part") { return true }
        return name.utf8.count == 64
            && name.utf8.allSatisfy { ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x66) }
    }
}
