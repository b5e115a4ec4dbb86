public import NodeKit

/// What an operator decides about packages whose bytes are stored elsewhere: the settings `ota.external.…`.
public struct ExternalPackages: Sendable, Hashable {
    /// Whether packages with a URL may be made.
    public var isEnabled: Bool
    private var urlPattern: [Part]

    private enum Part: Sendable, Hashable {
        case text(String)
        case value(Value)
    }

    private enum Value: String, CaseIterable {
        case title, version, type, fileName
    }

    /// Allows any URL, and knows none by itself.
    public init() {
        self.isEnabled = true
        self.urlPattern = []
    }

    /// Reads the settings.
    ///
    /// - Parameters:
    ///   - isEnabled: Whether packages with a URL may be made.
    ///   - urlPattern: The URL of a package that names none, in which `{title}`, `{version}`, `{type}` and `{fileName}` stand for
    ///     the package's; empty if there is no such URL.
    /// - Throws: ``NodeError`` if the pattern is no URL or has another name in braces.
    public init(isEnabled: Bool, urlPattern: String) throws(NodeError) {
        self.isEnabled = isEnabled
        self.urlPattern = try Self.parts(of: urlPattern)
    }

    /// The URL of a package that is external and names none itself.
    ///
    /// Values are encoded so that each stays within its part of a path (RFC 3986 §2.1).
    ///
    /// - Returns: `nil` if there is no pattern.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the pattern needs a file name and the package has none.
    public func url(of package: OtaPackage) throws(NodeError) -> String? {
        guard !self.urlPattern.isEmpty else { return nil }
        var url = ""
        for part in self.urlPattern {
            switch part {
            case .text(let text): url += text
            case .value(.title): url += Self.encoded(package.title)
            case .value(.version): url += Self.encoded(package.version)
            case .value(.type): url += Self.encoded(package.type.rawValue)
            case .value(.fileName):
                guard let name = package.fileName, !name.isEmpty else {
                    throw NodeError(
                        .badRequest,
                        "The URL of external packages is made with their file name; give the package a 'fileName' or a 'url'"
                    )
                }
                url += Self.encoded(name)
            }
        }
        return url
    }

    /// Refuses a package with a URL where there may be none.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest``.
    public func checkAllowed() throws(NodeError) {
        guard !self.isEnabled else { return }
        throw NodeError(
            .badRequest,
            "Packages with a URL are disabled on this host (ota.external.enabled); upload the file instead"
        )
    }

    private static func parts(of pattern: String) throws(NodeError) -> [Part] {
        guard !pattern.isEmpty else { return [] }
        var parts: [Part] = []
        var text = ""
        var rest = pattern[...]
        while let character = rest.popFirst() {
            guard character == "{" else {
                text.append(character)
                continue
            }
            let name = rest.prefix { $0 != "}" }
            guard name.endIndex < rest.endIndex, let value = Value(rawValue: String(name)) else {
                let known = Value.allCases.map { "{\($0.rawValue)}" }.joined(separator: ", ")
                throw NodeError(
                    "setting",
                    "the setting 'ota.external.url.pattern' has '{\(name)', which stands for nothing; known are \(known)"
                )
            }
            parts.append(.text(text))
            parts.append(.value(value))
            text = ""
            rest = rest[name.endIndex...].dropFirst()
        }
        parts.append(.text(text))
        guard case .text(let start) = parts[0], Self.hasScheme(start) else {
            throw NodeError(
                "setting",
                "the setting 'ota.external.url.pattern' must begin with a scheme and a host, such as https://example.org/"
            )
        }
        return parts
    }

    /// Whether a text begins as `scheme://x` (RFC 3986 §3.1).
    private static func hasScheme(_ text: String) -> Bool {
        let scheme = text.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || "+-.".contains($0)) }
        let rest = text[scheme.endIndex...]
        return scheme.first?.isLetter == true && rest.hasPrefix("://") && rest.count > 3
    }

    private static func encoded(_ text: String) -> String {
        var encoded = ""
        for byte in text.utf8 {
            let scalar = Unicode.Scalar(byte)
            if scalar.isASCII,
                Character(scalar).isLetter || Character(scalar).isNumber || "-._~".contains(Character(scalar))
            {
                encoded.unicodeScalars.append(scalar)
            } else {
                encoded += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }
        return encoded
    }
}
