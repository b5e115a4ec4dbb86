import ArgumentParser
import NodeKit

/// The command `windlass queue`.
struct QueueCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queue",
        abstract: "Lists the messages that wait in nodes, and moves or removes those of a node.",
        discussion: """
            A queue is named CHAIN/NODE, or NODE if that is clear. On a host with several tenants these commands need a system \
            administrator, since a queue holds messages of the devices of all of them (WINDLASS_SYSADMIN_PASSWORD of the host).
            """,
        subcommands: [QueueList.self, QueueMove.self, QueueDrop.self]
    )
}

/// The command `windlass queue list`.
struct QueueList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Lists the queues of running nodes, and those that hold messages without one.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments

    @Option(name: .long, help: "How to list them: text or json.")
    var format = OutputFormat.text

    func run() async throws {
        let client = try await self.server.client()
        var output = ListOutput(self.format, titles: ["QUEUE", "NODE", "WAITING", "OLDEST", "LATER"]) { queue in
            let held = (queue["held"]?.object?.members ?? []).map { "\($0.value.text) \($0.name)" }
            return [
                queue.shown("name"), queue["hasNode"] == true ? "runs" : "missing", queue.shown("waiting"),
                queue["oldest"]?.dateText ?? "-", held.isEmpty ? "-" : held.joined(separator: ", "),
            ]
        }
        output.add(try await client.get("/api/queues").array ?? [])
        output.finish()
    }
}

/// What `move` and `drop` have in common.
protocol QueueOrder: AsyncParsableCommand {
    var server: ServerArguments { get }
    var confirmation: Confirmation { get }
    var format: OutputFormat { get }
    /// The queue that the messages are in.
    var name: String { get }
    /// The last part of the path, and the verb for people.
    static var order: String { get }
    /// The same verb in the past.
    static var done: String { get }
    /// The body of the request.
    var body: JSON { get }
    /// What happens to the messages, behind the verb and their number.
    var course: String { get }
}

extension QueueOrder {
    func run() async throws {
        let client = try await self.server.client()
        let path = "/api/queues/\(Self.order)"
        if self.confirmation.dryRun || !self.confirmation.yes {
            let (answer, count) = try await self.post(client, "\(path)?dryRun=true")
            let what = self.words(Self.order, count)
            guard !self.confirmation.dryRun else { return self.tell(answer, "would \(what)") }
            try self.refuseNothing(count)
            try self.confirmation.confirm(what, messages: count)
        }
        let (answer, count) = try await self.post(client, path)
        try self.refuseNothing(count)
        self.tell(answer, self.words(Self.done, count))
    }

    private func post(_ client: ManagementClient, _ path: String) async throws -> (answer: JSON, messages: Int) {
        let answer = try await client.post(path, self.body)
        guard let count = answer["messages"]?.integer else {
            throw CommandFailure(.failed, "the host's answer does not say how many messages")
        }
        return (answer, Int(count))
    }

    private func words(_ verb: String, _ count: Int) -> String {
        "\(verb) \(count == 1 ? "1 message" : "\(count) messages") \(self.course)"
    }

    private func refuseNothing(_ count: Int) throws {
        guard count > 0 else { throw CommandFailure(.failed, "no message waits in '\(self.name)'") }
    }

    private func tell(_ json: JSON, _ text: String) { print(self.format == .json ? json.description : text) }
}

/// The command `windlass queue move`.
struct QueueMove: QueueOrder {
    static let order = "move"
    static let done = "moved"
    static let configuration = CommandConfiguration(
        commandName: "move",
        abstract: "Moves the messages of a queue to the end of that of a running node, where they are due at once.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments

    @Argument(help: "The queue that the messages are in.")
    var name: String

    @Argument(help: "The queue of a running node that they go to.")
    var target: String

    @OptionGroup var confirmation: Confirmation

    @Option(name: .long, help: "How to tell what was done: text or json.")
    var format = OutputFormat.text

    var body: JSON { ["from": .string(self.name), "to": .string(self.target)] }
    var course: String { "from '\(self.name)' to '\(self.target)'" }
}

/// The command `windlass queue drop`.
struct QueueDrop: QueueOrder {
    static let order = "drop"
    static let done = "dropped"
    static let configuration = CommandConfiguration(
        commandName: "drop",
        abstract: "Removes the messages of a queue, for good.",
        discussion: """
            Devices whose assignments are dropped are not notified of them; 'windlass update resend' does that. \
            \(CommandFailure.exitCodes)
            """
    )

    @OptionGroup var server: ServerArguments

    @Argument(help: "The queue that the messages are in.")
    var name: String

    @OptionGroup var confirmation: Confirmation

    @Option(name: .long, help: "How to tell what was done: text or json.")
    var format = OutputFormat.text

    var body: JSON { ["name": .string(self.name)] }
    var course: String { "of '\(self.name)'" }
}
