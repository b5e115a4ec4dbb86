import ArgumentParser
import Foundation
import NIOCore
import NodeKit
import OTA

/// The command `windlass package`.
struct PackageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "package",
        abstract: "Uploads and lists packages of a host that runs.",
        subcommands: [PackagePush.self, PackageList.self]
    )
}

/// The command `windlass package list`.
struct PackageList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "Lists packages.",
        discussion: CommandFailure.exitCodes
    )

    @OptionGroup var server: ServerArguments

    @Option(name: .long, help: ArgumentHelp("Only packages whose title contains this.", valueName: "text"))
    var search: String?

    @Option(name: .long, help: "How to list them: text or json.")
    var format = OutputFormat.text

    func run() async throws {
        let client = try await self.server.client()
        var output = ListOutput(
            self.format,
            titles: ["TITLE", "VERSION", "TYPE", "SIZE", "CHECKSUM", "CREATED", "ID"]
        ) { package in
            let checksum = package["checksum"]?.string.map { "\(package.shown("checksumAlgorithm")):\($0.prefix(16))" }
            let size = package["url"]?.string ?? package.shown("dataSize")
            return [
                package.shown("title"), package.shown("version"), package.shown("type"), size, checksum ?? "-",
                package["createdTime"]?.dateText ?? "-", package.entityID,
            ]
        }
        let search = self.search.map { "&textSearch=\(HTTPClient.escape($0))" } ?? ""
        try await client.pages("/api/otaPackages?sortProperty=createdTime\(search)") { output.add($0) }
        output.finish()
    }
}

/// The command `windlass package push`.
struct PackagePush: AsyncParsableCommand {
    /// Bytes read from the file at a time, which is all of it that is in memory.
    static let pieceBytes = 256 << 10

    static let configuration = CommandConfiguration(
        commandName: "push",
        abstract: "Uploads a file as a package, and assigns it if that is asked for.",
        discussion: """
            May be repeated: a package that exists without its bytes gets them, and one that has the same bytes already is left \
            as it is. The host compares the checksum before it takes the file. \(CommandFailure.exitCodes)
            """
    )

    @OptionGroup var server: ServerArguments

    @Argument(help: "The file.")
    var file: String

    @Option(name: .long, help: "The title of the package.")
    var title: String

    @Option(name: .long, help: "The version of the package.")
    var version: String

    @Option(name: .long, help: "The device profile it is for, by name or identifier. Without it, the default one.")
    var profile: String?

    @Option(
        name: .long,
        help: "FIRMWARE or SOFTWARE.",
        transform: { text in
            guard let type = OtaPackageType(rawValue: text.uppercased()) else {
                throw ValidationError("'\(text)' is no package type; write FIRMWARE or SOFTWARE")
            }
            return type
        }
    )
    var type = OtaPackageType.firmware

