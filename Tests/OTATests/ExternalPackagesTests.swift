import NodeKit
import OTA
import Testing

@Suite struct ExternalPackagesTests {
    private static func package(title: String = "a b/ü", fileName: String? = "f%.bin") -> OtaPackage {
        var package = OtaPackage(deviceProfileId: nil, type: .firmware, title: title, version: "1.0+2")
        package.fileName = fileName
        return package
    }

    @Test("the pattern takes in what the package is, encoded so that each value stays in its part of the path")
    func fills() throws {
        let pattern = "https://cdn.example.org/{type}/{title}/{version}/{fileName}?v={version}"
        let external = try ExternalPackages(isEnabled: true, urlPattern: pattern)
        #expect(
            try external.url(of: Self.package())
                == "https://cdn.example.org/FIRMWARE/a%20b%2F%C3%BC/1.0%2B2/f%25.bin?v=1.0%2B2"
        )
        #expect(throws: NodeError.self) { _ = try external.url(of: Self.package(fileName: nil)) }
        #expect(throws: NodeError.self) { _ = try external.url(of: Self.package(fileName: "")) }
        #expect(try ExternalPackages().url(of: Self.package()) == nil)
    }

    @Test(
        "a pattern that is no URL or has an unknown name is refused",
        arguments: [
            "cdn.example.org/{title}", "{title}", "https://{title}", "https://x/{nothing}", "https://x/{title",
            "9://x/",
        ]
    )
    func refused(pattern: String) {
        do {
            _ = try ExternalPackages(isEnabled: true, urlPattern: pattern)
            Issue.record("it was taken")
        } catch {
            #expect(error.message.contains("'ota.external.url.pattern'"))
        }
    }

    @Test("where they are disabled there are none")
    func disabled() throws {
        try ExternalPackages().checkAllowed()
        let error = #expect(throws: NodeError.self) {
            try ExternalPackages(isEnabled: false, urlPattern: "").checkAllowed()
        }
        #expect(error?.code == .badRequest)
        #expect(error?.message.contains("ota.external.enabled") == true)
    }
}
