import Foundation
import PackagePlugin

/// Has the build write the platform's stamp into a source of the module `PluginEntry`; see `stamp.sh`.
///
/// The libraries' versions are those that this very build has resolved, so a plugin that is built in a package of its own gets
/// the stamp of what it is compiled against, whatever the platform's author had.
@main
struct StampPlugin: BuildToolPlugin {
    /// The one command, which runs when a source of the platform, its manifest or the compiler changed.
    func createBuildCommands(context: PluginContext, target: any Target) async throws -> [Command] {
        let package = context.package.directoryURL
        let script = package.appending(path: "stamp.sh")
        let compiler = try context.tool(named: "swiftc").url
        let stamp = context.pluginWorkDirectoryURL.appending(path: "Stamp.swift")
        let sources = try (["Package.swift"] + context.package.targets.flatMap { try Self.files(of: $0, in: package) })
            .sorted()
        let libraries = Self.libraries(of: context.package).map { "\($0.key) \($0.value)" }.sorted()
        return [
            .buildCommand(
                displayName: "Stamping the platform",
                executable: URL(filePath: "/bin/sh"),
                arguments: [script.path, stamp.path, compiler.path, libraries.joined(separator: ",")] + sources,
                inputFiles: sources.map { package.appending(path: $0) } + [script, compiler],
                outputFiles: [stamp]
            )
        ]
    }

    /// The paths of a target's files below the package, without hidden ones.
    private static func files(of target: any Target, in package: URL) throws -> [String] {
        let folder = target.directoryURL
        return try FileManager.default.subpathsOfDirectory(atPath: folder.path).compactMap { path in
            let file = folder.appending(path: path)
            guard !path.split(separator: "/").contains(where: { $0.hasPrefix(".") }),
                try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true
            else { return nil }
            return String(file.path.dropFirst(package.path.count + 1))
        }
    }

    /// The versions of the packages that a package is made of, by name.
    private static func libraries(of package: Package) -> [String: String] {
        var found: [String: String] = [:]
        for dependency in package.dependencies.map(\.package) {
            if case .repository(_, let version, _) = dependency.origin {
                found[dependency.id] = version
            } else {
                // A folder in place of a version, as `swift package edit` makes.
                found[dependency.id] = "edited"
            }
            found.merge(Self.libraries(of: dependency)) { first, _ in first }
        }
        return found
    }
}
