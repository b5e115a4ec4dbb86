import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import Store

@Suite struct ServedRangesTests {
    @Test("ranges are joined as they are in a set of bytes", .bug(id: "T1.2"), arguments: 0..<20 as Range<UInt64>)
    func set(seed: UInt64) {
        var random = SplitMix(state: seed)
        var ranges = ServedRanges()
        var bytes = Set<Int64>()
        for _ in 0..<60 {
            let start = Int64.random(in: 0..<100, using: &random)
            let range = start..<(start + Int64.random(in: 0...12, using: &random))
            let isNew = !bytes.isSuperset(of: range)
            bytes.formUnion(range)
            let wasNew = ranges.insert(range)
            #expect(wasNew == isNew)
            #expect(ranges.bytes == Int64(bytes.count))
            #expect(zip(ranges.ranges, ranges.ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
            #expect(ServedRanges(text: ranges.text) == ranges)
        }
        #expect(ranges.cover(10) == bytes.isSuperset(of: 0..<10))
    }

    @Test("there are at most so many ranges; one that joins others finds room", .bug(id: "T1.2"))
    func limit() {
        var ranges = ServedRanges()
        for index in 0..<Int64(ServedRanges.countMax) {
            ranges.insert((index * 10)..<(index * 10 + 5))
        }
        #expect(ranges.ranges.count == ServedRanges.countMax)
        let isTaken = [100_000..<100_001, 5..<10, 100_000..<100_001].map { ranges.insert($0) }
        #expect(isTaken == [false, true, true])
    }

    @Test(
        "a text that is not a list of ranges is read up to where it stops being one",
        arguments: ["", "x", "5", "5-", "-5-6", "6-5", "5-5", "1-2-3", "99999999999999999999-5", ",,"]
    )
    func unreadable(text: String) {
        #expect(ServedRanges(text: text) == ServedRanges())
    }

    @Test("lists that were joined may overlap")
    func joined() {
        #expect(ServedRanges(text: "0-10,20-30,5-25,40-41").text == "0-30,40-41")
    }
}

@Suite struct ServedJournalTests {
    private static func withPath(_ body: (String) throws -> Void) async throws {
        try await StoreFixture.withFolder { folder in try body("\(folder)/served") }
    }

    private static func entry(_ range: Range<Int64>, _ type: OtaPackageType = .firmware) -> ServedJournal.Entry {
        ServedJournal.Entry(
            device: .random(),
            type: type,
            package: .random(),
            range: range,
            time: Timestamp(milliseconds: 7)
        )
    }

    @Test("what was noted is there for who opens the file next, until it is emptied", .bug(id: "T1.2"))
    func entries() async throws {
        try await Self.withPath { path in
            let first = Self.entry(0..<10)
            var second = Self.entry(10..<20, .software)
            do {
                let journal = try ServedJournal(path: path)
                _ = try #require(journal.append(first))
                let place = try #require(journal.append(second))
                #expect(journal.extend(place, to: 30))
                second.range = 10..<30
                #expect(journal.entries == [first, second])
            }
            let journal = try ServedJournal(path: path)
            #expect(journal.entries == [first, second])
            let half = journal.turn()
            let third = Self.entry(5..<6)
            let place = try #require(journal.append(third))
            // The first half is not empty, so the second one stays in use.
            #expect(journal.turn() == half)
            #expect(journal.extend(place, to: 6))
            journal.empty(half)
            #expect(journal.entries == [third])
            #expect(journal.turn() != half)
            #expect(!journal.extend(place, to: 9))
        }
    }

    @Test("a half takes so many entries and not one more")
    func limit() async throws {
        try await Self.withPath { path in
            let journal = try ServedJournal(path: path)
            for _ in 0..<ServedJournal.entriesMax { #expect(journal.append(Self.entry(0..<1)) != nil) }
            #expect(journal.append(Self.entry(0..<1)) == nil)
            #expect(journal.entries.count == ServedJournal.entriesMax)
        }
    }

    @Test("a file that holds anything does no harm")
    func foreign() async throws {
        try await Self.withPath { path in
            var random = SplitMix(state: 1)
            let bytes = (0..<8192).map { _ in UInt8.random(in: 0...255, using: &random) }
            let file = try POSIXFileSystem().create(path, mode: 0o600)
            try bytes.withUnsafeBytes { try POSIXFileSystem().write($0, to: file) }
            let journal = try ServedJournal(path: path)
            #expect(journal.entries.count <= 2 * ServedJournal.entriesMax)
        }
    }

    @Test("a store that ends without closing knows what it served", .bug(id: "T1.2"))
    func recovery() async throws {
        try await StoreFixture.withFolder { folder in
            let path = "\(folder)/data"
            let store = try await SQLiteStore.open(directory: path, sessions: DeviceSessions())
            let profile = try await store.saveDeviceProfile(DeviceProfile(name: "p"))
            let package = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            )
            let upload = try await store.upload(to: package.id)
            try await upload.write(ByteBuffer(repeating: 1, count: 1000))
            _ = try await upload.finish(fileName: "f", contentType: "c", algorithm: .md5, checksum: nil)
            let effective = try #require(try await store.package(package.id))
            let device = try await store.saveDevice(
                Device(name: "d", deviceProfileId: profile.id, firmwareId: package.id),
                accessToken: nil
            )
            store.served(0..<400, of: effective, to: device.id)
            store.served(700..<900, of: effective, to: device.id)
            store.served(400..<700, of: effective, to: device.id)
            // Closing stores nothing that was counted, as if the process had been killed.
            await store.close()
            let next = try await SQLiteStore.open(directory: path, sessions: DeviceSessions())
            #expect(try await next.updateRecord(of: device.id, type: .firmware)?.progress == 90)
            next.served(900..<1000, of: effective, to: device.id)
            await next.close()
            let last = try await SQLiteStore.open(directory: path, sessions: DeviceSessions())
            #expect(try await last.updateRecord(of: device.id, type: .firmware)?.servedTime != nil)
            let report = StateReport(type: .firmware, state: "UPDATED", timestamp: .now)
            #expect(try await last.record(report, of: device.id) == .recorded(.updated))
            await last.close()
        }
    }
}
