import NodeKit
import PluginEntry

/// The plugin as the host sees it.
@c(windlass_plugin_OTANodes)
public func windlassPlugin() -> UnsafeMutableRawPointer {
    Plugin(
        name: "OTANodes",
        version: Platform.version,
        namespace: "urn:windlass:ota",
        nodes: [
            ActivityNode.self,
            AssignmentsNode.self,
            AttributePushNode.self,
            AttributesReplyNode.self,
            CallsNode.self,
            ChunkServeNode.self,
            ErrorClassificationNode.self,
            FailUpdateNode.self,
            MissedPushesNode.self,
            PackageInfoNode.self,
            PackageLookupNode.self,
            ProvisionNode.self,
            RPCReplyNode.self,
            RPCRequestNode.self,
            RetryUpdateNode.self,
            SaveAttributesNode.self,
            SaveTelemetryNode.self,
            StalledNode.self,
            StateTrackingNode.self,
            UpdateEventsNode.self,
        ]
    ).exported()
}
