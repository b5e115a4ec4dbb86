import ArgumentParser
import Host
import Logging
import NodeKit
import Store

/// The command `windlass serve`.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs the host until it is told to stop.",
        discussion: """
            Prints one line per listener with its real address, then 'ready'. SIGTERM ends it gracefully within 5 seconds; \
            SIGHUP reads the chain files again. The first administrator comes from WINDLASS_ADMIN_USER and \
            WINDLASS_ADMIN_PASSWORD, or is made with a password that is shown once.
            """
    )

    @OptionGroup var load: LoadArguments

    @Option(name: .long, help: ArgumentHelp("The folder of the database and the packages.", valueName: "dir"))
    var data = "windlass-data"

    @Option(name: .long, help: ArgumentHelp("Where the management API listens.", valueName: "host:port"))
    var management = HostPort(host: "127.0.0.1", port: 8081)

    @Option(
        name: .long,
        help: "Where uploaded packages go: files or sqlite. Those that are elsewhere are served all the same.",
        transform: { text in
            guard let storage = PackageStorage(rawValue: text) else {
                throw ValidationError("'\(text)' is no storage of packages; write files or sqlite")
            }
            return storage
        }
    )
    var packageStorage = PackageStorage.files

    @Option(
        name: .long,
        parsing: .singleValue,
        help: ArgumentHelp(
            "A setting that has no option of its own, see 'windlass settings'; may be given more than once.",
            valueName: "name=value"
        )
    )
    var set: [String] = []

    @Flag(name: .long, help: "Take over changed chain files without SIGHUP.")
    var watch = false

    @Option(
        name: .long,
        help: "What to log: trace, debug, info, notice, warning, error or critical.",
        transform: { text in
            guard let level = Logger.Level(rawValue: text) else { throw ValidationError("'\(text)' is no log level") }
            return level
        }
    )
    var logLevel = Logger.Level.notice

    func run() async throws {
        var options = self.load.options(data: self.data)
        options.managementHost = self.management.host
        options.managementPort = self.management.port
        options.watch = self.watch
        options.packageStorage = self.packageStorage
        options.settings = self.set
        try await Host(options: options, logger: .standardError(self.logLevel)).run { event in
            switch event {
            case .administrator(let name, let password):
                printNow("administrator \(name) made, password \(password) (shown only now)")
            case .listening(let listener): printNow("listening \(listener)")
            case .ready: printNow("ready")
            }
        }
    }
}

extension Logger {
    /// The logger of a process: lines on standard error.
    static func standardError(_ level: Level) -> Logger {
        var logger = Logger(label: "windlass") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = level
        return logger
    }
}