    @Option(name: .long, help: "A tag for people and devices.")
    var tag: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How the checksum is computed that devices get: MD5, SHA256, SHA384, SHA512, CRC32, MURMUR3_32 or MURMUR3_128.",
            valueName: "name"
        ),
        transform: { text in
            guard let algorithm = ChecksumAlgorithm(rawValue: text.uppercased()) else {
                let known = ChecksumAlgorithm.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("'\(text)' is no checksum algorithm; known are \(known)")
            }
            return algorithm
        }
    )
    var checksumAlgorithm = ChecksumAlgorithm.sha256

    @Flag(name: .long, help: "Make it the package of the profile, so that its devices update themselves.")
    var assign = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "With --assign, how urgent it is, 0 to 9: devices are told before those of less urgent updates that wait.",
            valueName: "0-9"
        ),
        transform: { text in
            guard let priority = Int(text), Precedence.priorities.contains(priority) else {
                throw ValidationError("'\(text)' is no priority; write 0 to 9")
            }
            return priority
        }
    )
    var priority = 0

    @OptionGroup var confirmation: Confirmation

    @Option(name: .long, help: "How to tell what was done: text or json.")
    var format = OutputFormat.text

    /// The package, for people.
    private var what: String { "\(self.type.rawValue.lowercased()) \(self.title) \(self.version)" }

    func run() async throws {
        let file = try LocalFile(self.file)
        guard file.size > 0 else { throw CommandFailure(.failed, "'\(self.file)' is empty") }
        let client = try await self.server.client()
        let profile = try await client.profile(self.profile)
        let known = try await self.knownPackage(client, of: profile)
        let assignment = self.assign ? try await self.assignment(of: known, to: profile, client) : nil
        let wasThere = known?["hasData"] == true
        if let known, wasThere { try await self.compare(file, with: known) }
        let size = "\(self.what), \(file.size) bytes"
        guard !self.confirmation.dryRun else {
            switch self.format {
            case .json: print(assignment?.json ?? ["devices": 0])
            case .text:
                print("\(wasThere ? "already there" : "would upload"): \(size)")
                if let assignment {
                    print(assignment.standing)
                    print(assignment.isDone ? assignment.outcome : "would \(assignment.words(for: self.what))")
                }
            }
            return
        }
        if let assignment {
            try self.confirmation.confirm(assignment.words(for: self.what), devices: assignment.touched)
            if self.format == .text { printNow(assignment.standing) }
        }
        var package = if let known { known } else { try await self.makePackage(client, for: profile) }
        if !wasThere { package = try await self.upload(file, to: package, client) }
        if let assignment, !assignment.isDone { try await self.assign(package, to: profile, client) }
        switch self.format {
        case .json: print(package)
        case .text:
            print("\(wasThere ? "already there" : "uploaded"): \(size), id \(package.entityID)")
            print("\(package.shown("checksumAlgorithm")) \(package.shown("checksum"))")
            if let assignment { print(assignment.outcome) }
        }
    }

    /// Makes the package, without its bytes.
    private func makePackage(_ client: ManagementClient, for profile: JSON) async throws -> JSON {
        try await client.post(
            "/api/otaPackage",
            [
                "title": .string(self.title), "version": .string(self.version), "type": .string(self.type.rawValue),
                "tag": self.tag.map(JSON.string) ?? .null, "usesUrl": false,
                "deviceProfileId": ["entityType": "DEVICE_PROFILE", "id": .string(profile.entityID)],
            ]
        )
    }

    /// The package with the title and version; `nil` if there is none.
    private func knownPackage(_ client: ManagementClient, of profile: JSON) async throws -> JSON? {
        let known = try await client.list("/api/otaPackages?textSearch=\(HTTPClient.escape(self.title))").first {
            $0["title"] == .string(self.title) && $0["version"] == .string(self.version)
        }
        guard let known else { return nil }
        guard known["type"]?.string == self.type.rawValue, known["url"]?.string == nil,
            known["deviceProfileId"]?["id"]?.string == profile.entityID
        else {
            throw CommandFailure(
                .failed,
                "there is a package '\(self.title) \(self.version)' already, of another type or profile or with a URL; "
                    + "choose another title or version"
            )
        }
        return known
    }

    /// Makes sure that a package has the bytes of the file.
    private func compare(_ file: LocalFile, with package: JSON) async throws {
        let other = CommandFailure(
            .failed,
            "the package '\(self.title) \(self.version)' exists with other bytes, which never change; choose another version"
        )
        guard package["dataSize"]?.integer == Int64(file.size),
            let algorithm = ChecksumAlgorithm(rawValue: package.shown("checksumAlgorithm"))
        else { throw other }
        var checksum = Checksum(algorithm)
        let bar = ProgressBar("comparing \(self.title) \(self.version)", total: file.size)
        defer { bar.finish() }
        try await file.pieces(of: Self.pieceBytes) { piece, end in
            checksum.update(piece)
            bar.update(end)
        }
        guard checksum.hexadecimal == package["checksum"]?.string else { throw other }
    }

    /// Uploads the file as a form; the checksum follows the bytes, so that the file is read once.
    private func upload(_ file: LocalFile, to package: JSON, _ client: ManagementClient) async throws -> JSON {
        // Not a secret: it only must not occur in the file, and 128 random bits do not.
        let boundary = "windlass-\(UUID.random().uuidString)"
        func field(_ name: String, _ value: String) -> String {
            "\r\n--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)"
        }
        let name = URL(fileURLWithPath: self.file).lastPathComponent.filter {
            $0 != "\"" && !$0.isNewline && $0 != "\\"
        }
        let head = ByteBuffer(
            string: "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(name)\"\r\n"
                + "Content-Type: application/octet-stream\r\n\r\n"
        )
        var checksum = Checksum(self.checksumAlgorithm)
        func tail() -> ByteBuffer {
            ByteBuffer(
                string: field("checksumAlgorithm", self.checksumAlgorithm.rawValue)
                    + field("checksum", checksum.hexadecimal) + "\r\n--\(boundary)--\r\n"
            )
        }
        // A checksum has the same length whatever it is of.
        let size = head.readableBytes + file.size + tail().readableBytes
        let bar = ProgressBar("uploading \(self.title) \(self.version)", total: file.size)
        defer { bar.finish() }
        return try await client.upload(
            "/api/otaPackage/\(package.entityID)",
            contentType: "multipart/form-data; boundary=\(boundary)",
            size: size
        ) { write in
            try await write(head)
            try await file.pieces(of: Self.pieceBytes) { piece, end in
                checksum.update(piece)
                try await write(piece)
                bar.update(end)
            }
            try await write(tail())
        }
    }

    private func assign(_ package: JSON, to profile: JSON, _ client: ManagementClient) async throws {
        guard var changed = try await client.get("/api/deviceProfile/\(profile.entityID)").object else {
            throw CommandFailure(.failed, "the host's answer is no device profile")
        }
        changed[self.assignedMember] = package["id"]
        _ = try await client.post("/api/deviceProfile?priority=\(self.priority)", .object(changed))
    }

    /// The member of a profile that names its package.
    private var assignedMember: String { self.type == .firmware ? "firmwareId" : "softwareId" }

    /// What an assignment would do.
    private func assignment(of known: JSON?, to profile: JSON, _ client: ManagementClient) async throws
        -> ProfileAssignment
    {
        let id = profile.entityID
        let present = try await client.get("/api/deviceProfile/\(id)")[self.assignedMember]?["id"]
        let page = try await client.get("/api/tenant/deviceInfos?deviceProfileId=\(id)&pageSize=1&page=0")
        let following = try await client.get("/api/devices/count/\(self.type.rawValue)/\(id)")
        guard let devices = page["totalElements"]?.integer, let following = following.integer else {
            throw CommandFailure(.failed, "the host does not say how many devices the profile has")
        }
        return ProfileAssignment(
            profile: profile.shown("name"),
            isDone: known.map { present == .string($0.entityID) } ?? false,
            devices: Int(devices),
            following: Int(following)
        )
    }
}

/// What the assignment of a package does to the devices of a profile.
private struct ProfileAssignment {
    /// The profile's name.
    var profile: String
    /// Whether the package is that of the profile already.
    var isDone: Bool
    /// How many devices the profile has.
    var devices: Int
    /// How many of these have no package of their own, so that they get the profile's.
    var following: Int

    /// How many devices are touched.
    var touched: Int { self.isDone ? 0 : self.following }

    var json: JSON {
        ["devices": .integer(Int64(self.touched)), "withOwnPackage": .integer(Int64(self.devices - self.following))]
    }

    /// How things are before the assignment.
    var standing: String {
        let own = self.devices - self.following
        return "the profile '\(self.profile)' has \(deviceCount(self.devices)), "
            + (own == 0 ? "none" : "\(own)") + " of them with \(own > 1 ? "their" : "its") own package"
            + (own == 0 ? "" : ", which stays")
    }

    /// What would be done.
    func words(for package: String) -> String {
        "assign \(package) to \(deviceCount(self.touched)) of the profile '\(self.profile)'"
    }

    /// What was done.
    var outcome: String {
        self.isDone
            ? "already assigned to the profile '\(self.profile)'"
            : "assigned to the profile '\(self.profile)': \(deviceCount(self.touched))"
    }
}
