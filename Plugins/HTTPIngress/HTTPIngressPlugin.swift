import NodeKit
import PluginEntry

/// The plugin as the host sees it.
@c(windlass_plugin_HTTPIngress)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(name: "HTTPIngress", version: Platform.version, namespace: "urn:windlass:http", nodes: [HTTPIngress.self])
        .exported()
}
