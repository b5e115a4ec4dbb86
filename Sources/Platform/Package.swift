// swift-tools-version: 6.2
// Everything that the host and its plugins share, as one dynamic library: SwiftPM shares code between an executable and
// dynamic libraries only through a dynamic product of another package (see README, "How it is built").
import PackageDescription

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

/// A room of the platform: one folder, one module.
func room(_ name: String, knows dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, path: name, swiftSettings: settings)
}

let nio = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioTestUtils = Target.Dependency.product(name: "NIOTestUtils", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nioWebSocket = Target.Dependency.product(name: "NIOWebSocket", package: "swift-nio")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let signals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")

let package = Package(
    name: "Platform",
    platforms: [.macOS(.v26)],
    products: [
        .library(
            name: "WindlassPlatform",
            type: .dynamic,
            targets: [
                "Waiting", "NodeKit", "PluginEntry", "NodeTesting", "IngressKit", "HTTPKit", "OTA", "Chains", "Store",
                "Management", "Host",
            ]
        )
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
    ],
    targets: [
        .systemLibrary(
            name: "CLibXML2",
            path: "CLibXML2",
            pkgConfig: "libxml-2.0",
            providers: [.apt(["libxml2-dev"]), .brew(["libxml2"])]
        ),
        room("Waiting", knows: []),
        room("NodeKit", knows: [nio, nioPosix, logging]),
        .target(
            name: "PluginEntry",
            dependencies: ["NodeKit"],
            path: "PluginEntry",
            swiftSettings: settings,
            plugins: ["StampPlugin"]
        ),
        .plugin(name: "StampPlugin", capability: .buildTool(), path: "StampPlugin"),
        room(
            "NodeTesting",
            knows: ["Waiting", "NodeKit", "OTA", "Store", nio, nioPosix, nioSSL, nioHTTP1, nioTestUtils, logging]
        ),
        room("IngressKit", knows: ["NodeKit", "OTA", nio, nioSSL, nioWebSocket, logging]),
        room("HTTPKit", knows: ["Waiting", "NodeKit", "IngressKit", nio, nioPosix, nioHTTP1, nioSSL, logging]),
        room("OTA", knows: ["Waiting", "NodeKit", nio, crypto]),
        .target(name: "CSystemShims", path: "CSystemShims"),
        room("Chains", knows: ["Waiting", "NodeKit", "CLibXML2", nio, logging]),
        room(
            "Store",
            knows: [
                "Waiting", "NodeKit", "OTA", "CSystemShims", nio, nioPosix, logging, crypto,
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "GRDBSQLite", package: "GRDB.swift"),
            ]
        ),
        room(
            "Management",
            knows: [
                "Waiting", "NodeKit", "IngressKit", "HTTPKit", "OTA", nio, logging, crypto, cryptoExtras, lifecycle,
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "JWTKit", package: "jwt-kit"),
            ]
        ),
        room(
            "Host",
            knows: [
                "NodeKit", "PluginEntry", "IngressKit", "OTA", "Chains", "Store", "Management", "CSystemShims", nio,
                nioPosix, logging, lifecycle, signals,
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)
