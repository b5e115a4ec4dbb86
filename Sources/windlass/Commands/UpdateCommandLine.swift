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
                titles: ["DEVICE", "TYPE", "TITLE", "VERSION", "STATE", "PROGRESS", "RUNS", "ERROR", "WAITS"]
            ) { update in
                ["deviceName", "type", "title", "version", "state", "progress"].map(update.shown)
                    + [
                        update["installed"]?.runningText ?? "-", update.shown("error"),
                        UpdateText.waiting(update) ?? "-",
                    ]
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

/// What `retry`, `cancel` and `resend` take.
struct UpdateOrderArguments: ParsableArguments {
    @OptionGroup var server: ServerArguments
    @OptionGroup var updates: UpdateArguments

    @Flag(name: .long, help: "All there are.")
    var all = false

    @OptionGroup var confirmation: Confirmation

    @Option(name: .long, help: "How to tell what was done: text or json.")
    var format = OutputFormat.text
}

/// What `retry`, `cancel` and `resend` have in common.
protocol UpdateOrder: AsyncParsableCommand {
    /// The last part of the path, and the verb for people.
    static var order: String { get }
    /// The same verb in the past.
    static var done: String { get }
    /// Which updates it fits, for people.
    static var fitting: String { get }
    var arguments: UpdateOrderArguments { get }
    /// Whether UPDATED updates are meant too.
    var includeUpdated: Bool { get }
}

extension UpdateOrder {
    var includeUpdated: Bool { false }

    func run() async throws {
        let client = try await self.arguments.server.client()
        if let name = self.arguments.updates.device {
            try await self.carryOut(onDevice: name, client)
        } else {
            try await self.carryOut(onMany: client)
        }
    }

    private var isDryRun: Bool { self.arguments.confirmation.dryRun }

    private func carryOut(onDevice name: String, _ client: ManagementClient) async throws {
        let device = try await client.device(name)
        let type = self.arguments.updates.deviceType
        let query = [self.isDryRun ? "dryRun=true" : nil, self.includeUpdated ? "includeUpdated=true" : nil]
            .compactMap(\.self).joined(separator: "&")
        do {
            let path = "/api/device/\(device.entityID)/update/\(type)/\(Self.order)"
            let update = try await client.post(query.isEmpty ? path : "\(path)?\(query)", [:])
            let object = "the update of '\(device.shown("name"))'"
            if self.isDryRun {
                self.tell(["devices": 1], "would \(Self.order) \(object)")
            } else {
                self.tell(update, "\(Self.done) \(object)")
            }
        } catch let failure as CommandFailure {
            // The host knows the device; so there is no update, or it does not fit.
            guard let refusal = failure.refusal, [404, 409].contains(refusal.status) else { throw failure }
            try self.tellNothing(because: refusal.message)
        }
    }

    private func carryOut(onMany client: ManagementClient) async throws {
        let arguments = self.arguments
        var members = try await arguments.updates.members(client)
        guard !members.isEmpty || arguments.all else {
            throw ValidationError(
                "nothing says which updates are meant; name --device, --profile, --package, --state or --all"
            )
        }
        if arguments.all { members["all"] = true }
        if self.includeUpdated { members["includeUpdated"] = true }
        let path = "/api/updates/\(Self.order)"
        func post(_ path: String) async throws -> (answer: JSON, devices: Int) {
            let answer = try await client.post(path, .object(members))
            guard let devices = answer["devices"]?.integer else {
                throw CommandFailure(.failed, "the host's answer does not say how many devices")
            }
            return (answer, Int(devices))
        }
        if self.isDryRun || !arguments.confirmation.yes {
            let (answer, devices) = try await post("\(path)?dryRun=true")
            guard devices > 0 else { return try await self.tellNothing(client) }
            let what = "\(Self.order) the updates of \(deviceCount(devices))"
            guard !self.isDryRun else { return self.tell(answer, "would \(what)") }
            try arguments.confirmation.confirm(what, devices: devices)
        }
        let (answer, devices) = try await post(path)
        guard devices > 0 else { return try await self.tellNothing(client) }
        self.tell(answer, "\(Self.done) the updates of \(deviceCount(devices))")
    }

    private func tell(_ json: JSON, _ text: String) {
        print(self.arguments.format == .json ? json.description : text)
    }

    /// Says that no update fits, and in which states those are that were meant.
    private func tellNothing(_ client: ManagementClient) async throws {
        let counts = try await client.get("/api/updates/count?\(try await self.arguments.updates.query(client))")
        let found = (counts.object?.members ?? []).filter { $0.1 != 0 }.map { "\($0.1.text) \($0.0)" }
        try self.tellNothing(
            because: found.isEmpty
                ? "there is no such update" : "found \(found.joined(separator: ", ")), but \(Self.fitting)"
        )
    }

    private func tellNothing(because reason: String) throws {
        let text = "no update to \(Self.order): \(reason)"
        guard self.isDryRun else { throw CommandFailure(.failed, text) }
        self.tell(["devices": 0], text)
    }
}

/// The command `windlass update retry`.
struct UpdateRetry: UpdateOrder {
    static let order = "retry"
    static let done = "retried"
    static let fitting = "only one that FAILED or was cancelled, to the device's present package, can be retried"
    static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Begins failed updates anew.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var arguments: UpdateOrderArguments
}

/// The command `windlass update cancel`.
struct UpdateCancel: UpdateOrder {
    static let order = "cancel"
    static let done = "cancelled"
    static let fitting = "only one that is under way or waits for a retry can be cancelled"
    static let configuration = CommandConfiguration(
        commandName: "cancel",
        abstract: "Ends updates that are under way.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var arguments: UpdateOrderArguments
}

/// The command `windlass update resend`.
struct UpdateResend: UpdateOrder {
    static let order = "resend"
    static let done = "resent"
    static let fitting =
        "only one to the device's present package can be resent, and an UPDATED one with --include-updated"
    static let configuration = CommandConfiguration(
        commandName: "resend",
        abstract: "Notifies devices once more of the package that they should have.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var arguments: UpdateOrderArguments

    @Flag(name: .long, help: "Begin UPDATED updates anew as well.")
    var includeUpdated = false
}
