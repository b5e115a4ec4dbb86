public import Chains
import FoundationEssentials
import Glibc
public import NodeKit

/// Loads plugins: shared libraries named `lib<Name>Plugin.so`, each exporting the C symbol `windlass_plugin_<Name>`.
///
/// Before a library is loaded, the stamp that ``NodeKit/Plugin/exported()`` left in it is read from the file and compared with
/// the host's. Nothing of a plugin runs before that.
public struct PluginLoader: Sendable {
    /// The largest file that is looked into for a stamp, in bytes.
    public static let librarySizeMax = 1 << 30

    private let platformVersion: String
    private let swiftVersion: String

    /// Makes a loader for this host's platform and compiler.
    public init() {
        self.platformVersion = Platform.version
        #if compiler(>=6.5)
            self.swiftVersion = "6.5 or newer"
        #elseif compiler(>=6.4)
            self.swiftVersion = "6.4"
        #else
            self.swiftVersion = "6.3"
        #endif
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
        try self.checkStamp(path)
        // A path without a slash would be looked for in the system's library folders (`man 3 dlopen`).
        guard let library = dlopen(Self.canonical(path), RTLD_NOW | RTLD_LOCAL) else {
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

    private static var lastError: String { dlerror().map { String(cString: $0) } ?? "no reason given" }

    private func checkStamp(_ path: String) throws(NodeError) {
        let stamp = try Self.stamp(of: path)
        guard let stamp else {
            throw NodeError(
                "plugin-stamp",
                """
                '\(path)' has no stamp of a plugin: it is no plugin, or its entry does not return exported(); \
                see docs/writing-a-node.md
                """
            )
        }
        guard stamp.platform == self.platformVersion, stamp.swift == self.swiftVersion else {
            throw NodeError(
                "plugin-stamp",
                """
                the plugin '\(path)' was built against platform \(stamp.platform) with Swift \(stamp.swift), and this host \
                is platform \(self.platformVersion) with Swift \(self.swiftVersion); rebuild the plugin with this host's \
                platform: swift build -c release --product \(Self.product(path))
                """
            )
        }
    }

    private static func product(_ path: String) -> String {
        let file = path.split(separator: "/").last.map { String($0) } ?? path
        return String(file.dropFirst("lib".count).dropLast(".so".count))
    }

    /// The platform and Swift version in the stamp of a library; `nil` if it has none.
    static func stamp(of path: String) throws(NodeError) -> (platform: String, swift: String)? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.unreadable(path) }
        defer { close(descriptor) }
        var status = Glibc.stat()
        guard fstat(descriptor, &status) == 0, status.st_size > 0, status.st_size <= Self.librarySizeMax else {
            throw Self.unreadable(path)
        }
        let size = Int(status.st_size)
        guard let base = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
            throw Self.unreadable(path)
        }
        defer { munmap(base, size) }
        let bytes = UnsafeRawBufferPointer(start: base, count: size)
        guard let stamp = Self.stampText(in: bytes) else { return nil }
        guard Self.isWhole(bytes) else {
            throw NodeError(
                "plugin-unloadable",
                "cannot load the plugin '\(path)': the file is cut off or is no library for this system; copy it again"
            )
        }
        var values: [Substring: Substring] = [:]
        for part in stamp.split(separator: ";") {
            let pair = part.split(separator: "=", maxSplits: 1)
            if pair.count == 2 { values[pair[0]] = pair[1] }
        }
        guard let platform = values["platform"], let swift = values["swift"] else { return nil }
        return (String(platform), String(swift))
    }

    /// The text between the stamp's mark and its end; `nil` if the mark is nowhere in the bytes.
    private static func stampText(in bytes: UnsafeRawBufferPointer) -> String? {
        let mark = Array("\u{1}windlass-plugin-stamp:".utf8)
        var rest = bytes[...]
        while rest.count >= mark.count, let base = UnsafeRawBufferPointer(rebasing: rest).baseAddress,
            let hit = memchr(base, Int32(mark[0]), rest.count)
        {
            rest = rest.dropFirst(UnsafeRawPointer(hit) - base)
            if rest.starts(with: mark) {
                return String(decoding: rest.dropFirst(mark.count).prefix { $0 != 1 }.prefix(200), as: UTF8.self)
            }
            rest = rest.dropFirst()
        }
        return nil
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
