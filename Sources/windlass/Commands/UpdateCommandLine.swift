import ArgumentParser
import NodeKit

/// The command `windlass update`.
struct UpdateCommandLine: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "update",
        abstract: "Tells how far updates are, and retries or cancels them.",
        subcommands: [UpdateStatus.self, UpdateRetry.self, UpdateCancel.self, UpdateResend.self]
    )
}

/// Which updates are meant.
struct UpdateArguments: ParsableArguments {
    @Option(name: .long, help: "Of this device, by name or identifier.")
    var device: String?

    @Option(name: .long, help: "Of the devices of this profile, by name or identifier.")
    var profile: String?

    @Option(name: .long, help: ArgumentHelp("To this package, by identifier.", valueName: "id"))
    var package: String?

    @Option(name: .long, help: "Of packages of this type, FIRMWARE or SOFTWARE.")
    var type: String?

    @Option(name: .long, help: ArgumentHelp("In this state; may be given more than once.", valueName: "state"))
    var state: [String] = []

    /// The type that one device's update has.
    var deviceType: String { (self.type ?? "FIRMWARE").uppercased() }

    /// Members of a request's body that say the same.
    func members(_ client: ManagementClient) async throws -> JSON.Object {
        var members: JSON.Object = [:]
        members["type"] = self.type.map { .string($0.uppercased()) }
        if !self.state.isEmpty { members["states"] = .array(self.state.map { .string($0.uppercased()) }) }
        members["packageId"] = self.package.map(JSON.string)
        if let profile = self.profile {
            members["deviceProfileId"] = .string(try await client.profile(profile).entityID)
        }
        return members
    }

    /// A query that says the same.
    func query(_ client: ManagementClient) async throws -> String {
        var members = try await self.members(client)
        members["states"] = nil
        if !self.state.isEmpty { members["state"] = .string(self.state.map { $0.uppercased() }.joined(separator: ",")) }
        return members.members.map { "\($0.0)=\(HTTPClient.escape($0.1.text))" }.joined(separator: "&")
    }
}

/// The command `windlass update status`.
struct UpdateStatus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract:
            "Shows how far the update of a device is, or how many updates are in each state and what their devices run.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments
    @OptionGroup var updates: UpdateArguments

    @Flag(name: .long, help: "List the update of each device in place of counts.")
    var list = false

    @Flag(name: .long, help: "With --format json, count the versions that devices run in place of states.")
    var installed = false

    @Option(name: .long, help: "How to show it: text or json.")
    var format = OutputFormat.text

    func run() async throws {
        let client = try await self.server.client()
        if let name = self.updates.device {
            let device = try await client.device(name)
            let type = self.updates.deviceType
            let update = try await client.get("/api/device/\(device.entityID)/update/\(type)")
            print(self.format == .json ? update.description : UpdateText.lines(update, type: type))
            return
        }
        let query = try await self.updates.query(client)
        if self.list {
            var output = ListOutput(
                self.format,
                titles: ["DEVICE", "TYPE", "TITLE", "VERSION", "STATE", "PROGRESS", "RUNS", "ERROR"]
            ) { update in
                ["deviceName", "type", "title", "version", "state", "progress"].map(update.shown)
                    + [update["installed"]?.runningText ?? "-", update.shown("error")]
            }
            try await client.pages("/api/updates?\(query)") { output.add($0) }
            output.finish()
            return
        }
        if self.format == .json {
            return print(try await client.get("/api/updates/\(self.installed ? "installed" : "count")?\(query)"))
        }
        let counts = try await client.get("/api/updates/count?\(query)")
        let installed = try await client.get("/api/updates/installed?\(query)")
        var table = Table(["STATE", "UPDATES"])
        for (state, count) in counts.object?.members ?? [] { table.add([state, count.text]) }
        print(table.text)
        guard let versions = installed.array, !versions.isEmpty else { return }
        var runs = Table(["TYPE", "RUNS", "DEVICES"])
        for version in versions { runs.add([version.shown("type"), version.runningText, version.shown("devices")]) }
        print("\n\(runs.text)")
    }
}

/// What `retry`, `cancel` and `resend` have in common.
protocol UpdateOrder: AsyncParsableCommand {
    /// The last part of the path.
    static var order: String { get }
    /// What was done, for people.
    static var done: String { get }
    var server: ServerArguments { get }
    var updates: UpdateArguments { get }
    var all: Bool { get }
    var format: OutputFormat { get }
}

extension UpdateOrder {
    func carryOut() async throws {
        let client = try await self.server.client()
        if let name = self.updates.device {
            let device = try await client.device(name)
            let type = self.updates.deviceType
            let update = try await client.post("/api/device/\(device.entityID)/update/\(type)/\(Self.order)", [:])
            print(self.format == .json ? update.description : "\(Self.done) the update of '\(device.shown("name"))'")
            return
        }
        var members = try await self.updates.members(client)
        guard !members.isEmpty || self.all else {
            throw ValidationError(
                "nothing says which updates are meant; name --device, --profile, --package, --state or --all"
            )
        }
        if self.all { members["all"] = true }
        let answer = try await client.post("/api/updates/\(Self.order)", .object(members))
        print(
            self.format == .json ? answer.description : "\(Self.done) the updates of \(answer.shown("devices")) devices"
        )
    }
}

/// The command `windlass update retry`.
struct UpdateRetry: UpdateOrder {
    static let order = "retry"
    static let done = "retried"
    static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Begins failed updates anew.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments
    @OptionGroup var updates: UpdateArguments

    @Flag(name: .long, help: "All there are.")
    var all = false

    @Option(name: .long, help: "How to tell what was done: text or json.")
    var format = OutputFormat.text

    func run() async throws { try await self.carryOut() }
}

/// The command `windlass update cancel`.
struct UpdateCancel: UpdateOrder {
    static let order = "cancel"
    static let done = "cancelled"
    static let configuration = CommandConfiguration(
        commandName: "cancel",
        abstract: "Ends updates that are under way.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments
    @OptionGroup var updates: UpdateArguments

    @Flag(name: .long, help: "All there are.")
    var all = false

    @Option(name: .long, help: "How to tell what was done: text or json.")
    var format = OutputFormat.text

    func run() async throws { try await self.carryOut() }
}

/// The command `windlass update resend`.
struct UpdateResend: UpdateOrder {
    static let order = "resend"
    static let done = "told again of"
    static let configuration = CommandConfiguration(
        commandName: "resend",
        abstract: "Tells devices once more of the package that they should have.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments
    @OptionGroup var updates: UpdateArguments

    @Flag(name: .long, help: "All there are.")
    var all = false

    @Option(name: .long, help: "How to tell what was done: text or json.")
    var format = OutputFormat.text

    func run() async throws { try await self.carryOut() }
}
