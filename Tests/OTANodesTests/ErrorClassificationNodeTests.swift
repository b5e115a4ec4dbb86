import NodeKit
import NodeTesting
import OTA
import Testing

@testable import OTANodes

@Suite struct ErrorClassificationNodeTests {
    private let domain: NodeDomain

    init() async throws { self.domain = try await NodeDomain() }

    private func classify(_ metadata: Metadata, _ data: JSON = [:]) async throws -> (
        message: Message, relation: Relation
    ) {
        let node = try ErrorClassificationNode.make(services: self.domain.services())
        return try await node.process(.of(.postTelemetryRequest, metadata, data)).only
    }

    @Test(
        arguments: [
            ("CHECKSUM_MISMATCH", .checksumMismatch), ("error: network_error (checksum ok)", .networkError),
            ("INSTALLATION_FAILED because of NETWORK_ERROR", .installationFailed),
            ("Checksum verification failed!", .checksumMismatch), ("Verification failed", .checksumMismatch),
            ("wrong SHA256", .checksumMismatch), ("hash differs", .checksumMismatch),
            ("Connection reset by peer", .networkError), ("request TIMED OUT", .networkError),
            ("ETIMEDOUT", .networkError),
            ("host unreachable", .networkError), ("Failed to download", .networkError),
            ("ENOSPC", .insufficientStorage), ("No space left on device", .insufficientStorage),
            ("no space left to install", .insufficientStorage), ("Memory full while hashing", .insufficientStorage),
            ("signature verification failed", .invalidPackage), ("Invalid image", .invalidPackage),
            ("corrupt header", .invalidPackage), ("unknown file format", .invalidPackage),
            ("Install script returned 3", .installationFailed), ("could not flash", .installationFailed),
            ("rollback after boot loop", .installationFailed), ("Update failed", .installationFailed),
            ("no more information", nil), ("crash", nil), ("", nil), ("42", nil), ("ошибка", nil),
        ] as [(String, OtaErrorClass?)]
    )
    func `tells the class by the device's words`(text: String, errorClass: OtaErrorClass?) async throws {
        let (message, relation) = try await self.classify(["packageType": "FIRMWARE", "fw_error": .string(text)])
        #expect(relation.rawValue == errorClass?.rawValue ?? "Unknown")
        #expect(message.metadata.string("errorClass") == errorClass?.rawValue)
        #expect(self.domain.updates.look { $0.classes } == [errorClass])
    }

    @Test func `reads the data if the metadata has no reason`() async throws {
        let metadata: Metadata = ["packageType": "SOFTWARE"]
        #expect(
            try await self.classify(metadata, ["sw_error": "crc", "fw_error": "boot"]).relation == "CHECKSUM_MISMATCH"
        )
    }

    @Test func `takes the reason that the device told before`() async throws {
        try await self.domain.assign()
        let report = StateReport(
            type: .firmware,
            state: "FAILED",
            error: "timeout",
            timestamp: self.domain.domain.now()
        )
        _ = try await self.domain.store.record(report, of: self.domain.device)
        #expect(try await self.classify(["packageType": "FIRMWARE"]).relation == "NETWORK_ERROR")
    }

    @Test func `a device that gives no reason is Unknown`() async throws {
        #expect(try await self.classify(["packageType": "FIRMWARE"]).relation == "Unknown")
    }

    @Test func `has a relation for each class`() {
        let relations = ErrorClassificationNode.descriptor.relations.map(\.relation.rawValue)
        #expect(relations == OtaErrorClass.allCases.map(\.rawValue) + ["Unknown", "Failure"])
    }

    @Test func `a store that does not answer is a failure`() async throws {
        await self.domain.close()
        await #expect(throws: NodeError.self) {
            try await self.classify(["packageType": "FIRMWARE", "fw_error": "crc"])
        }
    }
}
