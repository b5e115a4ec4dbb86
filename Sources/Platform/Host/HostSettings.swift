public import IngressKit
public import NodeKit
public import OTA

/// Settings of a host that have no option of their own: names with dots, each with a value.
///
/// A value comes from `--set NAME=VALUE`, else from the environment variable with the same name in capitals and `_` for each
/// dot, else it is the default. ``all`` is the only declaration: reading, `windlass settings` and the reference page use it.
public struct HostSettings: Sendable {
    /// One setting.
    public struct Setting: Sendable {
        /// What a value may be.
        public enum Kind: Sendable {
            /// `true` or `false`.
            case boolean
            /// A whole number.
            case integer(ClosedRange<Int>)
            /// Any text.
            case text
        }

        /// Its name.
        public let name: String
        /// What a value may be.
        public let kind: Kind
        /// The value if none is given.
        public let defaultText: String
        /// What it is for.
        public let summary: String

        /// The environment variable that may give its value.
        public var variable: String { String(self.name.uppercased().map { $0 == "." ? "_" : $0 }) }
    }

    private static let externalEnabled = Setting(
        name: "ota.external.enabled",
        kind: .boolean,
        defaultText: "true",
        summary: "Whether packages with a URL may be made, whose bytes are stored elsewhere."
    )
    private static let externalURLPattern = Setting(
        name: "ota.external.url.pattern",
        kind: .text,
        defaultText: "",
        summary:
            "The URL of a package that is made with usesUrl and without a url; {title}, {version}, {type} and {fileName} "
            + "stand for the package's."
    )
    private static let timeseriesDays = Setting(
        name: "retention.timeseries.days",
        kind: .integer(0...36500),
        defaultText: "0",
        summary:
            "Entries of time series that are older are removed, but for the newest of each series; 0 keeps them for ever."
    )
    private static let timeseriesCount = Setting(
        name: "retention.timeseries.count",
        kind: .integer(0...1_000_000),
        defaultText: "0",
        summary: "The most entries of each series of a device; older ones are removed; 0 keeps them for ever."
    )
    private static let aheadSeconds = Setting(
        name: "timeseries.ahead.seconds",
        kind: .integer(0...315_360_000),
        defaultText: "86400",
        summary:
            "How far the ts of a device's report may lie ahead of the host's clock; what lies further ahead is stored with the "
            + "time of its arrival, counted and logged; 0 takes any."
    )
    private static let historyDays = Setting(
        name: "retention.history.days",
        kind: .integer(0...36500),
        defaultText: "0",
        summary:
            "Lines of update histories that are older are removed, but for those of the present update; 0 keeps them for "
            + "ever."
    )
    private static let auditDays = Setting(
        name: "retention.audit.days",
        kind: .integer(0...36500),
        defaultText: "365",
        summary: "Entries of the audit log that are older are removed; 0 keeps them for ever."
    )
    private static let auditCount = Setting(
        name: "retention.audit.count",
        kind: .integer(1...100_000_000),
        defaultText: "100000",
        summary: "The most entries of the audit log of each tenant; older ones are removed."
    )

    private static let groupRead = Setting(
        name: "data.group.read",
        kind: .boolean,
        defaultText: "false",
        summary:
            "Whether the group of the data folder may read it (0750, files 0640), but for the signing keys; otherwise the host's "
            + "own user alone may (0700, files 0600)."
    )
    private static let reserveBytes = Setting(
        name: "data.reserve.bytes",
        kind: .integer(0...1_099_511_627_776),
        defaultText: "67108864",
        summary:
            "How many bytes of the disk uploads leave free for reports and deletions; one that would take more gets 507."
    )
    private static let signingKeyFile = Setting(
        name: "signing.key.file",
        kind: .text,
        defaultText: "",
        summary:
            "A file with one key of 32 to 4096 bytes, from which the keys are derived that sign logins and download links; without "
            + "it they are random and in the file windlass.keys of the data folder."
    )

    private static let managementCertificateFile = Setting(
        name: "management.tls.certificate.file",
        kind: .text,
        defaultText: "",
        summary:
            "PEM file with the certificate of the management API and those between it and the root, read again when it changes; "
            + "with it and its key the API speaks HTTPS and no plain HTTP."
    )
    private static let managementKeyFile = Setting(
        name: "management.tls.key.file",
        kind: .text,
        defaultText: "",
        summary: "PEM file with that certificate's private key, not encrypted."
    )

