public import Chains
import FoundationEssentials
import Glibc
import Logging
public import NodeKit
import PluginEntry

/// Loads plugins: shared libraries named `lib<Name>Plugin.so`, each exporting the C symbol `windlass_plugin_<Name>`.
///
/// Before a library is loaded, the stamp that ``PluginEntry/PlatformStamp`` left in it is read from the file and compared with
/// that of the platform. Nothing of a plugin runs before that.
public struct PluginLoader: Sendable {
    /// The largest library that is loaded, in bytes.
    public static let librarySizeMax = 1 << 28

    /// Where libraries are copied to before they are loaded; `nil` for a command that ends soon and loads them where they are.
    private let copies: PluginCopies?
    private let logger: Logger?

    /// Makes a loader for a command that ends soon: a library that is overwritten meanwhile may end it.
    public init() {
        self.copies = nil
        self.logger = nil
    }

    /// Makes a loader for a host that runs on while its plugins are replaced.
    ///
    /// - Parameters:
    ///   - copies: Where copies of the libraries go; `nil` if there can be none.
    ///   - logger: Told of a library that had to be loaded where it is.
    init(copies: PluginCopies?, logger: Logger) {
        self.copies = copies
        self.logger = logger
    }

    /// Loads every plugin of the folders, in alphabetical order within each.
    ///
    /// - Parameter folders: Folders that each hold at least one plugin. One named twice is read once.
    /// - Returns: The node types of all plugins.
    /// - Throws: ``NodeError`` that names the folder or file, says what is wrong with it and what would help. Its codes are
    ///   `plugin-folder`, `plugin-stamp`, `plugin-unloadable`, `plugin-symbol` and those of ``Chains/NodeTypes/add(_:)``.
    public func load(folders: [String]) throws(NodeError) -> NodeTypes {
        var types = NodeTypes()
        var seen: Set<String> = []
        for folder in folders {
            guard seen.insert(Self.canonical(folder)).inserted else { continue }
            for (name, path) in try self.libraries(in: folder) {
                let plugin = try self.load(name: name, path: path)
                do {
                    try types.add(plugin)
                } catch {
                    throw NodeError(error.code, "plugin '\(path)': \(error.message)", cause: error)
                }
            }
        }
        return types
    }

