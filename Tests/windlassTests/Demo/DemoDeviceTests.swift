import NIOCore
import NodeKit
import Synchronization
import Testing

@testable import windlass

@Suite("The update of the demo's device")
struct DemoDeviceTests {
    static let data = ByteBuffer(string: "hello")
    static let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

    static func offer(size: Int = 5, algorithm: String = "SHA256", checksum: String = Self.sha256) -> FirmwareOffer {
        FirmwareOffer(title: "t", version: "1", size: size, algorithm: algorithm, checksum: checksum)
    }

    @Test("A device reports each state, tells its progress, and ends with the verified checksum")
    func succeeds() async throws {
        let link = FakeLink(offer: Self.offer(), chunks: ["he", "", "llo"])
        let progress = Mutex<[DemoProgress]>([])
        let result = try await FakeDevice(link: link).update { step in progress.withLock { $0.append(step) } }
        #expect(result.state == .updated && result.bytes == 5 && result.isVerified && result.checksum == Self.sha256)
        #expect(
            link.reported.map { $0["fw_state"]?.string } == [
                nil, "DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED",
            ]
        )
        #expect(link.reported.last?["current_fw_version"] == "1")
        #expect(progress.withLock { $0.map(\.bytes) } == [0, 0, 0, 2, 2, 5, 5, 5, 5, 5])
        #expect(link.isClosed)
    }

    @Test(
        "A download that is not what was announced is reported as FAILED with the reason",
        arguments: [
            (Self.offer(checksum: "00"), "CHECKSUM_MISMATCH"), (Self.offer(size: 6), "5 of 6 bytes"),
            (Self.offer(size: 4), "more than the 4 bytes"), (Self.offer(algorithm: "ROT13"), "'ROT13'"),
        ]
    )
    func fails(offer: FirmwareOffer, reason: String) async throws {
        let link = FakeLink(offer: offer, chunks: ["hello"])
        await #expect(throws: DemoError.self) { try await FakeDevice(link: link).update { _ in } }
        let last = try #require(link.reported.last)
        #expect(last["fw_state"] == "FAILED")
        #expect(last["fw_error"]?.string?.contains(reason) == true)
        #expect(link.isClosed)
    }

    @Test(
        "A checksum is computed with the algorithm that is announced",
        arguments: [
            ("MD5", "5d41402abc4b2a76b9719d911017c592"), ("sha256", Self.sha256),
            (
                "SHA384",
                "59e1748777448c69de6b800d7a33bbfb9ff1b463e44354c3553bcdb9c666fa90125a3c79f90397bdf5f6a13de828684f"
            ),
            (
                "SHA512",
                "9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da"
                    + "0c4663475c2e5c3adef46f73bcdec043"
            ),
        ]
    )
    func checksums(algorithm: String, checksum: String) throws {
        var digest = try FirmwareDigest(algorithm: algorithm)
        digest.update(ByteBuffer(string: "hel"))
        digest.update(ByteBuffer(string: "lo"))
        #expect(digest.finish() == checksum)
    }

    @Test("An offer is complete when all of its attributes are there, however they came")
    func offers() throws {
        var attributes = SharedAttributes()
        attributes.merge(["fw_title": "t", "fw_version": "1", "fw_size": 5, "fw_checksum": "c"])
        #expect(attributes.offer == nil)
        attributes.merge(["fw_checksum_algorithm": "SHA256", "fw_tag": "x"])
        #expect(attributes.offer == Self.offer(checksum: "c"))
        attributes.merge(["deleted": ["fw_tag", "fw_size"]])
        #expect(attributes.offer == nil)
        for size: JSON in [0, -1, "5", 1.5] {
            attributes.merge(["fw_size": size])
            #expect(attributes.offer == nil)
        }
    }
}

/// A device whose connection is made up.
private struct FakeDevice: DemoDevice {
    let name = "fake"
    let transport = "fake"
    let link: FakeLink

    func connect() async throws -> any DeviceLink { self.link }
}

/// A connection that offers and serves what it was told to, and remembers what was reported.
private final class FakeLink: DeviceLink {
    private let firmware: FirmwareOffer
    private let chunks: [String]
    private let state = Mutex((reported: [JSON.Object](), isClosed: false))

    init(offer: FirmwareOffer, chunks: [String]) {
        self.firmware = offer
        self.chunks = chunks
    }

    var reported: [JSON.Object] { self.state.withLock { $0.reported } }
    var isClosed: Bool { self.state.withLock { $0.isClosed } }

    func report(_ telemetry: JSON.Object) async throws { self.state.withLock { $0.reported.append(telemetry) } }
    func offer() async throws -> FirmwareOffer { self.firmware }
    func download(_ offer: FirmwareOffer, receive: (ByteBuffer) throws -> Void) async throws {
        for chunk in self.chunks { try receive(ByteBuffer(string: chunk)) }
    }
    func close() async { self.state.withLock { $0.isClosed = true } }
}
