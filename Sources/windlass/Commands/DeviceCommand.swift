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
        var output = ListOutput(
            self.format,
            titles: ["NAME", "LABEL", "PROFILE", "FIRMWARE", "SOFTWARE", "CREATED", "ID"]
        ) {
            device in
            [
                device.shown("name"), device.shown("label"), device.shown("deviceProfileName"),
                device["installedFirmware"]?.runningText ?? "-", device["installedSoftware"]?.runningText ?? "-",
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
        let info = try await client.get("/api/device/info/\(device.entityID)")
        var updates: JSON.Object = [:]
        for type in ["FIRMWARE", "SOFTWARE"] {
            updates[type] = try await client.getIfPresent("/api/device/\(device.entityID)/update/\(type)")
        }
        switch self.format {
        case .json: print(JSON.object(["device": info, "updates": .object(updates)]))
        case .text:
            print("name     \(device.shown("name"))")
            print("id       \(device.entityID)")
            print("profile  \(device.shown("type"))")
            print("label    \(device.shown("label"))")
            print("created  \(device["createdTime"]?.dateText ?? "-")")
            for (type, installed) in UpdateText.installed(info) { print(UpdateText.line(installed, type: type)) }
            for (type, update) in updates.members { print(UpdateText.lines(update, type: type)) }
            if updates.isEmpty { print("no update yet") }
        }
    }
}

extension JSON {
    /// Title and version that a device says it runs; a dash if it never said.
    var runningText: String {
        let known = ["title", "version"].compactMap { self[$0]?.string }
        return known.isEmpty ? "-" : known.joined(separator: " ")
    }
}

/// An update record for people.
enum UpdateText {
    /// What a device says it runs, by the name of the package type.
    static func installed(_ info: JSON) -> [(type: String, installed: JSON)] {
        ["Firmware", "Software"].compactMap { type in
            guard let installed = info["installed\(type)"], !installed.isNull else { return nil }
            return (type.lowercased(), installed)
        }
    }

    static func line(_ installed: JSON, type: String) -> String {
        "runs     \(type) \(installed.runningText)  since \(installed["since"]?.dateText ?? "-"), by \(installed.shown("report"))"
    }

    /// Where the message waits that tells the device of its package, and why; `nil` if it does not wait.
    static func waiting(_ update: JSON) -> String? {
        guard let waiting = update["waiting"], !waiting.isNull else { return nil }
        var parts: [String] = []
        if let queue = waiting["queue"]?.string {
            parts.append("in \(queue) since \(waiting["since"]?.dateText ?? "-")")
        } else {
            parts.append("nowhere any more")
        }
        if let code = waiting["code"]?.string {
            parts.append("\(code): \(waiting.shown("reason"))")
            if let until = waiting["until"], !until.isNull { parts.append("next try \(until.dateText)") }
        }
        return parts.joined(separator: "; ")
    }

    static func lines(_ update: JSON, type: String) -> String {
        var lines = [
            "\(type.lowercased())  \(update.shown("title")) \(update.shown("version"))  \(update.shown("state"))"
        ]
        if let progress = update["progress"]?.integer { lines.append("  progress  \(progress) %") }
        if let waiting = Self.waiting(update) { lines.append("  waits     \(waiting)") }
        if let priority = update["priority"]?.integer, priority > 0 { lines.append("  priority  \(priority)") }
        if let attempts = update["attempts"]?.integer, attempts > 1 { lines.append("  attempts  \(attempts)") }
        if let error = update["errorClass"]?.string { lines.append("  class     \(error)") }
        if let error = update["error"]?.string { lines.append("  error     \(error)") }
        if let cause = update["failureCause"]?.string { lines.append("  cause     \(cause)") }
        if let installed = update["installed"], !installed.isNull {
            lines.append("  runs      \(installed.runningText)")
        }
        for (state, time) in update["entered"]?.object?.members ?? [] {
            lines.append("  \(state)\(String(repeating: " ", count: max(0, 12 - state.count)))\(time.dateText)")
        }
        return lines.joined(separator: "\n")
    }
}
