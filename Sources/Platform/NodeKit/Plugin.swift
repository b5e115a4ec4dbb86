/// The version of the platform that plugins are built against.
public enum Platform {
    /// The version, as in the stamp of a plugin.
    public static let version = "0.1.0"
}

/// What a plugin hands the host.
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

extension Plugin {
    /// The plugin in the form that crosses the library's boundary. A plugin in `libNamePlugin.so` exports it as the C
    /// symbol `windlass_plugin_Name`:
    ///
    /// ```swift
    /// @c(windlass_plugin_Name)
    /// public func plugin() -> UnsafeMutableRawPointer {
    ///     Plugin(name: "Name", version: "1.0.0", namespace: "urn:example:name", nodes: [MyNode.self]).exported()
    /// }
    /// ```
    ///
    /// The body is compiled into the plugin, so the stamp in its literal is that of the platform and compiler that the
    /// plugin was built with; the host finds it in the file before it loads anything.
    @_alwaysEmitIntoClient
    public func exported() -> UnsafeMutableRawPointer {
        #if compiler(>=6.5)
            return self.export(stamp: "\u{1}windlass-plugin-stamp:platform=0.1.0;swift=6.5 or newer;\u{1}")
        #elseif compiler(>=6.4)
            return self.export(stamp: "\u{1}windlass-plugin-stamp:platform=0.1.0;swift=6.4;\u{1}")
        #else
            return self.export(stamp: "\u{1}windlass-plugin-stamp:platform=0.1.0;swift=6.3;\u{1}")
        #endif
    }

    /// Hands the plugin over and keeps the stamp in the caller's code.
    @inline(never)
    public func export(stamp: StaticString) -> UnsafeMutableRawPointer {
        Unmanaged.passRetained(PluginBox(self)).toOpaque()
    }

    /// Takes over what ``exported()`` returned; the host calls it once for each library.
    public static func imported(_ pointer: UnsafeMutableRawPointer) -> Plugin {
        Unmanaged<PluginBox>.fromOpaque(pointer).takeRetainedValue().plugin
    }
}

private final class PluginBox {
    let plugin: Plugin
    init(_ plugin: Plugin) { self.plugin = plugin }
}