    /// All settings there are.
    public static let all = [
        Self.externalEnabled, Self.externalURLPattern, Self.timeseriesDays, Self.timeseriesCount, Self.aheadSeconds,
        Self.historyDays, Self.auditDays, Self.auditCount, Self.groupRead, Self.reserveBytes, Self.signingKeyFile,
        Self.managementCertificateFile, Self.managementKeyFile,
    ]

    private var texts: [String: String] = [:]

    /// Reads settings.
    ///
    /// - Parameters:
    ///   - given: Texts of the form `NAME=VALUE`; of several with one name the last counts.
    ///   - environment: The environment of the process.
    /// - Throws: ``NodeError`` with code `setting` for a name that is none or a value that does not fit.
    public init(given: [String] = [], environment: [String: String]) throws(NodeError) {
        for setting in Self.all {
            guard let text = environment[setting.variable], !text.isEmpty else { continue }
            try Self.check(text, of: setting)
            self.texts[setting.name] = text
        }
        for pair in given {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let setting = Self.all.first(where: { $0.name == parts[0] }) else {
                let known = Self.all.map(\.name).joined(separator: ", ")
                throw NodeError("setting", "there is no setting '\(parts[0])'; known are \(known)")
            }
            guard parts.count == 2 else {
                throw NodeError("setting", "'\(pair)' gives no value; write --set \(setting.name)=VALUE")
            }
            try Self.check(String(parts[1]), of: setting)
            self.texts[setting.name] = String(parts[1])
        }
    }

    /// What is decided about packages whose bytes are stored elsewhere.
    public func externalPackages() throws(NodeError) -> ExternalPackages {
        try ExternalPackages(
            isEnabled: self.text(Self.externalEnabled) == "true",
            urlPattern: self.text(Self.externalURLPattern)
        )
    }

    /// The certificate and key of the management API; `nil` for plain HTTP.
    ///
    /// - Throws: ``NodeError`` with code `setting` if one of both is named without the other.
    public func managementTLS() throws(NodeError) -> TLSSettings? {
        let (certificate, key) = (self.text(Self.managementCertificateFile), self.text(Self.managementKeyFile))
        guard certificate.isEmpty == key.isEmpty else {
            throw NodeError(
                "setting",
                "\(Self.managementCertificateFile.name) and \(Self.managementKeyFile.name) belong together; name both or none"
            )
        }
        return certificate.isEmpty ? nil : TLSSettings(certificateFile: certificate, privateKeyFile: key)
    }

    /// How long what grows by itself is kept, and how much of it.
    public var retention: Retention {
        Retention(
            timeseriesAge: self.number(Self.timeseriesDays).map(Self.days),
            timeseriesCount: self.number(Self.timeseriesCount),
            historyAge: self.number(Self.historyDays).map(Self.days),
            auditAge: self.number(Self.auditDays).map(Self.days),
            auditCount: self.number(Self.auditCount) ?? Retention().auditCount
        )
    }

    /// How far the `ts` of a device's report may lie ahead of the host's clock; `nil` for any.
    public var timestampAheadMax: Duration? { self.number(Self.aheadSeconds).map { .seconds($0) } }

    /// Whether the group of the data folder may read it, but for the signing keys.
    public var isGroupReadable: Bool { self.text(Self.groupRead) == "true" }

    /// How many bytes of the disk uploads leave free.
    public var reserveBytes: Int64 { Int64(self.number(Self.reserveBytes) ?? 0) }

    /// A file with the key that all signing keys are derived from; `nil` for random ones.
    public var signingKeyFile: String? {
        let path = self.text(Self.signingKeyFile)
        return path.isEmpty ? nil : path
    }

    private func text(_ setting: Setting) -> String { self.texts[setting.name] ?? setting.defaultText }

    /// A number that is not 0, which stands for no limit.
    private func number(_ setting: Setting) -> Int? { Int(self.text(setting)).flatMap { $0 == 0 ? nil : $0 } }

    private static func days(_ count: Int) -> Duration { .seconds(count * 86400) }

    private static func check(_ text: String, of setting: Setting) throws(NodeError) {
        guard !text.utf8.contains(0) else {
            throw NodeError("setting", "the setting \(NullCharacter(in: setting.name))")
        }
        let wanted: String
        switch setting.kind {
        case .boolean:
            if ["true", "false"].contains(text) { return }
            wanted = "true or false"
        case .integer(let range):
            if let number = Int(text), range.contains(number) { return }
            wanted = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .text: return
        }
        throw NodeError(
            "setting",
            "the setting '\(setting.name)' must be \(wanted), not '\(text)'; it comes from --set or \(setting.variable)"
        )
    }
}
