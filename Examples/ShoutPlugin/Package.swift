// swift-tools-version: 6.2
import PackageDescription

let platform = Target.Dependency.product(name: "WindlassPlatform", package: "Platform")

let package = Package(
    name: "ShoutPlugin",
    platforms: [.macOS(.v26)],
    products: [
        // The host looks for libShoutPlugin.so, and in it for the symbol windlass_plugin_Shout.
        .library(name: "ShoutPlugin", type: .dynamic, targets: ["Shout"])
    ],
    dependencies: [
        .package(path: "../../Sources/Platform")
    ],
    targets: [
        .target(name: "Shout", dependencies: [platform]),
        .testTarget(name: "ShoutTests", dependencies: ["Shout", platform]),
    ],
    swiftLanguageModes: [.v6]
)
