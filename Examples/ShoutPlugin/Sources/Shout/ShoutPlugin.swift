import NodeKit
import PluginEntry

/// The plugin as the host sees it.
@c(windlass_plugin_Shout)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(name: "Shout", version: "1.0.0", namespace: "urn:example:shout", nodes: [UpperCaseNode.self]).exported()
}
