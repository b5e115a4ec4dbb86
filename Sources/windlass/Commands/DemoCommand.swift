import ArgumentParser
import Foundation
import Host
import Logging
import NodeKit

/// The command `windlass demo`.
struct DemoCommand: AsyncParsableCommand {
    /// How much of the platform's library is the demo's firmware if no file is given, in bytes.
    static let defaultFileSize = 4 << 20

    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Lets one device per transport update itself from a host on temporary data.",
        discussion: "Exits with 0 only if all devices are UPDATED with verified bytes."
    )

    @OptionGroup var load: LoadArguments

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The firmware. Without it, the first 4 MiB of Windlass's own platform library.",
            valueName: "file"
        )
    )
    var file: String?

    func run() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("windlass-demo-\(UUID.random())")
        defer { try? FileManager.default.removeItem(at: folder) }
        let admin = (user: "demo@windlass.local", password: UUID.random().uuidString)
        var options = self.load.options(data: folder.path)
        options.managementPort = 0
        options.environment.merge(
            [
                "HTTP_PORT": "0", "MQTT_PORT": "0", "COAP_PORT": "0", "DEVICE_HOST": "127.0.0.1",
                "OTA_PUSH_INTERVAL_MS": "0", "WINDLASS_ADMIN_USER": admin.user,
                "WINDLASS_ADMIN_PASSWORD": admin.password,
            ]
        ) { $1 }

        let host = Host(options: options, logger: .standardError(.warning))
        let isUpdated = try await withThrowingTaskGroup(of: Bool?.self) { group in
            let (listeners, announced) = AsyncStream.makeStream(of: Listener.self)
            group.addTask {
                defer { announced.finish() }
                try await host.run { event in
                    switch event {
                    case .administrator: break
                    case .listening(let listener): announced.yield(listener)
                    case .ready: announced.finish()
                    }
                }
                return nil
            }
            group.addTask {
                var endpoints: [String: DemoEndpoint] = [:]
                for await listener in listeners {
                    endpoints[listener.scheme] = DemoEndpoint(host: listener.host, port: listener.port)
                }
                guard let management = endpoints["management"] else { return nil }
                guard let http = endpoints["http"], let mqtt = endpoints["mqtt"], let coap = endpoints["coap"] else {
                    throw NodeError("demo", "the demo needs chain files with an HTTP, an MQTT and a CoAP ingress")
                }
                return try await Demo(
                    file: self.file ?? "\(LoadArguments.executableFolder)/libWindlassPlatform.so",
                    byteLimit: self.file == nil ? Self.defaultFileSize : nil,
                    management: management,
                    http: http,
                    mqtt: mqtt,
                    coap: coap,
                    admin: admin
                ).run()
            }
            // The host goes on until it is stopped, so the first result but nil is the demo's.
            defer { group.cancelAll() }
            for try await result in group {
                if let result { return result }
            }
            return false
        }
        if !isUpdated { throw ExitCode.failure }
    }
}
