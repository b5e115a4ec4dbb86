public import NodeKit
import OTA

/// Tells a device about its new package, or that it has none any more, by its shared attributes.
///
/// An assignment may have waited for its turn, so what it says is checked once more before the device hears of it.
/// Attributes of an earlier package that the new one lacks are deleted and the new ones are saved, in one step; a device is
/// told of the deleted ones first and of all new ones together, as one that keeps only the last push it saw must end up with
/// all of them.
///
/// | Relation     | When                                                                              |
/// |--------------|-----------------------------------------------------------------------------------|
/// | `Success`    | The attributes are stored, and pushed if the device is connected.                 |
/// | `Superseded` | The device should have another package by now, its update was cancelled or began again meanwhile, or it is gone; nothing was changed. |
/// | `Failure`    | The message is no assignment, or the store could not answer.                      |
public struct AttributePushNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "attribute-push",
        summary:
            "Tells the device about its new package, or that it has none any more, by shared attributes in one push.",
        relations: [
            RelationDescriptor(.success, "The attributes are stored, and pushed if the device is connected."),
            RelationDescriptor(
                .superseded,
                "The device should have another package by now, its update was cancelled or began again meanwhile, or it is gone; nothing was changed."
            ),
            RelationDescriptor(.failure, "The message is no assignment, or the store could not answer."),
        ],
        attributes: [
            .boolean(
                "target-attributes",
                default: false,
                summary: "Whether to set targetFwVersion, targetFwUrl and targetFwChecksum (targetSw…) as well."
            ),
            .string(
                "download-url",
                optional: true,
                summary:
                    "Where devices reach http:ingress, such as https://ota.example.org; sets fw_url for packages stored here."
            ),
            .duration(
                "download-link-seconds",
                .seconds,
                default: 604_800,
                in: 60...315_360_000,
                summary: "How long such a fw_url can be followed after the push."
            ),
            .string(
                "rpc-method",
                optional: true,
                summary: "A method to call on connected devices as well, with the attributes as its parameters."
            ),
        ],
        traits: .delivers
    )

    private let setsTargetAttributes: Bool
    private let downloads: DownloadURLs?
    private let rpc: PackageCall?
    private let packages: any OtaPackageService
    private let updates: any UpdateService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.setsTargetAttributes = configuration.boolean("target-attributes")
        self.downloads = try configuration.stringIfPresent("download-url").map { url in
            try DownloadURLs(
                base: url,
                lifetime: configuration.duration("download-link-seconds"),
                links: try services.require(DownloadLinks.self),
                now: services.now
            )
        }
        self.rpc = try configuration.stringIfPresent("rpc-method").map {
            PackageCall(method: $0, calls: try services.require(DeviceCalls.self))
        }
        self.packages = try services.require((any OtaPackageService).self)
        self.updates = try services.require((any UpdateService).self)
    }

    /// Writes the shared attributes, which pushes them.
    public func process(_ message: Message) async throws -> Emission {
        let type = try message.packageType()
        let isCurrent: Bool
        do {
            switch message.type {
            case .packageAssigned: isCurrent = try await self.push(message, type: type)
            case .packageUnassigned: isCurrent = try await self.clear(message, type: type)
            default:
                throw NodeError(.badRequest, "attribute-push takes no '\(message.type)'; link only assignments to it")
            }
        } catch let error as NodeError where error.code == .notFound {
            // The device was removed while its message waited for its turn, so there is nobody to tell.
            isCurrent = false
        }
        return .route(message, to: isCurrent ? .success : .superseded)
    }

    private func push(_ message: Message, type: OtaPackageType) async throws -> Bool {
        guard let id = try message.packageId() else {
            throw NodeError(.badRequest, "the message '\(message.type)' names no package")
        }
        let device = message.device
        guard let package = try await self.packages.package(id)?.package else { return false }
        let values = self.values(for: package, to: device)
        let isCurrent = try await self.updates.initiate(
            id,
            of: device,
            type: type,
            attributes: values,
            obsolete: type.pushedAttributeNames.filter { values[$0] == nil },
            generation: message.precedence?.generation,
            at: message.timestamp
        )
        if isCurrent { self.rpc?.call(device, .object(values)) }
        return isCurrent
    }

    private func clear(_ message: Message, type: OtaPackageType) async throws -> Bool {
        try await self.updates.withdraw(
            from: message.device,
            type: type,
            isCancelled: message.metadata.string(MessageKey.cause) == UpdateCause.cancelled.rawValue,
            generation: message.precedence?.generation
        )
    }

    private func values(for package: OtaPackage, to device: DeviceId) -> JSON.Object {
        var values = package.sharedAttributes
        let url = package.url ?? self.downloads?.url(of: package, for: device)
        values["\(package.type.prefix)_url"] = url.map(JSON.string)
        if self.setsTargetAttributes {
            let prefix = package.type.targetPrefix
            values["\(prefix)Version"] = .string(package.version)
            values["\(prefix)Url"] = url.map(JSON.string)
            values["\(prefix)Checksum"] = package.checksum.map(JSON.string)
        }
        return values
    }
}

/// Makes URLs of packages that are stored here.
private struct DownloadURLs: Sendable {
    private let base: Substring
    private let lifetime: Duration
    private let links: DownloadLinks
    private let now: @Sendable () -> Timestamp

    /// - Throws: ``NodeError`` with code `bad-value` if the base is no URL to append a path to.
    init(base: String, lifetime: Duration, links: DownloadLinks, now: @escaping @Sendable () -> Timestamp)
        throws(NodeError)
    {
        let isURL = ["http://", "https://"].contains { base.hasPrefix($0) && base.count > $0.count }
        guard isURL, base.utf8.allSatisfy({ (0x21...0x7E).contains($0) }), !base.contains(where: { "?#".contains($0) })
        else {
            throw NodeError(
                "bad-value",
                "'download-url' must be like https://ota.example.org, without '?' and '#', and lead to http:ingress"
            )
        }
        self.base = base.hasSuffix("/") ? base.dropLast() : base[...]
        self.lifetime = lifetime
        self.links = links
        self.now = now
    }

    func url(of package: OtaPackage, for device: DeviceId) -> String? {
        guard package.sha256 != nil else { return nil }
        let link = DownloadLink(
            device: device,
            package: package.id,
            type: package.type,
            expires: self.now().adding(self.lifetime)
        )
        let url = "\(self.base)\(DownloadLinks.path)\(self.links.text(of: link))"
        // Clients that call the file after the end of its URL get its name, if it needs no escapes.
        guard let name = package.fileName, !name.hasPrefix("."),
            name.utf8.allSatisfy({
                $0 < 0x80 && (Character(UnicodeScalar($0)).isLetter || "0123456789.-_".utf8.contains($0))
            })
        else { return url }
        return "\(url)/\(name)"
    }
}

/// Calls one method on the devices that are connected.
private struct PackageCall: Sendable {
    let method: String
    let calls: DeviceCalls

    func call(_ device: DeviceId, _ params: JSON) {
        self.calls.tell(device.uuid, method: self.method, params: params)
    }
}
