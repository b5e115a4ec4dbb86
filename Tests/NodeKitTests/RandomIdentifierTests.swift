import Foundation
import NodeKit
import Testing

@Suite struct RandomIdentifierTests {
    @Test("identifiers are of version 4 and differ", .bug(id: "D1.1"))
    func version() {
        let identifiers = (0..<1000).map { _ in UUID.random() }
        #expect(Set(identifiers).count == identifiers.count)
        for identifier in identifiers {
            // RFC 9562 §5.4.
            #expect(identifier.uuid.6 >> 4 == 4 && identifier.uuid.8 >> 6 == 0b10)
        }
        let ones = identifiers.reduce(into: [UInt8](repeating: 0, count: 16)) { ones, identifier in
            withUnsafeBytes(of: identifier.uuid) { bytes in
                for (index, byte) in bytes.enumerated() { ones[index] |= byte }
            }
        }
        #expect(ones == [255, 255, 255, 255, 255, 255, 0x4F, 255, 0xBF, 255, 255, 255, 255, 255, 255, 255])
    }

    @Test("identifiers differ where no file can be opened", .bug(id: "D1.1"))
    func withoutDescriptors() async {
        await #expect(processExitsWith: .success) {
            var limit = rlimit(rlim_cur: 0, rlim_max: 0)
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            try #require(open("/dev/null", O_RDONLY) == -1 && errno == EMFILE)
            let identifiers = Set((0..<100).map { _ in UUID.random() })
            #expect(identifiers.count == 100)
        }
    }
}
