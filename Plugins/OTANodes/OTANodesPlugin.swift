import NodeKit

/// The plugin as the host sees it.
@c(windlass_plugin_OTANodes)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(name: "OTANodes", version: Platform.version, namespace: "urn:windlass:ota", nodes: []).exported()
}