    private static func canonical(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private func libraries(in folder: String) throws(NodeError) -> [(name: String, path: String)] {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: folder)
        } catch {
            throw NodeError(
                "plugin-folder",
                "cannot read the plugin folder '\(folder)'; name one that exists with --plugins",
                cause: error
            )
        }
        let libraries = names.sorted().compactMap { file -> (name: String, path: String)? in
            guard file.hasPrefix("lib"), file.hasSuffix("Plugin.so") else { return nil }
            return (String(file.dropFirst("lib".count).dropLast("Plugin.so".count)), "\(folder)/\(file)")
        }
        guard !libraries.isEmpty else {
            throw NodeError(
                "plugin-folder",
                "the plugin folder '\(folder)' holds no plugin; a plugin is a library named lib<Name>Plugin.so"
            )
        }
        return libraries
    }

    private func load(name: String, path: String) throws(NodeError) -> Plugin {
        let bytes = try Self.read(path)
        try Self.check(bytes, of: path)
        guard let library = self.open(bytes, of: Self.canonical(path)) else {
            throw NodeError("plugin-unloadable", "cannot load the plugin '\(path)': \(Self.lastError)")
        }
        let symbol = "windlass_plugin_\(name)"
        guard let address = dlsym(library, symbol) else {
            // The library stays: the Swift runtime knows its types by now and cannot forget them.
            throw NodeError(
                "plugin-symbol",
                "the plugin '\(path)' does not export '\(symbol)'; declare it with @c(\(symbol)), and name the file after it"
            )
        }
        let entry = unsafeBitCast(address, to: (@convention(c) () -> UnsafeMutableRawPointer).self)
        return Plugin.imported(entry())
    }

    /// Loads a copy of the library, or the library itself where a copy cannot be made or loaded.
    ///
    /// The path has a slash; one without would be looked for in the system's library folders (`man 3 dlopen`).
    private func open(_ bytes: [UInt8], of path: String) -> UnsafeMutableRawPointer? {
        guard let copies = self.copies else { return dlopen(path, RTLD_NOW | RTLD_LOCAL) }
        let reason: String
        do {
            if let library = dlopen(try copies.copy(bytes, of: path), RTLD_NOW | RTLD_LOCAL) { return library }
            reason = Self.lastError
        } catch {
            reason = error.message
        }
        guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else { return nil }
        self.logger?.warning(
            "a plugin is loaded where it is; overwriting its file ends the host",
            metadata: ["plugin.file": "\(path)", "plugin.copy": "\(reason)"]
        )
        return library
    }

    private static var lastError: String { dlerror().map { String(cString: $0) } ?? "no reason given" }

    /// Makes sure that a library is a whole one and was built against the platform that is here.
    private static func check(_ bytes: [UInt8], of path: String) throws(NodeError) {
        guard let text = bytes.withUnsafeBytes({ PlatformStamp.text(in: $0) }) else {
            throw NodeError(
                "plugin-stamp",
                """
                '\(path)' has no stamp of a plugin: it is no plugin, or its entry does not return exported(); \
                see docs/writing-a-node.md
                """
            )
        }
        guard bytes.withUnsafeBytes({ Self.isWhole($0) }) else {
            throw NodeError(
                "plugin-unloadable",
                "cannot load the plugin '\(path)': the file is cut off or is no library for this system; copy it again"
            )
        }
        let present = PlatformStamp.current
        guard let stamp = PlatformStamp(text) else {
            throw NodeError(
                "plugin-stamp",
                """
                the plugin '\(path)' was built against a platform whose stamp this host cannot read; \
                \(Self.remedy(path))
                """
            )
        }
        guard stamp == present else {
            throw NodeError(
                "plugin-stamp",
                """
                the plugin '\(path)' was built against another platform than this host's: \
                \(stamp.differences(from: present).joined(separator: ", ")); \
                \(stamp.libraries == present.libraries ? "" : "copy Package.resolved from Windlass, then ")\(Self.remedy(path))
                """
            )
        }
    }

    /// What would help with a plugin of another platform.
    private static func remedy(_ path: String) -> String {
        let file = path.split(separator: "/").last.map { String($0) } ?? path
        return """
            build the plugin again with this host's platform: \
            swift build -c \(PlatformStamp.current.configuration) --product \(file.dropFirst("lib".count).dropLast(".so".count))
            """
    }

    /// Reads a library.
    ///
    /// It is not mapped, since what is looked at is to stay as it is if the file changes.
    private static func read(_ path: String) throws(NodeError) -> [UInt8] {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.unreadable(path) }
        defer { close(descriptor) }
        var status = Glibc.stat()
        guard fstat(descriptor, &status) == 0 else { throw Self.unreadable(path) }
        guard status.st_size <= Self.librarySizeMax else {
            errno = EFBIG
            throw Self.unreadable(path)
        }
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
            while count < buffer.count {
                let length = Glibc.read(descriptor, buffer.baseAddress.map { $0 + count }, buffer.count - count)
                if length < 0, errno == EINTR { continue }
                failed = length < 0
                guard length > 0 else { return }
                count += length
            }
        }
        guard !failed else { throw Self.unreadable(path) }
        return bytes
    }

    /// Whether all segments that the loader would map are within the file.
    ///
    /// It maps them without looking, and the first access past the end of a cut-off file would end the process (`man 5
    /// elf`, `man 2 mmap`: SIGBUS).
    private static func isWhole(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= MemoryLayout<Elf64_Ehdr>.size, bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46, 2]) else {
            return false
        }
        let header = bytes.loadUnaligned(as: Elf64_Ehdr.self)
        let size = UInt64(bytes.count)
        let entrySize = UInt64(MemoryLayout<Elf64_Phdr>.size)
        guard header.e_phoff <= size, UInt64(header.e_phnum) * entrySize <= size - header.e_phoff else { return false }
        return (0..<UInt64(header.e_phnum)).allSatisfy { index in
            let offset = Int(header.e_phoff + index * entrySize)
            let segment = bytes.loadUnaligned(fromByteOffset: offset, as: Elf64_Phdr.self)
            return segment.p_offset <= size && segment.p_filesz <= size - segment.p_offset
        }
    }

    private static func unreadable(_ path: String) -> NodeError {
        NodeError("plugin-unloadable", "cannot read the plugin '\(path)': \(String(cString: strerror(errno)))")
    }
}
