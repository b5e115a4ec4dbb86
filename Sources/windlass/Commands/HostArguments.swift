import ArgumentParser
import Foundation
import Host

/// Where plugins and chain files are; the same for every command that needs them.
struct LoadArguments: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("The folder of the chain files.", valueName: "dir"))
    var chains = "chains"

    @Option(
        name: .long,
        parsing: .singleValue,
        help: ArgumentHelp(
            "A folder of plugins; may be given more than once. Without it, the folder of the executable.",
            valueName: "dir"
        )
    )
    var plugins: [String] = []

    /// The options of a host that has nothing but these arguments.
    func options(data: String = "") -> HostOptions {
        HostOptions(
            data: data,
            chains: self.chains,
            plugins: self.plugins.isEmpty ? [Self.executableFolder] : self.plugins,
            environment: ProcessInfo.processInfo.environment
        )
    }

    /// The folder of the running program, links resolved.
    static var executableFolder: String {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path
    }
}

/// A host and a port, as in `127.0.0.1:8081`, `[::1]:8081` or `8081`.
struct HostPort: ExpressibleByArgument {
    var host: String
    var port: Int

    init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
        guard let last = parts.last, let port = Int(last), (0...65535).contains(port) else { return nil }
        var host = argument.dropLast(last.count)
        if host.isEmpty {
            host = "127.0.0.1"
        } else {
            host.removeLast()
            if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        }
        guard !host.isEmpty else { return nil }
        self.init(host: String(host), port: port)
    }

    var defaultValueDescription: String { "\(self.host):\(self.port)" }
}
