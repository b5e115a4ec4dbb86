public import NodeKit
import OTA

/// Finds the package that the device should have: its own, or its profile's.
///
/// A request that is pinned to a package (metadata `packageId`, set by an ingress whose device began to download before a
/// new assignment) gets that one, so that a download is never a mixture of two.
///
/// | Relation   | When                                                                                    |
/// |------------|-----------------------------------------------------------------------------------------|
/// | `Success`  | The package is attached; its shared attributes are variables from here on.              |
/// | `NotFound` | No package is assigned. The reply is `not-found`.                                       |
/// | `Mismatch` | The device asked for another title or version than it should have. The reply is `bad-request`. |
/// | `Failure`  | The store could not answer, or the message does not say which kind of package.          |
public struct PackageLookupNode: PromptNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "package-lookup",
        summary: "Finds the package that the device should have: its own, or its profile's.",
        relations: [
            RelationDescriptor(.success, "The package is attached; its shared attributes are variables from here on."),
            RelationDescriptor("NotFound", "No package is assigned; the reply is 'not-found'."),
            RelationDescriptor(
                "Mismatch",
                "The device asked for another title or version than it should have; the reply is 'bad-request'."
            ),
            RelationDescriptor(.failure, "The store could not answer, or the kind of package is not known."),
        ],
        attributes: [
            .string(
                "package-type",
                optional: true,
                oneOf: OtaPackageType.allCases.map(\.rawValue),
                summary: "Which kind of package; without it the message's 'packageType' decides."
            )
        ],
        variables: [.packageType]
            + OtaPackageType.allCases.flatMap { type in
                [
                    VariableDescriptor("\(type.prefix)_title", "Title of the package found."),
                    VariableDescriptor("\(type.prefix)_version", "Version of the package found."),
                    VariableDescriptor("\(type.prefix)_tag", "Tag of the package found."),
                    VariableDescriptor("\(type.prefix)_size", "Size of the package found, in bytes."),
                    VariableDescriptor("\(type.prefix)_checksum", "Checksum of the package found, in hexadecimal."),
                    VariableDescriptor("\(type.prefix)_checksum_algorithm", "How the checksum is computed."),
                    VariableDescriptor("\(type.prefix)_url", "Where the package is fetched, if not here."),
                ]
            }
    )

    private let packageType: OtaPackageType?
    private let packages: any OtaPackageService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.packageType = configuration.stringIfPresent("package-type").flatMap(OtaPackageType.init(rawValue:))
        self.packages = try services.require((any OtaPackageService).self)
    }

    /// Attaches the package if it is in memory.
    public func decideAtOnce(_ message: consuming Message) throws -> Step<Emission, Message> {
        let type = try self.packageType ?? message.packageType()
        let known =
            if let pinned = try message.packageId() {
                self.packages.known(pinned)
            } else {
                self.packages.known(effectiveFor: message.device, type: type)
            }
        switch known {
        case .hit(let package): return .now(Self.emission(of: message, with: package, type: type))
        case .absent: return .now(Self.emission(of: message, with: nil, type: type))
        case .unknown: return .suspended(message)
        }
    }

    /// Attaches the package.
    public func process(_ message: Message) async throws -> Emission {
        let type = try self.packageType ?? message.packageType()
        let found =
            if let pinned = try message.packageId() {
                try await self.packages.package(pinned)
            } else {
                try await self.packages.effectivePackage(for: message.device, type: type)
            }
        return Self.emission(of: message, with: found, type: type)
    }

    /// Attaches the package that the device should have, or that the request is pinned to, or says what is wrong.
    private static func emission(
        of message: consuming Message,
        with found: EffectivePackage?,
        type: OtaPackageType
    ) -> Emission {
        guard let found, found.package.type == type else {
            let error = NodeError(.notFound, "no \(type.rawValue) package is assigned to '\(message.originator.name)'")
            return .route(message.replying(.refused(error)), to: "NotFound")
        }
        if let asked = message.metadata.string(MessageKey.title), asked.exact != found.package.$title {
            return Self.mismatch(MessageKey.title, of: message)
        }
        if let asked = message.metadata.string(MessageKey.version), asked.exact != found.package.$version {
            return Self.mismatch(MessageKey.version, of: message)
        }
        message.attach(found)
        return .route(message, to: .success)
    }

    private static func mismatch(_ key: String, of message: Message) -> Emission {
        let error = NodeError(.badRequest, "the \(key) asked for is not that of the assigned package")
        return .route(message.replying(.refused(error)), to: "Mismatch")
    }
}
