import ArgumentParser
import NodeKit

/// The command `windlass device`.
struct DeviceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device",
        abstract: "Lists devices of a host that runs, and shows one.",
        subcommands: [DeviceList.self, DeviceShow.self]
    )
}

/// The command `windlass device list`.
struct DeviceList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Lists devices.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments

    @Option(name: .long, help: ArgumentHelp("Only devices whose name contains this.", valueName: "text"))
    var search: String?

    @Option(name: .long, help: "Only devices of this profile, by name or identifier.")
    var profile: String?

    @Option(name: .long, help: "How to list them: text or json.")
    var format = OutputFormat.text

    func run() async throws {
        let client = try await self.server.client()
        var output = ListOutput(self.format, titles: ["NAME", "LABEL", "PROFILE", "CREATED", "ID"]) { device in
            [
                device.shown("name"), device.shown("label"), device.shown("deviceProfileName"),
                device["createdTime"]?.dateText ?? "-", device.entityID,
            ]
        }
        var target = "/api/tenant/deviceInfos?sortProperty=createdTime"
        if let search = self.search { target += "&textSearch=\(HTTPClient.escape(search))" }
        if let name = self.profile {
            target += "&deviceProfileId=\(try await client.profile(name).entityID)"
        }
        try await client.pages(target) { output.add($0) }
        output.finish()
    }
}

/// The command `windlass device show`.
struct DeviceShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Shows a device and how far its updates are.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments

    @Argument(help: "The device, by name or identifier.")
    var device: String

    @Option(name: .long, help: "How to show it: text or json.")
    var format = OutputFormat.text

    func run() async throws {
        let client = try await self.server.client()
        let device = try await client.device(self.device)
        var updates: JSON.Object = [:]
        for type in ["FIRMWARE", "SOFTWARE"] {
            updates[type] = try await client.getIfPresent("/api/device/\(device.entityID)/update/\(type)")
        }
        switch self.format {
        case .json: print(JSON.object(["device": device, "updates": .object(updates)]))
        case .text:
            print("name     \(device.shown("name"))")
            print("id       \(device.entityID)")
            print("profile  \(device.shown("type"))")
            print("label    \(device.shown("label"))")
            print("created  \(device["createdTime"]?.dateText ?? "-")")
            for (type, update) in updates.members { print(UpdateText.lines(update, type: type)) }
            if updates.isEmpty { print("no update yet") }
        }
    }
}

/// An update record for people.
enum UpdateText {
    static func lines(_ update: JSON, type: String) -> String {
        var lines = [
            "\(type.lowercased())  \(update.shown("title")) \(update.shown("version"))  \(update.shown("state"))"
        ]
        if let progress = update["progress"]?.integer { lines.append("  progress  \(progress) %") }
        if let attempts = update["attempts"]?.integer, attempts > 1 { lines.append("  attempts  \(attempts)") }
        if let error = update["errorClass"]?.string { lines.append("  class     \(error)") }
        if let error = update["error"]?.string { lines.append("  error     \(error)") }
        for (state, time) in update["entered"]?.object?.members ?? [] {
            lines.append("  \(state)\(String(repeating: " ", count: max(0, 12 - state.count)))\(time.dateText)")
        }
        return lines.joined(separator: "\n")
    }
}
