public import NodeKit
import OTA

/// Finds out from a device's words why its update failed, and stores it with the update.
///
/// A class that the text names, such as `CHECKSUM_MISMATCH`, counts; else the first line of ``ErrorKeywords/table`` that has
/// a keyword in the text.
///
/// | Relation               | When                                         |
/// |------------------------|----------------------------------------------|
/// | `CHECKSUM_MISMATCH`    | The data does not match its checksum.        |
/// | `NETWORK_ERROR`        | The download failed because of the network.  |
/// | `INSUFFICIENT_STORAGE` | The device has not enough room.              |
/// | `INVALID_PACKAGE`      | The device does not recognize the package, or runs a third version after installing it. |
/// | `INSTALLATION_FAILED`  | The package could not be installed.          |
/// | `Unknown`              | The device did not say, or nothing fits.     |
/// | `Failure`              | The store could not answer.                  |
public struct ErrorClassificationNode: Node {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "error-classification",
        summary: "Finds out from the device's words why its update failed, and stores it with the update.",
        relations: [
            RelationDescriptor("CHECKSUM_MISMATCH", "The data does not match its checksum."),
            RelationDescriptor("NETWORK_ERROR", "The download failed because of the network."),
            RelationDescriptor("INSUFFICIENT_STORAGE", "The device has not enough room."),
            RelationDescriptor(
                "INVALID_PACKAGE",
                "The device does not recognize the package, or runs a third version after installing it."
            ),
            RelationDescriptor("INSTALLATION_FAILED", "The package could not be installed."),
            RelationDescriptor("Unknown", "The device did not say, or nothing fits."),
            RelationDescriptor(.failure, "The store could not answer, or the kind of package is not known."),
        ],
        variables: [
            VariableDescriptor("errorClass", "Why the update failed: one of the five classes; empty if unknown.")
        ]
    )

    private let updates: any UpdateService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.updates = try services.require((any UpdateService).self)
    }

    /// Stores the class and leaves by the relation of its name.
    public func process(_ message: Message) async throws -> Emission {
        let type = try message.packageType()
        let device = message.device
        let errorClass: OtaErrorClass?
        if let known = message.metadata.string("errorClass").flatMap(OtaErrorClass.init) {
            // Found by comparing versions, so there is nothing to guess from words.
            errorClass = known
        } else if let text = message.value(forVariable: "\(type.prefix)_error")?.text {
            errorClass = ErrorKeywords.errorClass(of: text)
        } else {
            // The device may have told the reason in a message before this one.
            errorClass = try await self.updates.updateRecord(of: device, type: type)?.error
                .flatMap(ErrorKeywords.errorClass)
        }
        try await self.updates.classify(errorClass, of: device, type: type)
        var message = message
        message.metadata["errorClass"] = (errorClass?.rawValue).map(JSON.string)
        return .route(message, to: errorClass.map { Relation(rawValue: $0.rawValue) } ?? "Unknown")
    }
}

/// What words in an error text tell about the reason.
enum ErrorKeywords {
    /// The keywords of each class.
    ///
    /// The first line with a match counts, so what is more telling comes first: "no space left to install" is about
    /// room, "signature verification failed" not about a checksum.
    ///
    /// Keywords are compared without case and match the beginning of a word: "format" matches "formatted" and not
    /// "information".
    static let table: [(OtaErrorClass, [String])] = [
        (
            .insufficientStorage,
            [
                "no space", "no room", "not enough", "insufficient", "out of space", "out of memory", "out of storage",
                "memory full", "storage", "disk full", "flash full", "enospc", "enomem", "too large", "too big",
            ]
        ),
        (.checksumMismatch, ["checksum", "hash", "digest", "crc", "md5", "sha256", "sha384", "sha512", "murmur"]),
        (
            .invalidPackage,
            [
                "signature", "format", "invalid image", "invalid package", "invalid firmware", "invalid header",
                "bad image", "corrupt", "magic", "unsupported", "not recognized", "incompatible", "parse",
            ]
        ),
        (.checksumMismatch, ["verification failed", "verify failed", "mismatch"]),
        (
            .networkError,
            [
                "timeout", "timed out", "time out", "connection", "connect", "network", "unreachable", "dns", "socket",
                "disconnect", "econn", "etimedout", "ehostunreach", "enetunreach", "host not found", "tls", "download",
            ]
        ),
        (
            .installationFailed,
            [
                "install", "flash", "boot", "reboot", "rollback", "rolled back", "roll back", "update", "apply",
                "activat", "write", "erase", "partition",
            ]
        ),
    ]

    /// The class that a text tells; `nil` if it tells none.
    static func errorClass(of text: String) -> OtaErrorClass? {
        let text = text.lowercased()
        if let named = self.named(in: text) { return named }
        return self.table.first { $0.1.contains { self.contains(text, wordBeginningWith: $0) } }?.0
    }

    /// The first class that the text names outright.
    private static func named(in text: String) -> OtaErrorClass? {
        OtaErrorClass.allCases
            .compactMap { errorClass in
                Self.firstOffset(of: errorClass.rawValue.lowercased(), in: text).map { (errorClass, $0) }
            }
            .min { $0.1 < $1.1 }?.0
    }

    private static func firstOffset(of part: String, in text: String) -> Int? {
        let text = Array(text.utf8)
        let part = Array(part.utf8)
        guard text.count >= part.count else { return nil }
        return (0...(text.count - part.count)).first { text[$0...].starts(with: part) }
    }

    private static func contains(_ text: String, wordBeginningWith keyword: String) -> Bool {
        let keyword = keyword.utf8
        let text = text.utf8
        var isAtBeginning = true
        for index in text.indices {
            if isAtBeginning, text[index...].starts(with: keyword) { return true }
            isAtBeginning = !(UInt8(ascii: "a")...UInt8(ascii: "z")).contains(text[index])
        }
        return false
    }
}
