/// The version of the platform that plugins are built against.
public enum Platform {
    /// The version, as in the stamp of a plugin; `stamp.sh` reads it here.
    public static let version = "0.1.0"
}

/// What a plugin hands the host.
///
/// It does so by a function that its library exports, with the module `PluginEntry`:
///
/// ```swift
/// import NodeKit
/// import PluginEntry
///
/// @c(windlass_plugin_Name)
/// public func windlassPlugin() -> UnsafeMutableRawPointer {
///     Plugin(name: "Name", version: "1.0.0", namespace: "urn:example:name", nodes: [MyNode.self]).exported()
/// }
/// ```
public struct Plugin: Sendable {
    /// The plugin's name, such as `OTANodes`.
    public var name: String
    /// The plugin's own version.
    public var version: String
    /// The XML namespace of its elements in chain files, such as `urn:windlass:ota`.
    public var namespace: String
    /// Its node types.
    public var nodes: [any ChainNode.Type]

    /// Describes a plugin.
    public init(name: String, version: String, namespace: String, nodes: [any ChainNode.Type]) {
        self.name = name
        self.version = version
        self.namespace = namespace
        self.nodes = nodes
    }
}
