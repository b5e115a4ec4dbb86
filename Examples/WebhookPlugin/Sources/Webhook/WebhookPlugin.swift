import NodeKit
import PluginEntry

/// The plugin as the host sees it.
@c(windlass_plugin_Webhook)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(name: "Webhook", version: "1.0.0", namespace: "urn:example:webhook", nodes: [WebhookIngress.self])
        .exported()
}
