import Crypto
import FoundationEssentials
public import NodeKit

/// What a link leads to.
public struct DownloadLink: Sendable, Hashable {
    /// Whom it was made for.
    public var device: DeviceId
    /// The package, whatever is assigned by the time it is followed.
    public var package: OtaPackageId
    /// Firmware or software.
    public var type: OtaPackageType
    /// Until when it can be followed, in whole seconds.
    public var expires: Timestamp

    /// Makes a link.
    public init(device: DeviceId, package: OtaPackageId, type: OtaPackageType, expires: Timestamp) {
        self.device = device
        self.package = package
        self.type = type
        self.expires = expires
    }
}

/// Makes and reads links that let whoever has one download one package for one device, for some time, without an access token.
///
/// All that a link says is in it, and signed (HMAC-SHA-256, RFC 2104), so nothing is stored. One for each host.
public struct DownloadLinks: Sendable {
    /// What stands before a link in the path of its URL.
    public static let path = "/api/download/"

    /// How many bytes of the signature are in a link: RFC 2104 §5 asks for at least half of it.
    private static let signatureLength = 16
    private static let contentLength = 16 + 16 + 1 + 8

    private let key: SymmetricKey

    /// Signs with a secret, which must be the same for as long as links are to count.
    public init(secret: [UInt8]) { self.key = SymmetricKey(data: secret) }

    /// The text of a link: 76 letters, digits, dashes and underscores.
    public func text(of link: DownloadLink) -> String {
        var content = Self.bytes(of: link.device.uuid) + Self.bytes(of: link.package.uuid)
        content.append(link.type == .firmware ? 0 : 1)
        content += withUnsafeBytes(of: (link.expires.rawValue / 1000).bigEndian, Array.init)
        let text = Data(content + self.signature(of: content)).base64EncodedString()
        // RFC 4648 §5; 57 bytes need no padding.
        return String(
            text.map { character in
                switch character {
                case "+": "-"
                case "/": "_"
                default: character
                }
            }
        )
    }

    /// What a text leads to; `nil` if it is no link of ours, was changed, or has expired.
    public func link(_ text: some StringProtocol, at now: Timestamp) -> DownloadLink? {
        guard text.utf8.count == (Self.contentLength + Self.signatureLength) / 3 * 4 else { return nil }
        let standard = text.map { character -> Character in
            switch character {
            case "-": "+"
            case "_": "/"
            default: character
            }
        }
        guard let data = Data(base64Encoded: String(standard)) else { return nil }
        let bytes = Array(data)
        guard bytes.count == Self.contentLength + Self.signatureLength else { return nil }
        let content = Array(bytes.prefix(Self.contentLength))
        // In a time that tells nothing about the right signature.
        var difference: UInt8 = 0
        for (one, other) in zip(self.signature(of: content), bytes.dropFirst(Self.contentLength)) {
            difference |= one ^ other
        }
        guard difference == 0 else { return nil }
        let seconds = content.suffix(8).reduce(Int64(0)) { $0 << 8 | Int64($1) }
        let (milliseconds, overflows) = seconds.multipliedReportingOverflow(by: 1000)
        guard !overflows, now.rawValue < milliseconds else { return nil }
        return DownloadLink(
            device: DeviceId(Self.uuid(content[0..<16])),
            package: OtaPackageId(Self.uuid(content[16..<32])),
            type: content[32] == 0 ? .firmware : .software,
            expires: Timestamp(milliseconds: milliseconds)
        )
    }

    private func signature(of content: [UInt8]) -> [UInt8] {
        Array(HMAC<SHA256>.authenticationCode(for: content, using: self.key).prefix(Self.signatureLength))
    }

    private static func bytes(of uuid: UUID) -> [UInt8] { withUnsafeBytes(of: uuid.uuid, Array.init) }

    private static func uuid(_ bytes: ArraySlice<UInt8>) -> UUID {
        var uuid: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &uuid) { $0.copyBytes(from: bytes) }
        return UUID(uuid: uuid)
    }
}
