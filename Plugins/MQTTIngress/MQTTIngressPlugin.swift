import NodeKit
import PluginEntry

/// The plugin as the host sees it.
@c(windlass_plugin_MQTTIngress)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(
        name: "MQTTIngress",
        version: Platform.version,
        namespace: "urn:windlass:mqtt",
        nodes: [MQTTIngressNode.self]
    ).exported()
}
