import FoundationEssentials
import GRDB
import NIOCore
import NodeKit
import OTA
import StoreTesting
import Testing

@testable import Store

/// Every fault that the doctor knows is made here, found, and mended where that is possible.
@Suite struct DoctorTests {
    /// Runs a test with a data folder that holds two packages, one in each storage, and a device that has the first.
    private static func withFolder(_ body: (Folder) async throws -> Void) async throws {
        try await StoreFixture.withFolder { path in
            let folder = Folder(path: path)
            let store = try await folder.open()
            var profile = try await store.saveDeviceProfile(DeviceProfile(name: "p"))
            let package = try await folder.package("fw", in: profile.id, store)
            profile.firmwareId = package.id
            _ = try await store.saveDeviceProfile(profile)
            _ = try await store.saveDevice(Device(name: "d", deviceProfileId: profile.id), accessToken: "t")
            await store.close()
            let other = try await folder.open(.sqlite)
            _ = try await folder.package("sw", type: .software, in: profile.id, other)
            await other.close()
            #expect(try await folder.examine().findings == [])
            try await body(folder)
        }
    }

    private struct Folder {
        let path: String

        func open(_ storage: PackageStorage = .files) async throws -> SQLiteStore {
            try await SQLiteStore.open(
                directory: self.path,
                sessions: DeviceSessions(),
                options: PackageStorageTests.options(storage)
            )
        }

