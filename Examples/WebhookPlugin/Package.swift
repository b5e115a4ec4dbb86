// swift-tools-version: 6.2
import PackageDescription

let platform = Target.Dependency.product(name: "WindlassPlatform", package: "Platform")

let package = Package(
    name: "WebhookPlugin",
    platforms: [.macOS(.v26)],
    products: [
        // The host looks for libWebhookPlugin.so, and in it for the symbol windlass_plugin_Webhook.
        .library(name: "WebhookPlugin", type: .dynamic, targets: ["Webhook"])
    ],
    dependencies: [
        .package(path: "../../Sources/Platform")
    ],
    targets: [
        .target(name: "Webhook", dependencies: [platform]),
        .testTarget(name: "WebhookTests", dependencies: ["Webhook", platform]),
    ],
    swiftLanguageModes: [.v6]
)
