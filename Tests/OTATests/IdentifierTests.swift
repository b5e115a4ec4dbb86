import FoundationEssentials
import NodeKit
import Testing

@testable import OTA

@Suite struct IdentifierTests {
    @Test("an identifier is read from its text in either case, and written in lower case")
    func text() throws {
        for _ in 0..<100 {
            let uuid = UUID.random()
            let upper = uuid.uuidString
            #expect(DeviceId(upper)?.uuid == uuid)
            let identifier = try #require(DeviceId(upper.lowercased()))
            #expect(identifier.uuid == uuid)
            #expect(identifier.description == upper.lowercased())
        }
    }

    @Test(
        "what is no UUID is none",
        arguments: [
            "", "f14a55d0-0000-11ef-8000-00000000000", "f14a55d0-0000-11ef-8000-0000000000011",
            "f14a55d0-0000-11ef-8000-00000000000g", "f14a55d0-0000-11ef-8000000-00000000001",
            "f14a55d000000-11ef-8000-000000000001", "{14a55d0-0000-11ef-8000-00000000001}",
            "f14a55d0_0000_11ef_8000_000000000001", " 14a55d0-0000-11ef-8000-000000000001",
            "f14a55d0-0000-11ef-8000-00000000000\u{E9}", "+14a55d0-0000-11ef-8000-000000000001",
            "-14a55d0-0000-11ef-8000-000000000001", "0x4a55d0-0000-11ef-8000-000000000001",
        ]
    )
    func malformed(_ text: String) { #expect(DeviceId(text) == nil) }
}
