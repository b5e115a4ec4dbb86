import Crypto
import CryptoExtras
import FoundationEssentials
import NodeKit

/// A salted scrypt hash of a password (RFC 7914) with its parameters, so that they can grow and old hashes still work.
///
/// Written as `$scrypt$ln=14,r=8,p=5$<salt>$<hash>`, base64 without padding.
struct PasswordHash: Sendable, Equatable, CustomStringConvertible {
    /// What hashing costs.
    ///
    /// The default is one of those that OWASP's Password Storage Cheat Sheet recommends; it takes 16 MiB of memory.
    struct Cost: Sendable, Equatable {
        /// The logarithm to base 2 of the rounds, 1…20.
        var log2Rounds = 14
        /// The block size, 1…32.
        var blockSize = 8
        /// How many independent mixes there are, 1…16.
        var parallelism = 5

        fileprivate var isValid: Bool {
            (1...20).contains(self.log2Rounds) && (1...32).contains(self.blockSize)
                && (1...16).contains(self.parallelism)
        }
    }

    /// The longest password, in bytes of UTF-8.
    static let passwordBytesMax = 1024
    private static let saltCount = 16
    private static let hashCount = 32

    let cost: Cost
    let salt: [UInt8]
    let hash: [UInt8]

    /// Hashes a password with a new salt.
    ///
    /// Takes long on purpose: call it from a thread that may block.
    init(of password: String, cost: Cost = Cost()) throws {
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<Self.saltCount).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        self.cost = cost
        self.salt = salt
        self.hash = try Self.derive(password, salt: salt, cost: cost, count: Self.hashCount).withUnsafeBytes(Array.init)
    }

    /// Reads a hash as it was written; `nil` if it is not one.
    init?(_ text: String) {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "scrypt" else { return nil }
        var cost = Cost()
        let settings = parts[2].split(separator: ",")
        guard settings.count == 3 else { return nil }
        for setting in settings {
            let pair = setting.split(separator: "=")
            guard pair.count == 2, let value = Int(pair[1]) else { return nil }
            switch pair[0] {
            case "ln": cost.log2Rounds = value
            case "r": cost.blockSize = value
            case "p": cost.parallelism = value
            default: return nil
            }
        }
        guard cost.isValid, let salt = Self.decode(parts[3]), let hash = Self.decode(parts[4]), hash.count >= 16 else {
            return nil
        }
        self.cost = cost
        self.salt = salt
        self.hash = hash
    }

    /// Whether this is the hash of a password.
    ///
    /// Takes as long as hashing it, and equally long for all passwords.
    func matches(_ password: String) throws -> Bool {
        let derived = try Self.derive(password, salt: self.salt, cost: self.cost, count: self.hash.count)
        // Keys compare in constant time.
        return derived == SymmetricKey(data: self.hash)
    }

    var description: String {
        let cost = "ln=\(self.cost.log2Rounds),r=\(self.cost.blockSize),p=\(self.cost.parallelism)"
        return "$scrypt$\(cost)$\(Self.encode(self.salt))$\(Self.encode(self.hash))"
    }

    private static func derive(_ password: String, salt: [UInt8], cost: Cost, count: Int) throws -> SymmetricKey {
        try KDF.Scrypt.deriveKey(
            from: Array(password.utf8),
            salt: salt,
            outputByteCount: count,
            rounds: 1 << cost.log2Rounds,
            blockSize: cost.blockSize,
            parallelism: cost.parallelism
        )
    }

    private static func encode(_ bytes: [UInt8]) -> String {
        String(Data(bytes).base64EncodedString().prefix { $0 != "=" })
    }

    private static func decode(_ text: Substring) -> [UInt8]? {
        let padding = String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        return Data(base64Encoded: text + padding).map(Array.init)
    }
}
