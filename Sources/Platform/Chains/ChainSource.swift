#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif
import FoundationEssentials

/// A chain file's name (as given, for messages) and bytes.
public struct ChainSource: Sendable {
    /// The name, as given.
    public var path: String
    /// The content.
    public var bytes: [UInt8]

    /// Takes a file's name and bytes.
    public init(path: String, bytes: [UInt8]) {
        self.path = path
        self.bytes = bytes
    }

    /// Reads the chain files of a folder: all whose name ends in `.xml` and does not start with a dot, sorted by name.
    ///
    /// - Throws: ``ChainFaults`` if the folder or a file in it cannot be read, or there is no such file.
    public static func read(folder: String) throws(ChainFaults) -> [ChainSource] {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: folder)
        } catch {
            let help = "name an existing folder of chain files with --chains"
            let message = "cannot read the folder '\(folder)'"
            throw ChainFaults([ChainFault(file: folder, message: message, help: help, code: "unreadable-file")])
        }
        let files = names.filter { $0.hasSuffix(".xml") && !$0.hasPrefix(".") }.sorted()
        guard !files.isEmpty else {
            let help = "put a chain file into it, such as the ota.xml that ships"
            let message = "no chain file (*.xml) in the folder '\(folder)'"
            throw ChainFaults([ChainFault(file: folder, message: message, help: help, code: "empty-folder")])
        }
        let parent = folder.hasSuffix("/") ? folder : folder + "/"
        return try Self.read(files: files.map { parent + $0 })
    }

    /// Reads chain files, in this order.
    ///
    /// - Throws: ``ChainFaults`` with one fault for each file that cannot be read or is too large.
    public static func read(files: [String]) throws(ChainFaults) -> [ChainSource] {
        var sources: [ChainSource] = []
        var faults: [ChainFault] = []
        for path in files {
            do {
                sources.append(ChainSource(path: path, bytes: try Self.bytes(of: path)))
            } catch {
                faults.append(error)
            }
        }
        guard faults.isEmpty else { throw ChainFaults(faults) }
        return sources
    }

    private static func bytes(of path: String) throws(ChainFault) -> [UInt8] {
        // Not blocking, so that a pipe that is named like a chain file does not stop the host.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw Self.unreadable(path, errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Self.unreadable(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw ChainFault(file: path, message: "'\(path)' is not a file", code: "unreadable-file")
        }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = readBytes(descriptor, &buffer)
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.unreadable(path, errno)
            }
            bytes.append(contentsOf: buffer[..<count])
            guard bytes.count <= XMLReader.fileSizeMax else { throw XMLReader.tooLarge(path) }
        }
    }

    private static func unreadable(_ path: String, _ code: Int32) -> ChainFault {
        let reason = String(cString: strerror(code))
        return ChainFault(file: path, message: "cannot read '\(path)': \(reason)", code: "unreadable-file")
    }
}

/// `read(2)`, which within ``ChainSource`` would be taken for a method of its own.
private func readBytes(_ descriptor: Int32, _ buffer: inout [UInt8]) -> Int {
    read(descriptor, &buffer, buffer.count)
}
