// swift-tools-version: 6.2
// Single functions of which much depends, measured by themselves. `Benchmarks/run functions` builds and runs this package.
import PackageDescription

let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

func plugin(_ name: String) -> Target.Dependency { .product(name: "\(name)Plugin", package: "windlass") }

let package = Package(
    name: "Benchmarks",
    platforms: [.macOS(.v26)],
    dependencies: [
        .package(name: "windlass", path: ".."),
        .package(path: "../Sources/Platform"),
        // Without its traits, which count allocations by means of libraries of their own.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
    ],
    targets: [
        .executableTarget(
            name: "Functions",
            dependencies: [
                .product(name: "Benchmark", package: "benchmark"),
                .product(name: "WindlassPlatform", package: "Platform"),
                plugin("HTTPIngress"), plugin("MQTTIngress"), plugin("CoAPIngress"),
            ],
            path: "Functions",
            swiftSettings: settings,
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]
        )
    ],
    swiftLanguageModes: [.v6]
)
