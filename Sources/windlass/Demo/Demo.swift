#if canImport(Glibc)
    import Glibc
    private let systemWrite = Glibc.write
#elseif canImport(Musl)
    import Musl
    private let systemWrite = Musl.write
#else
    import Darwin
    private let systemWrite = Darwin.write
#endif

/// The demonstration: one update of three devices, each over another transport, against a host that runs.
struct Demo: Sendable {
    /// The file that becomes the firmware.
    var file: String
    /// How much of the file is taken, from its start, in bytes; `nil` takes all of it.
    var byteLimit: Int?
    /// Where the management API listens.
    var management: DemoEndpoint
    /// Where devices that use HTTP connect.
    var http: DemoEndpoint
    /// Where devices that use MQTT connect.
    var mqtt: DemoEndpoint
    /// Where devices that use CoAP connect.
    var coap: DemoEndpoint
    /// Who logs in to the management API.
    var admin: (user: String, password: String)
    /// Whether the output understands ANSI escape sequences.
    var isTerminal = isatty(STDOUT_FILENO) == 1
    /// Writes text as it is.
    var write: @Sendable (String) -> Void = Demo.writeToStandardOutput

    /// Runs the demonstration and shows it.
    ///
    /// - Returns: Whether all devices are `UPDATED` with the right bytes, in their own view and in the host's.
    /// - Throws: ``DemoError`` and errors of connections and files, if the update could not even begin.
    func run() async throws -> Bool {
        let file = try LocalFile(self.file)
        let size = min(file.size, self.byteLimit ?? .max)
        guard size > 0 else { throw DemoError("'\(self.file)' is empty; name another file with --file") }
        let fleet = try await DemoFleet.login(at: self.management, user: self.admin.user, password: self.admin.password)
        let profile = try await fleet.createProfile(named: "demo")
        var members: [DemoFleet.Member] = []
        for transport in ["http", "mqtt", "coap"] {
            let token = "demo-\(transport)-\(String(UInt64.random(in: .min ... .max), radix: 16))"
            members.append(try await fleet.createDevice(named: "demo-\(transport)", token: token, profile: profile))
        }
        let name = self.file.split(separator: "/").last.map { Self.plain($0) } ?? "firmware"
        let package = try await fleet.createPackage(title: name, version: "1.0.0", profile: profile)
        let checksum = try await fleet.upload(file, size: size, named: name, to: package)
        self.write("\n  firmware  \(name) 1.0.0, \(DemoText.size(size))\n  sha256    \(checksum)\n\n")

        let devices: [any DemoDevice] = [
            HTTPDevice(name: members[0].name, endpoint: self.http, token: members[0].token),
            MQTTDevice(name: members[1].name, endpoint: self.mqtt, token: members[1].token),
            CoAPDevice(name: members[2].name, endpoint: self.coap, token: members[2].token),
        ]
        let results = try await self.update(devices) { try await fleet.assign(package, to: profile) }

        var rows: [DemoRow] = []
        var isAllWell = true
        for (index, result) in results.enumerated() {
            let state = try await fleet.state(of: members[index])
            var row = DemoRow(
                transport: devices[index].transport,
                device: devices[index].name,
                state: state,
                checksum: "not verified"
            )
            switch result {
            case .success(let result):
                row.bytes = result.bytes
                row.seconds = result.seconds
                let isRight = result.isVerified && result.checksum == checksum
                row.checksum = "\(result.checksum.prefix(12))… \(isRight ? "verified" : "WRONG")"
                isAllWell = isAllWell && isRight && result.state == .updated && state == "UPDATED"
            case .failure(let error):
                isAllWell = false
                self.write("\n  \(devices[index].transport) failed: \(error)\n")
            }
            rows.append(row)
        }
        await fleet.close()
        self.write("\n\(DemoTable.text(rows))\n")
        self.write(isAllWell ? "  All devices are UPDATED.\n" : "  Not all devices are UPDATED.\n")
        return isAllWell
    }

    /// Lets all devices update themselves at once; the package is assigned when each of them waits for it.
    private func update(
        _ devices: [any DemoDevice],
        assign: @escaping @Sendable () async throws -> Void
    ) async throws -> [Result<DemoResult, any Error>] {
        let display = DemoDisplay(names: devices.map(\.transport), isTerminal: self.isTerminal, write: self.write)
        // Each device yields once: when it waits for firmware, or when it failed before.
        let (ready, isReady) = AsyncStream.makeStream(of: Void.self)
        let results = try await withThrowingTaskGroup(
            of: (Int, Result<DemoResult, any Error>)?.self
        ) { group in
            for (index, device) in devices.enumerated() {
                group.addTask {
                    do {
                        let result = try await device.update { progress in
                            display.update(index, progress)
                            if progress.state == .waiting { isReady.yield() }
                        }
                        return (index, .success(result))
                    } catch {
                        display.update(index, DemoProgress(state: .failed))
                        isReady.yield()
                        return (index, .failure(error))
                    }
                }
            }
            group.addTask {
                var count = 0
                for await _ in ready {
                    count += 1
                    if count == devices.count { break }
                }
                try await assign()
                return nil
            }
            var results: [Int: Result<DemoResult, any Error>] = [:]
            for try await case let (index, result)? in group { results[index] = result }
            return devices.indices.map { results[$0] ?? .failure(CancellationError()) }
        }
        display.finish()
        return results
    }

    /// A file name as it may stand in a multipart header and in a title: nothing that needs to be escaped there.
    private static func plain(_ name: Substring) -> String {
        let characters = name.unicodeScalars.prefix(100).map(Character.init)
        return String(characters.map { $0.isLetter || $0.isNumber || "-_.+".contains($0) ? $0 : "_" })
    }

    private static func writeToStandardOutput(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { systemWrite(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }
}
