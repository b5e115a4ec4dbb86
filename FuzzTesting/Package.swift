// swift-tools-version: 6.2
// Fuzz targets, one executable each, for all that reads what a network or a file brings. `run` builds and runs them.
import PackageDescription

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

let platform = Target.Dependency.product(name: "WindlassPlatform", package: "Platform")

func plugin(_ name: String) -> Target.Dependency { .product(name: "\(name)Plugin", package: "windlass") }

/// A target that libFuzzer drives; its `main` comes from there.
func fuzz(_ name: String, plugins: [String] = []) -> Target {
    .executableTarget(
        name: "Fuzz\(name)",
        dependencies: ["FuzzSupport", platform] + plugins.map(plugin),
        swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]
    )
}

let package = Package(
    name: "FuzzTesting",
    platforms: [.macOS(.v26)],
    dependencies: [
        .package(name: "windlass", path: ".."),
        .package(path: "../Sources/Platform"),
    ],
    targets: [
        .target(name: "FuzzSupport", dependencies: [platform], swiftSettings: settings),
        fuzz("HTTP", plugins: ["HTTPIngress"]),
        fuzz("MQTT", plugins: ["MQTTIngress"]),
        fuzz("CoAP", plugins: ["CoAPIngress"]),
        // Every plugin that ships: the chain files' node types are those of the plugins beside the executable.
        fuzz("Chain", plugins: ["OTANodes", "FlowNodes", "HTTPIngress", "MQTTIngress", "CoAPIngress"]),
        fuzz("JSON"),
        fuzz("Form"),
    ],
    swiftLanguageModes: [.v6]
)
