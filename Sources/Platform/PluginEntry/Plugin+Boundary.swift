public import NodeKit

extension Plugin {
    /// What ``exported(stamp:)`` does: hands the plugin over, and keeps the stamp in the caller's code.
    @inline(never)
    public func export(stamp: StaticString) -> UnsafeMutableRawPointer {
        Unmanaged.passRetained(PluginBox(self)).toOpaque()
    }

    /// Takes over what ``exported(stamp:)`` returned; the host calls it once for each library.
    public static func imported(_ pointer: UnsafeMutableRawPointer) -> Plugin {
        Unmanaged<PluginBox>.fromOpaque(pointer).takeRetainedValue().plugin
    }
}

private final class PluginBox {
    let plugin: Plugin
    init(_ plugin: Plugin) { self.plugin = plugin }
}
