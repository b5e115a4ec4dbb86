import NIOCore
import NIOHTTP1
import NodeKit

/// The administrator of the demonstration: sets up devices and a package over the management API and looks at the result.
struct DemoFleet: Sendable {
    /// A device that was set up.
    struct Member: Sendable, Hashable {
        /// Its identifier.
        var id: String
        /// Its name.
        var name: String
        /// What it proves itself with.
        var token: String
    }

    /// Bytes read from the file at a time.
    static let readBytes = 256 << 10

    private let client: HTTPClient
    private let authorization: HTTPHeaders

    /// Logs in.
    static func login(at endpoint: DemoEndpoint, user: String, password: String) async throws -> DemoFleet {
        let client = HTTPClient(endpoint)
        let reply = try await client.send(
            .POST,
            "/api/auth/login",
            headers: ["Content-Type": "application/json"],
            body: JSON.object(["username": .string(user), "password": .string(password)]).bytes
        )
        guard reply.status == .ok, let token = try reply.json()["token"]?.string else {
            throw DemoError("the login was answered with \(reply.status)")
        }
        return DemoFleet(client: client, authorization: ["X-Authorization": "Bearer \(token)"])
    }

    /// Creates a device profile.
    ///
    /// - Returns: The profile as the host has it.
    func createProfile(named name: String) async throws -> JSON {
        try await self.post(
            "/api/deviceProfile",
            ["name": .string(name), "type": "DEFAULT", "transportType": "DEFAULT"]
        )
    }

    /// Creates a device of a profile with a token of the caller's choice.
    func createDevice(named name: String, token: String, profile: JSON) async throws -> Member {
        let device = try await self.post(
            "/api/device?accessToken=\(HTTPClient.escape(token))",
            ["name": .string(name), "deviceProfileId": try Self.reference(to: profile)]
        )
        return Member(id: try Self.id(of: device), name: name, token: token)
    }

    /// Creates a firmware package for a profile, without bytes.
    func createPackage(title: String, version: String, profile: JSON) async throws -> JSON {
        try await self.post(
            "/api/otaPackage",
            [
                "deviceProfileId": try Self.reference(to: profile), "type": "FIRMWARE", "title": .string(title),
                "version": .string(version), "tag": .string("\(title) \(version)"), "usesUrl": false,
            ]
        )
    }

    /// Uploads the first bytes of a file as a package's, piece by piece.
    ///
    /// - Returns: The SHA-256 of what was read, which the host confirmed.
    func upload(_ file: LocalFile, size: Int, named name: String, to package: JSON) async throws -> String {
        // Not a secret: it only must not occur in the file, and 64 random bits do not.
        let boundary = "windlass-\(String(UInt64.random(in: .min ... .max), radix: 16))"
        let head = ByteBuffer(
            string: "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(name)\"\r\n"
                + "Content-Type: application/octet-stream\r\n\r\n"
        )
        let tail = ByteBuffer(string: "\r\n--\(boundary)--\r\n")
        var headers = self.authorization
        headers.add(name: "Content-Type", value: "multipart/form-data; boundary=\(boundary)")
        let target = "/api/otaPackage/\(try Self.id(of: package))?checksumAlgorithm=SHA256"
        var digest = try FirmwareDigest(algorithm: "SHA256")
        let reply = try await self.client.send(
            .POST,
            target,
            headers: headers,
            size: head.readableBytes + size + tail.readableBytes
        ) { write in
            try await write(head)
            var offset = 0
            while offset < size {
                let bytes = try await file.read(from: offset, count: min(Self.readBytes, size - offset))
                guard bytes.readableBytes > 0 else { throw DemoError("the file became shorter while it was read") }
                offset += bytes.readableBytes
                digest.update(bytes)
                try await write(bytes)
            }
            try await write(tail)
        }
        let checksum = digest.finish()
        let stored = try Self.json(reply, for: "the upload")
        guard stored["checksum"]?.string == checksum else {
            throw DemoError("the host has another checksum than the file: \(stored["checksum"]?.text ?? "none")")
        }
        return checksum
    }

    /// Makes a package that of all devices of a profile.
    func assign(_ package: JSON, to profile: JSON) async throws {
        guard var changed = profile.object else { throw DemoError("the host's profile is no object") }
        changed["firmwareId"] = try Self.reference(to: package)
        _ = try await self.post("/api/deviceProfile", changed)
    }

    /// The state of a device's firmware update as the host has it, such as `UPDATED`; `NONE` if it knows of no update.
    func state(of member: Member) async throws -> String {
        let reply = try await self.client.send(
            .GET,
            "/api/device/\(member.id)/update/FIRMWARE",
            headers: self.authorization
        )
        if reply.status == .notFound { return "NONE" }
        return try Self.json(reply, for: "reading the update record")["state"]?.text ?? "NONE"
    }

    /// Ends the connection.
    func close() async { await self.client.close() }

    private func post(_ target: String, _ body: JSON.Object) async throws -> JSON {
        var headers = self.authorization
        headers.add(name: "Content-Type", value: "application/json")
        let reply = try await self.client.send(.POST, target, headers: headers, body: JSON.object(body).bytes)
        return try Self.json(reply, for: "POST \(target.prefix { $0 != "?" })")
    }

    private static func json(_ reply: HTTPReply, for what: String) throws -> JSON {
        guard reply.status == .ok else {
            let why = (try? reply.json()["message"]?.text) ?? ""
            throw DemoError("\(what) was answered with \(reply.status)\(why.isEmpty ? "" : ": \(why)")")
        }
        return try reply.json()
    }

    private static func reference(to entity: JSON) throws -> JSON {
        guard let reference = entity["id"], reference["id"]?.string != nil else {
            throw DemoError("the host's answer has no id")
        }
        return reference
    }

    private static func id(of entity: JSON) throws -> String {
        guard let id = try Self.reference(to: entity)["id"]?.string else { throw DemoError("the host's id is no text") }
        return id
    }
}