        func package(
            _ title: String,
            type: OtaPackageType = .firmware,
            in profile: DeviceProfileId,
            _ store: SQLiteStore
        ) async throws -> OtaPackage {
            let package = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile, type: type, title: title, version: "1")
            )
            return try await self.upload(title, to: package.id, store)
        }

        @discardableResult
        func upload(_ title: String, to id: OtaPackageId, _ store: SQLiteStore) async throws -> OtaPackage {
            let upload = try await store.upload(to: id)
            try await upload.write(ByteBuffer(string: "the bytes of \(title)"))
            return try await upload.finish(fileName: "f", contentType: "t", algorithm: .crc32, checksum: nil)
        }

        func examine(repair: Bool = false) async throws -> StoreDoctor.Report {
            try await StoreDoctor(directory: self.path).examine(repair: repair)
        }

        /// Changes rows as no store would.
        func damage(_ sql: String) throws {
            var configuration = GRDB.Configuration()
            configuration.foreignKeysEnabled = false
            let database = try DatabaseQueue(path: "\(self.path)/windlass.sqlite", configuration: configuration)
            try database.writeWithoutTransaction { db in
                try db.execute(sql: "PRAGMA ignore_check_constraints = ON; \(sql)")
            }
            try database.close()
        }

        var packageFile: URL {
            get throws {
                let name = try FileManager.default.contentsOfDirectory(atPath: "\(self.path)/packages")
                return URL(filePath: "\(self.path)/packages/\(try #require(name.first))")
            }
        }

        func write(_ text: String, to name: String) throws {
            try Data(text.utf8).write(to: URL(filePath: "\(self.path)/packages/\(name)"))
        }
    }

    /// How to make a fault that rows have.
    private static let rowFaults: [(code: StoreFinding.Code, sql: String)] = [
        (.databaseDamaged, "UPDATE update_record SET progress = 200"),
        (.danglingReference, "UPDATE device_credentials SET device = 4711"),
        (.credentialsMissing, "DELETE FROM device_credentials"),
        (.unreadableValue, "UPDATE device SET additional_info = '{'"),
        (.unreadableValue, "UPDATE device_profile SET settings = ''"),
        (.unreadableValue, "INSERT INTO message_queue (queue, message) VALUES ('q', 'x')"),
        (.unreadableValue, "UPDATE ts SET kind = 4, value = '[' WHERE key = 'fw_state'"),
        (.unreadableValue, "UPDATE ts SET kind = 1 WHERE key = 'fw_state'"),
        (.unreadableValue, "INSERT INTO attribute VALUES (1, 'CLIENT_SCOPE', 'k', 0, 2, 0)"),
        (.defaultProfile, "UPDATE device_profile SET is_default = 0"),
        (.wrongTenant, "UPDATE ota_package SET tenant_id = randomblob(16)"),
        (.wrongTenant, "UPDATE device SET tenant_id = randomblob(16)"),
        (.updateRecord, "DELETE FROM update_record"),
        (.updateRecord, "UPDATE update_record SET package_id = (SELECT id FROM ota_package WHERE title = 'sw')"),
        (.updateRecord, "UPDATE update_record SET queued_time = NULL"),
        (
            .unprovenUpdate,
            "UPDATE update_record SET state = 'UPDATED', updated_time = 1, active_time = 9e15, served_time = NULL"
        ),
        (.staleAssignment, "UPDATE assignment SET package_id = NULL"),
        (.historyGap, "DELETE FROM update_history"),
        (.newestState, "UPDATE latest_state SET value = 'UPDATED'"),
        (.newestState, "DELETE FROM latest_state"),
    ]

    @Test("a fault of rows is found, and stays if it cannot be mended without a loss", arguments: rowFaults.indices)
    func rows(index: Int) async throws {
        let fault = Self.rowFaults[index]
        try await Self.withFolder { folder in
            try folder.damage(fault.sql)
            let report = try await folder.examine(repair: true)
            #expect(report.findings.contains { $0.code == fault.code }, "\(report.findings)")
            #expect(report.findings.allSatisfy { !$0.isRepairable && !$0.remedy.isEmpty })
            #expect(report.repaired == [])
        }
    }

    @Test(
        "when the newest state is removed, the newest that can be takes its place, by whatever program",
        .bug(id: "D2.5"),
        arguments: [false, true]
    )
    func removedState(isOther: Bool) async throws {
        try await Self.withFolder { folder in
            let now = Timestamp.now
            let store = try await folder.open()
            let device = try #require(try await store.findDeviceByName("d", of: .main)).id
            for (seconds, state) in [(10, "A"), (3600, "B"), (10 * 365 * 86_400, "far")] as [(Int64, String)] {
                let time = now.adding(.seconds(seconds))
                let point = TelemetryPoint(timestamp: time, values: ["fw_state": .string(state)])
                try await store.saveTimeseries(of: device, [point], at: now)
            }
            let time = now.adding(.seconds(3600))
            func noted() async throws -> String? {
                let store = try await folder.open()
                let noted = try await store.read { db in
                    try String.fetchOne(db, sql: "SELECT value FROM latest_state")
                }
                await store.close()
                return noted
            }
            if !isOther { try await store.deleteTimeseries(of: device, keys: ["fw_state"], in: time...time) }
            await store.close()
            if isOther {
                #expect(try await noted() == "B")
                #expect(try await folder.examine().findings == [])
                try folder.damage("DELETE FROM ts WHERE value = 'B'")
            }
            #expect(try await noted() == "A")
            #expect(try await folder.examine().findings == [])
        }
    }

    @Test(
        "a newest state that lies ahead is no fault, whatever the setting of the host",
        .bug(id: "D2.5"),
        arguments: [nil, .seconds(60), .zero] as [Duration?]
    )
    func stateAhead(limit: Duration?) async throws {
        try await Self.withFolder { folder in
            var options = SQLiteStore.Options()
            options.timestampAheadMax = limit
            let store = try await SQLiteStore.open(
                directory: folder.path,
                sessions: DeviceSessions(),
                options: options
            )
            let device = try #require(try await store.findDeviceByName("d", of: .main)).id
            for seconds in [10 * 365 * 86_400, 3600, 0] {
                let time = Timestamp.now.adding(.seconds(seconds))
                let point = TelemetryPoint(timestamp: time, values: ["fw_state": "QUEUED"])
                try await store.saveTimeseries(of: device, [point], at: time)
            }
            await store.close()
            #expect(try await folder.examine().findings == [])
        }
    }

    @Test("every kind of fault has a test that makes it")
    func complete() {
        let tested: Set<StoreFinding.Code> = [
            .bytesMissing, .bytesSize, .bytesChecksum, .bytesUnreadable, .orphan, .unfinishedUpload, .foreignFile,
        ]
        #expect(Set(Self.rowFaults.map(\.code)).union(tested) == Set(StoreFinding.Code.allCases))
    }

    @Test("a database that is no database, or is cut off, is found damaged")
    func file() async throws {
        try await Self.withFolder { folder in
            let file = URL(filePath: "\(folder.path)/windlass.sqlite")
            let whole = try Data(contentsOf: file)
            try whole.prefix(whole.count / 2).write(to: file)
            let cut = try await folder.examine()
            #expect(cut.findings.contains { $0.code == .databaseDamaged })
            try Data(repeating: 0x41, count: 8192).write(to: file)
            let other = try await folder.examine()
            #expect(other.findings.map(\.code) == [.databaseDamaged])
        }
    }

    @Test("missing bytes are found, and come back with another upload")
    func missing() async throws {
        try await Self.withFolder { folder in
            try FileManager.default.removeItem(at: folder.packageFile)
            try folder.damage("DELETE FROM package_chunk; DELETE FROM package_blob")
            let report = try await folder.examine(repair: true)
            #expect(
                report.findings.map(\.description).sorted() == [
                    "the bytes of the package 'fw 1' are missing [bytes-missing]",
                    "the bytes of the package 'sw 1' are missing [bytes-missing]",
                ]
            )
            let store = try await folder.open()
            let page = try await store.findOtaPackages(
                of: .main,
                deviceProfileId: nil,
                type: nil,
                hasData: nil,
                page: PageLink(pageSize: 10)
            )
            for package in page.data { try await folder.upload(package.title, to: package.id, store) }
            await store.close()
            #expect(try await folder.examine().findings == [])
        }
    }

    @Test(
        "damaged bytes are found, and removed so that they can be uploaded again",
        arguments: ["x", "THE bytes of fw"]
    )
    func damagedFile(text: String) async throws {
        try await Self.withFolder { folder in
            let file = try folder.packageFile
            try Data(text.utf8).write(to: file)
            let blob =
                text == "x"
                ? "DELETE FROM package_chunk"
                : "UPDATE package_chunk SET bytes = CAST(x'00' || substr(bytes, 2) AS BLOB)"
            try folder.damage(blob)
            let code: StoreFinding.Code = text == "x" ? .bytesSize : .bytesChecksum
            let found = try await folder.examine()
            #expect(found.findings.map(\.code) == [code, code])
            #expect(found.findings.count { $0.isRepairable } == 2)
            #expect(FileManager.default.fileExists(atPath: file.path))
            let mended = try await folder.examine(repair: true)
            #expect(mended.repaired.map(\.code) == [code, code])
            #expect(mended.findings.map(\.code) == [.bytesMissing, .bytesMissing])
        }
    }

    @Test("bytes that the disk does not give are found")
    func unreadable() async throws {
        try await Self.withFolder { folder in
            let file = try folder.packageFile
            try FileManager.default.removeItem(at: file)
            // A folder cannot be read as a file, whoever asks.
            try FileManager.default.createDirectory(at: file, withIntermediateDirectories: false)
            let report = try await folder.examine()
            #expect(report.findings.map(\.code) == [.bytesUnreadable])
        }
    }

    @Test("orphans and uploads that were cut off are found and removed; foreign files are only named")
    func leftovers() async throws {
        try await Self.withFolder { folder in
            let orphan = String(repeating: "a1", count: 32)
            try folder.write("x", to: orphan)
            try folder.write("x", to: "upload-1.part")
            try folder.write("x", to: "README")
            try folder.damage(
                """
                INSERT INTO package_blob (state, chunk_bytes) VALUES ('INCOMING', 65536), ('RELEASED', 65536);
                INSERT INTO package_blob (state, chunk_bytes, sha256, size) VALUES ('STORED', 65536, '\(orphan)', 1)
                """
            )
            let codes: [StoreFinding.Code] = [.foreignFile, .orphan, .unfinishedUpload, .unfinishedUpload, .orphan]
            #expect(try await folder.examine().findings.map(\.code) == codes)
            let mended = try await folder.examine(repair: true)
            #expect(mended.repaired.map(\.code) == Array(codes.dropFirst()))
            #expect(mended.findings.map(\.description) == ["the file 'README' belongs to no package [foreign-file]"])
        }
    }

    @Test("beside a host that has the folder open it looks, but does not mend; an upload under way is no fault")
    func inUse() async throws {
        try await Self.withFolder { folder in
            for storage in PackageStorage.allCases {
                let store = try await folder.open(storage)
                let package = try await store.saveOtaPackage(
                    OtaPackage(deviceProfileId: nil, type: .firmware, title: "\(storage)", version: "1")
                )
                let upload = try await store.upload(to: package.id)
                try await upload.write(ByteBuffer(string: "bytes"))
                let report = try await folder.examine()
                #expect(report.isInUse)
                #expect(report.findings == [])
                await expectRefusal(
                    "could not repair '\(folder.path)': a host has it open; stop that first, or look without --repair",
                    code: .conflict
                ) { _ = try await folder.examine(repair: true) }
                await upload.cancel()
                await store.close()
            }
            let report = try await folder.examine()
            #expect(!report.isInUse)
            #expect((report.packages, report.devices) == (4, 1))
            #expect(report.bytes == Int64(2 * "the bytes of fw".utf8.count))
        }
    }

    @Test("a folder that is none, and one of another version, are refused with a sentence")
    func refused() async throws {
        try await StoreFixture.withFolder { path in
            let folder = Folder(path: path)
            await expectRefusal(
                "there is no store in '\(path)'; name the folder that a host was given with --data",
                code: .notFound
            ) { _ = try await folder.examine() }
            let names = try FileManager.default.contentsOfDirectory(atPath: path)
            #expect(names == [])
        }
        try await Self.withFolder { folder in
            try folder.damage("INSERT INTO grdb_migrations VALUES ('99')")
            await expectRefusal(
                "could not look through '\(folder.path)': a newer version of Windlass made it; use that version",
                code: .conflict
            ) { _ = try await folder.examine() }
            try folder.damage("DELETE FROM grdb_migrations WHERE identifier IN ('99', '5')")
            await expectRefusal(
                """
                could not look through '\(folder.path)': an older version of Windlass made it; start a host on it once, \
                which brings it up to date
                """,
                code: .conflict
            ) { _ = try await folder.examine() }
        }
    }
}
