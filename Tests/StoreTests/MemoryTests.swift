import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import Store

/// The store in memory, which tests of nodes and chains work on.
@Suite struct MemoryTests {
    @Test("a domain in memory is open in less than two milliseconds")
    func opening() throws {
        // The first one makes the tables that the others copy.
        _ = try TestDomain()
        let times = try (0..<40).map { _ in try ContinuousClock().measure { _ = try TestDomain() } }
        // The shortest, as the machine has other work.
        let time = try #require(times.min())
        #expect(time < .milliseconds(2), "\(time)")
    }

    @Test("two domains share nothing")
    func apart() async throws {
        let (one, other) = (try TestDomain(), try TestDomain())
        let device = try await one.device()
        _ = try await one.package()
        #expect(try await one.store.findDeviceById(device.id) != nil)
        #expect(try await other.store.findDeviceById(device.id) == nil)
        #expect(
            try await other.store.findOtaPackages(
                of: .main,
                deviceProfileId: nil,
                type: nil,
                hasData: nil,
                page: PageLink(pageSize: 10, page: 0)
            ).totalElements == 0
        )
    }

    @Test("a write is committed when the call that begins it returns")
    func inline() async throws {
        let domain = try TestDomain()
        let device = try await domain.device()
        let write = try domain.store.beginSavingAttributes(of: device.id, scope: .client, ["a": 1], at: domain.now())
        #expect(domain.store.writer.waitingCount == 0)
        #expect(try await domain.attributes(of: device.id, .client) == ["a": 1])
        try await write.stored()
    }

    @Test("who is told of a write may write at once, and that is done when the first write returns")
    func reentrant() async throws {
        let domain = try TestDomain()
        let device = try await domain.device()
        _ = domain.sessions.subscribe(device.id.uuid) { notification in
            guard case .attributesUpdated = notification else { return }
            _ = try? domain.store.beginSavingAttributes(of: device.id, scope: .client, ["told": true], at: domain.now())
        }
        try await domain.store.saveAttributes(of: device.id, scope: .shared, ["a": 1], at: domain.now())
        #expect(try await domain.attributes(of: device.id, .client) == ["told": true])
    }

    @Test("writes from many threads are all done, one after the other")
    func threads() async throws {
        let domain = try TestDomain()
        let device = try await domain.device()
        try await withThrowingDiscardingTaskGroup { group in
            for number in 0..<200 {
                group.addTask {
                    let point = TelemetryPoint(timestamp: Timestamp(milliseconds: Int64(number)), values: ["n": 1])
                    try await domain.store.saveTimeseries(of: device.id, [point], at: domain.now())
                }
            }
        }
        let count = try await domain.store.read { db in try db.integer("SELECT count(*) FROM ts WHERE key = 'n'") }
        #expect(count == 200)
        await domain.store.close()
        await #expect(throws: NodeError.self) {
            try await domain.store.saveAttributes(of: device.id, scope: .shared, ["a": 1], at: domain.now())
        }
        await #expect(throws: NodeError.self) { try await domain.store.findDeviceById(device.id) }
    }

    @Test("a write that fails leaves nothing behind")
    func undone() async throws {
        let domain = try TestDomain()
        let device = try await domain.device()
        for kind in [true, false] {
            await #expect(throws: NodeError.self) {
                try await domain.store.write(repeatable: kind) { db, _ in
                    try db.run("DELETE FROM device")
                    throw NodeError(.conflict, "no")
                }
            }
        }
        #expect(try await domain.store.findDeviceById(device.id) != nil)
    }

    @Test("the bytes of packages are kept once, read without a wait, and go with the last package")
    func packages() async throws {
        let domain = try TestDomain()
        let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
        let one = try await domain.package("a", bytes: bytes)
        let two = try await domain.package("b", bytes: bytes)
        #expect(one.dataSize == 100_000 && one.sha256 == two.sha256)
        let content = try #require(try await domain.store.content(of: two.id))
        #expect(try await content.readAll(99_998..<100_000) == ByteBuffer(bytes: bytes.suffix(2)))
        await #expect(throws: NodeError.self) { try await content.readAll(99_999..<100_001) }
        try await domain.store.deleteOtaPackage(one.id)
        #expect(try await domain.store.storages[.files].inventory().count == 1)
        try await domain.store.deleteOtaPackage(two.id)
        #expect(try await domain.store.storages[.files].inventory().isEmpty)
        // Who holds the bytes may read them still.
        #expect(try await content.readAll(0..<1) == ByteBuffer(bytes: [0]))
        let upload = try await domain.store.upload(
            creating: OtaPackage(
                deviceProfileId: nil,
                type: .firmware,
                title: "c",
                version: "1"
            )
        )
        try await upload.write(ByteBuffer(bytes: bytes))
        await upload.cancel()
        #expect(try await domain.store.check() == [])
    }

    @Test("the store does its own work when the clock says so, and not before", .timeLimit(.minutes(1)))
    func time() async throws {
        let domain = try TestDomain()
        let package = try await domain.package(bytes: [1, 2, 3, 4])
        let device = try await domain.device(firmware: package.id)
        let effective = try #require(try await domain.store.package(package.id))
        domain.store.served(0..<1, of: effective, to: device.id)
        let progress = { try await domain.store.updateRecord(of: device.id, type: .firmware)?.progress }
        let run = Task { await domain.store.run() }
        await domain.clock.sleeper(for: SQLiteStore.progressInterval)
        #expect(try await progress() == nil)
        domain.clock.advance(by: SQLiteStore.progressInterval)
        while try await progress() == nil { await Task.yield() }
        #expect(try await progress() == 25)
        run.cancel()
        await run.value
    }
}
