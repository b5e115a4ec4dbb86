import Crypto
import NIOCore
import NodeKit

/// The firmware that the shared attributes of a device announce.
struct FirmwareOffer: Sendable, Hashable {
    /// The package's title.
    var title: String
    /// The package's version.
    var version: String
    /// Size in bytes.
    var size: Int
    /// How the checksum is computed, as in `SHA256`.
    var algorithm: String
    /// The checksum in lower-case hexadecimal.
    var checksum: String

    /// The attributes that make an offer, joined by commas as requests want them.
    static let keys = "fw_title,fw_version,fw_size,fw_checksum,fw_checksum_algorithm"
}

/// The shared attributes of a device as it knows them: what it read, and the changes it was told since.
struct SharedAttributes {
    private var values: JSON.Object = [:]

    /// Takes in attributes, or names of attributes that are gone: `{"deleted":["fw_tag"]}`.
    mutating func merge(_ change: JSON) {
        guard let change = change.object else { return }
        for (name, value) in change.members {
            if name == "deleted", let names = value.array {
                for case .string(let name) in names { self.values[name] = nil }
            } else {
                self.values[name] = value
            }
        }
    }

    /// The offer, once all that belongs to it is known.
    var offer: FirmwareOffer? {
        guard
            let title = self.values["fw_title"]?.string,
            let version = self.values["fw_version"]?.text,
            let size = self.values["fw_size"]?.integer,
            let algorithm = self.values["fw_checksum_algorithm"]?.string,
            let checksum = self.values["fw_checksum"]?.string,
            let bytes = Int(exactly: size), bytes > 0
        else { return nil }
        return FirmwareOffer(title: title, version: version, size: bytes, algorithm: algorithm, checksum: checksum)
    }
}

/// A checksum under way.
struct FirmwareDigest {
    private var hash: any HashFunction

    /// Begins one.
    ///
    /// - Throws: ``DemoError`` if the devices of the demonstration do not know the algorithm.
    init(algorithm: String) throws {
        switch algorithm.uppercased() {
        case "SHA256": self.hash = SHA256()
        case "SHA384": self.hash = SHA384()
        case "SHA512": self.hash = SHA512()
        case "MD5": self.hash = Insecure.MD5()
        default: throw DemoError("the device does not know the checksum algorithm '\(algorithm)'; it knows SHA256")
        }
    }

    /// Takes in more bytes.
    mutating func update(_ bytes: ByteBuffer) {
        bytes.withUnsafeReadableBytes { self.hash.update(bufferPointer: $0) }
    }

    /// The checksum of all bytes so far, in lower-case hexadecimal.
    func finish() -> String { Self.hexadecimal(of: self.hash.finalize()) }

    private static func hexadecimal(of digest: some Digest) -> String {
        digest.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }
}
