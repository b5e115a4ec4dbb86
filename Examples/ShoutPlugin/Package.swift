// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "ShoutPlugin",
    platforms: [.macOS(.v15)],
    products: [
        // The host looks for libShoutPlugin.so, and in it for the symbol windlass_plugin_Shout.
        .library(name: "ShoutPlugin", type: .dynamic, targets: ["Shout"])
    ],
    dependencies: [
        .package(path: "../../Sources/Platform")
    ],
    targets: [
        .target(name: "Shout", dependencies: [.product(name: "WindlassPlatform", package: "Platform")])
    ],
    swiftLanguageModes: [.v6]
)
