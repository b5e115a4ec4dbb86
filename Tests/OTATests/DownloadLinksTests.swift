import NodeKit
import Testing

@testable import OTA

@Suite struct DownloadLinksTests {
    private let links = DownloadLinks(secret: Array(1...32))
    private let link = DownloadLink(
        device: .random(),
        package: .random(),
        type: .software,
        expires: Timestamp(milliseconds: 2_000_000_000_000)
    )

    @Test("a link says what it was made of, until it expires")
    func whole() throws {
        let text = self.links.text(of: self.link)
        #expect(text.count == 76 && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_".contains($0)) })
        #expect(self.links.link(text, at: Timestamp(milliseconds: 1_999_999_999_999)) == self.link)
        #expect(self.links.link(text, at: self.link.expires) == nil)
        // Never is never, whatever the clock says.
        var old = self.link
        old.expires = Timestamp(milliseconds: -5000)
        #expect(self.links.link(self.links.text(of: old), at: Timestamp(milliseconds: 0)) == nil)
    }

    @Test("a link that was changed anywhere is none, and neither is one of another host")
    func forged() {
        let now = Timestamp(milliseconds: 0)
        let text = self.links.text(of: self.link)
        #expect(DownloadLinks(secret: Array(0...31)).link(text, at: now) == nil)
        for index in text.indices {
            var changed = text
            changed.replaceSubrange(index...index, with: text[index] == "A" ? "B" : "A")
            #expect(self.links.link(changed, at: now) == nil)
        }
        for other in ["", "x", text + "A", String(text.dropLast()), String(repeating: "=", count: 76), text + "===="] {
            #expect(self.links.link(other, at: now) == nil)
        }
        #expect(self.links.link(String(repeating: "ü", count: 38), at: now) == nil)
    }
}
