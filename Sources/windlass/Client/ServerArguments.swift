import ArgumentParser
import Foundation
import NodeKit

/// Which host a command talks to and who is asking; the same for every command that needs one.
///
/// Nothing secret is an option, since others can read the command line of a process (`man 5 proc`).
struct ServerArguments: ParsableArguments {
    /// The host if none is named.
    static let serverDefault = "http://127.0.0.1:8081"

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where the management API of the host is, by default \(Self.serverDefault). Variable WINDLASS_SERVER.",
            valueName: "url"
        )
    )
    var server: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The user to log in as, with the password in WINDLASS_PASSWORD. Variable WINDLASS_USER.",
            valueName: "name"
        )
    )
    var user: String?

    @Option(
        name: .long,
        help: ArgumentHelp("A file with the password, in place of WINDLASS_PASSWORD.", valueName: "file")
    )
    var passwordFile: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file with certificates (PEM) to trust in place of the system's. Variable WINDLASS_CA_FILE.",
            valueName: "file"
        )
    )
    var caFile: String?

    /// Connects and logs in.
    ///
    /// An API key in `WINDLASS_API_KEY` counts unless a user is named with `--user`.
    func client(environment: [String: String] = ProcessInfo.processInfo.environment) async throws -> ManagementClient {
        func variable(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        let server = try ServerAddress(self.server ?? variable("WINDLASS_SERVER") ?? Self.serverDefault)
        let client = try ManagementClient(server, caFile: self.caFile ?? variable("WINDLASS_CA_FILE"))
        if self.user == nil, let key = variable("WINDLASS_API_KEY") {
            client.authorization = "ApiKey \(key)"
            return client
        }
        guard let user = self.user ?? variable("WINDLASS_USER"), let password = try self.password(variable) else {
            throw CommandFailure(
                .notLoggedIn,
                "nothing says who you are; set WINDLASS_USER and WINDLASS_PASSWORD, or WINDLASS_API_KEY"
            )
        }
        try await client.logIn(user: user, password: password)
        return client
    }

    private func password(_ variable: (String) -> String?) throws -> String? {
        guard let file = self.passwordFile else { return variable("WINDLASS_PASSWORD") }
        do {
            let text = try String(contentsOfFile: file, encoding: .utf8)
            return text.hasSuffix("\n") ? String(text.dropLast()) : text
        } catch {
            throw CommandFailure(.failed, "cannot read the password from '\(file)': \(error.localizedDescription)")
        }
    }
}

/// How a command says what it found.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable { case text, json }

/// Why a command ends without success; its code is the exit code of the process.
struct CommandFailure: Error, CustomStringConvertible {
    /// Kinds of failure that a script may want to tell apart.
    enum Kind: Int32 {
        /// The host refused, there is nothing to do, or a file cannot be read.
        case failed = 1
        /// Many devices or messages would be touched, and nobody agreed to that.
        case unconfirmed = 2
        /// The host cannot be reached; the same command may succeed later.
        case unreachable = 3
        /// The host does not know who is asking, or does not allow it.
        case notLoggedIn = 4
        /// What was named is not there.
        case notFound = 5
    }

    /// What the exit codes mean, for the help texts.
    static let exitCodes = """
        Exits with 0 if all is well, 1 if the host refused, there is nothing to do or a file cannot be read, 2 if more than one \
        device or message would be touched and that was not confirmed, 3 if the host cannot be reached, 4 if the login is missing or wrong, \
        5 if something is not there, and 64 if the command is not understood.
        """

    var kind: Kind
    var description: String
    /// The status and the words of the host's answer, if that is the failure.
    var refusal: (status: UInt, message: String)?

    init(_ kind: Kind, _ description: String, refusal: (status: UInt, message: String)? = nil) {
        self.kind = kind
        self.description = description
        self.refusal = refusal
    }
}

/// Where a host is, from a URL such as `https://updates.example.org`.
struct ServerAddress: Sendable, Hashable {
    var isTLS: Bool
    var host: String
    var port: Int

    /// Reads a URL with scheme `http` or `https` and without a path.
    init(_ text: String) throws {
        let failure = CommandFailure(
            .failed,
            "'\(text)' is no address of a host; write http://HOST:PORT or https://HOST:PORT"
        )
        guard let url = URLComponents(string: text), let scheme = url.scheme?.lowercased(),
            ["http", "https"].contains(scheme), let host = url.host, !host.isEmpty, ["", "/"].contains(url.path),
            url.query == nil, url.user == nil
        else { throw failure }
        self.isTLS = scheme == "https"
        self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
        self.port = url.port ?? (self.isTLS ? 443 : 80)
    }

    /// The URL that it was read from, in short.
    var description: String {
        "\(self.isTLS ? "https" : "http")://\(self.host.contains(":") ? "[\(self.host)]" : self.host):\(self.port)"
    }
}
