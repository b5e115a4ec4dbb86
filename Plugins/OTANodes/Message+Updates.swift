import NodeKit
import OTA

extension Message {
    /// The device that the message is about.
    var device: DeviceId { DeviceId(self.originator.id) }

    /// The kind of package that the message is about.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the metadata names none, or something else.
    func packageType() throws(NodeError) -> OtaPackageType {
        guard let text = self.metadata.string(MessageKey.packageType) else {
            throw NodeError(
                .badRequest,
                "the message '\(self.type)' does not say whether it is about firmware or software; "
                    + "set 'package-type' on the node, or 'packageType' in the metadata"
            )
        }
        guard let type = OtaPackageType(rawValue: text) else {
            throw NodeError(.badRequest, "'packageType' is neither FIRMWARE nor SOFTWARE")
        }
        return type
    }

    /// The package that the metadata names; `nil` if it names none.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if what it names is no identifier.
    func packageId() throws(NodeError) -> OtaPackageId? {
        guard let text = self.metadata.string(MessageKey.packageId) else { return nil }
        guard let id = OtaPackageId(text) else { throw NodeError(.badRequest, "'packageId' is not an identifier") }
        return id
    }

    /// The package that `package-lookup` attached.
    ///
    /// - Throws: ``NodeError`` with code `missing-package` if the message did not pass it.
    func lookedUpPackage() throws(NodeError) -> EffectivePackage {
        guard let package = self.attachment(EffectivePackage.self) else {
            throw NodeError(
                "missing-package",
                "the message '\(self.type)' carries no package; let it pass a package-lookup first"
            )
        }
        return package
    }
}

extension VariableDescriptor {
    /// What the metadata says about the kind of package.
    static let packageType = VariableDescriptor(MessageKey.packageType, "FIRMWARE or SOFTWARE.")
}
