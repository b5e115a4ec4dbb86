import NodeKit
import PluginEntry

/// The plugin as the host sees it.
@c(windlass_plugin_CoAPIngress)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(
        name: "CoAPIngress",
        version: Platform.version,
        namespace: "urn:windlass:coap",
        nodes: [CoAPIngressNode.self]
    ).exported()
}
