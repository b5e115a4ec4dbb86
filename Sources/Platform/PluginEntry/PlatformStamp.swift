import Glibc
public import NodeKit

/// What tells one build of the platform from another.
///
/// Code that was compiled against one build has its layouts and inlined code in it, and would crash with another. So the build
/// writes the stamp as a literal into all that it compiles against the platform (`stamp.sh`), and the host compares it before
/// such code runs.
public struct PlatformStamp: Sendable, Equatable {
    /// The longest stamp that is read, in bytes; a longer one is none.
    public static let sizeMax = 4096

    /// The platform's version, as in ``NodeKit/Platform/version``.
    public var platform: String
    /// A digest of the platform's sources and manifest.
    public var sources: String
    /// The compiler's version, as it says it itself.
    public var compiler: String
    /// `debug` or `release`.
    public var configuration: String
    /// The versions of the packages that the platform is made of, by name.
    public var libraries: [String: String]

    /// The stamp of the platform that the process has loaded.
    public static let current: PlatformStamp = {
        let found = platformStamp.withUTF8Buffer { Self.text(in: UnsafeRawBufferPointer($0)) }
        guard let stamp = found.flatMap({ PlatformStamp($0) }) else {
            preconditionFailure("stamp.sh writes a stamp that cannot be read")
        }
        return stamp
    }()

    /// Reads a stamp's text; `nil` if a part is missing, as in stamps of other versions.
    public init?(_ text: String) {
        var values: [Substring: Substring] = [:]
        for part in text.split(separator: ";") {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if pair.count == 2 { values[pair[0]] = pair[1] }
        }
        guard let platform = values["platform"], let sources = values["sources"], let compiler = values["compiler"],
            let configuration = values["configuration"], let libraries = values["libraries"]
        else { return nil }
        self.platform = String(platform)
        self.sources = String(sources)
        self.compiler = String(compiler)
        self.configuration = String(configuration)
        self.libraries = [:]
        for library in libraries.split(separator: ",") {
            let pair = library.split(separator: " ", maxSplits: 1)
            if pair.count == 2 { self.libraries[String(pair[0])] = String(pair[1]) }
        }
    }

    /// The text of the first stamp in the bytes of a file; `nil` if there is none.
    public static func text(in bytes: UnsafeRawBufferPointer) -> String? {
        let mark = Array("\u{1}windlass-plugin-stamp:".utf8)
        var rest = bytes[...]
        while rest.count >= mark.count, let base = UnsafeRawBufferPointer(rebasing: rest).baseAddress,
            let hit = memchr(base, Int32(mark[0]), rest.count)
        {
            rest = rest.dropFirst(UnsafeRawPointer(hit) - base)
            if rest.starts(with: mark) {
                let text = rest.dropFirst(mark.count).prefix(Self.sizeMax + 1)
                return text.firstIndex(of: 1).map { String(decoding: text[..<$0], as: UTF8.self) }
            }
            rest = rest.dropFirst()
        }
        return nil
    }

    /// What differs from the platform that is there, each with both values: `Swift 6.3 instead of 6.3.1`.
    public func differences(from present: PlatformStamp) -> [String] {
        var found: [String] = []
        func compare(_ name: String, _ mine: String, _ other: String) {
            if mine != other { found.append("\(name) \(mine) instead of \(other)") }
        }
        compare("platform", self.platform, present.platform)
        // Another version has other sources, which say nothing more.
        if found.isEmpty { compare("sources", self.sources, present.sources) }
        compare("Swift", self.compiler, present.compiler)
        compare("configuration", self.configuration, present.configuration)
        for name in Set(self.libraries.keys).union(present.libraries.keys).sorted() {
            compare(name, self.libraries[name] ?? "none", present.libraries[name] ?? "none")
        }
        return found
    }

    /// What ``check(stamp:)`` does.
    public static func compare(_ stamp: StaticString) throws(NodeError) {
        let text = stamp.withUTF8Buffer { Self.text(in: UnsafeRawBufferPointer($0)) }
        guard let built = text.flatMap({ PlatformStamp($0) }), built != Self.current else { return }
        throw NodeError(
            "platform-stamp",
            """
            this program was built against another platform than the libWindlassPlatform.so that it found: \
            \(built.differences(from: Self.current).joined(separator: ", ")); put both of one build beside each other
            """
        )
    }
}
