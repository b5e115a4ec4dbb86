import NodeKit
import PluginEntry

/// The plugin as the host sees it.
@c(windlass_plugin_FlowNodes)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(
        name: "FlowNodes",
        version: Platform.version,
        namespace: "urn:windlass:flow",
        nodes: [
            FilterNode.self, HoldNode.self, HTTPCallNode.self, LogNode.self, ReplyNode.self, SwitchNode.self,
            ThrottleNode.self,
        ]
    ).exported()
}
