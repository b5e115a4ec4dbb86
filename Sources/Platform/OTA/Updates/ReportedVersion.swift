public import NodeKit

/// A title and a version as characters, each of which may be unknown.
///
/// Both compare byte by byte: `1.10` is not `1.1`, and two spellings of one letter are two titles.
public struct ReportedVersion: Sendable, Hashable {
    /// The title, such as `pump`.
    public var title: String?
    /// The version, such as `1.10`.
    public var version: String?

    /// The most characters of a title or version that are looked at.
    ///
    /// One more than a package's may have, so that a longer one never equals it.
    public static let lengthMax = EntityRules.textLengthMax + 1

    /// Makes a pair.
    public init(title: String? = nil, version: String? = nil) {
        self.title = title
        self.version = version
    }

    /// Whether neither is known.
    public var isEmpty: Bool { self.title == nil && self.version == nil }

    /// Whether each member that is known is that of a package.
    ///
    /// An unknown member is not compared; with none known there is nothing that differs.
    public func fits(_ package: ReportedVersion) -> Bool {
        Self.fits(self.title, package.title) && Self.fits(self.version, package.version)
    }

    /// This pair with the members that a newer report names.
    public func updated(by newer: ReportedVersion) -> ReportedVersion {
        ReportedVersion(title: newer.title ?? self.title, version: newer.version ?? self.version)
    }

    /// Whether both have the same members.
    public static func == (a: Self, b: Self) -> Bool {
        a.title.exact == b.title.exact && a.version.exact == b.version.exact
    }

    /// Hashes the bytes of both.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(self.title.exact)
        hasher.combine(self.version.exact)
    }

    private static func fits(_ known: String?, _ wanted: String?) -> Bool {
        known == nil || wanted == nil || known.exact == wanted.exact
    }
}

extension ReportedVersion: CustomStringConvertible {
    /// The title and the version in quotes, for people.
    public var description: String {
        let known = [self.title, self.version].compactMap { $0.map { "'\($0)'" } }
        return known.isEmpty ? "an unknown version" : known.joined(separator: " ")
    }
}

/// What a device says it runs: the newest title and version that it reported for a package type.
public struct InstalledVersion: Sendable, Hashable {
    /// The title and the version.
    public var running: ReportedVersion
    /// When the device first reported this pair, by the host's clock.
    public var since: Timestamp
    /// How it reported it, for people: the kind of message, the keys and the state beside them, such as
    /// `telemetry current_fw_*, fw_state UPDATED`.
    public var report: String

    /// Makes a statement.
    public init(running: ReportedVersion, since: Timestamp, report: String) {
        self.running = running
        self.since = since
        self.report = report
    }
}
