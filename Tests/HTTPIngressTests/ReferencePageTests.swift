import FoundationEssentials
import Testing

@testable import HTTPIngress

/// `docs/nodes.md` says what the descriptor says.
@Suite struct ReferencePageTests {
    @Test("the reference page has every attribute with its default")
    func attributes() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: root.appending(path: "docs/nodes.md"), encoding: .utf8)
        let after = page[try #require(page.firstRange(of: "\n### `<http:ingress>`\n")).upperBound...]
        let section = after[..<(after.firstRange(of: "\n### ")?.lowerBound ?? after.endIndex)]
        for attribute in HTTPIngress.descriptor.attributes {
            let row = section.split(separator: "\n").first { $0.hasPrefix("| `\(attribute.name)` |") }
            #expect(row?.contains("| \(attribute.defaultText ?? "none") |") == true, "\(attribute.name)")
        }
    }
}
