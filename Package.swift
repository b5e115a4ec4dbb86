// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

let platform = Target.Dependency.product(name: "WindlassPlatform", package: "Platform")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

/// A plugin lives in one folder, sees only the platform and what it names here, and becomes one dynamic library.
///
/// The modules of swift-nio, swift-log and whatever else the platform is made of come with it and are imported without being
/// named here: naming one would link a second copy of it, and of all it needs, into the plugin.
/// `testData` names folders beside the tests, which read them where they are; `shared` names what tests share.
func plugin(
    _ name: String,
    needs dependencies: [Target.Dependency] = [],
    testData: [String] = [],
    testing shared: [Target.Dependency] = []
) -> [Target] {
    [
        .target(
            name: name,
            dependencies: [platform] + dependencies,
            path: "Plugins/\(name)",
            swiftSettings: settings
        ),
        .testTarget(
            name: "\(name)Tests",
            dependencies: [.target(name: name), platform] + dependencies + shared,
            exclude: testData,
            swiftSettings: settings
        ),
    ]
}

/// The tests of one room of the platform.
func tests(_ room: String, testData: [String] = [], testing shared: [Target.Dependency] = []) -> Target {
    .testTarget(name: "\(room)Tests", dependencies: [platform] + shared, exclude: testData, swiftSettings: settings)
}

let plugins = ["OTANodes", "FlowNodes", "HTTPIngress", "MQTTIngress", "CoAPIngress"]

let package = Package(
    name: "windlass",
    platforms: [.macOS(.v26)],
    products: plugins.map { .library(name: "\($0)Plugin", type: .dynamic, targets: [$0]) },
    dependencies: [
        .package(path: "Sources/Platform"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        .executableTarget(
            name: "windlass",
            dependencies: [platform, arguments],
            swiftSettings: settings
        ),
        .testTarget(name: "windlassTests", dependencies: ["windlass", platform], swiftSettings: settings),
        // The table of cases that runs over every transport of devices.
        .target(name: "DeviceCases", dependencies: [platform], path: "Tests/DeviceCases", swiftSettings: settings),
        // What the tests of the store share with those that run over every engine.
        .target(name: "StoreTesting", dependencies: [platform], path: "Tests/StoreTesting", swiftSettings: settings),
    ]
        + plugin("OTANodes")
        + plugin("FlowNodes")
        + plugin("HTTPIngress", testing: ["DeviceCases"])
        + plugin("MQTTIngress", testData: ["Vectors"], testing: ["DeviceCases"])
        + plugin("CoAPIngress", testData: ["Vectors"], testing: ["DeviceCases"])
        + ["Waiting", "NodeKit", "OTA", "Management", "Host"].map { tests($0) }
        + [tests("Chains", testData: ["Golden"]), tests("HTTPKit", testData: ["Vectors"])]
        + [tests("IngressKit", testing: ["DeviceCases"]), tests("Store", testing: ["StoreTesting"])]
        + [
            .testTarget(
                name: "StoreConformance",
                dependencies: [platform, "StoreTesting"],
                swiftSettings: settings
            ),
            // Chains of real nodes, in a time that passes when a test says so.
            .testTarget(
                name: "CampaignTests",
                dependencies: ["OTANodes", "FlowNodes", platform],
                swiftSettings: settings
            ),
        ],
    swiftLanguageModes: [.v6]
)
