import FoundationEssentials
import NIOCore
import NodeKit
import OTA
import StoreTesting
import Testing

@testable import Store

@Suite struct PackageTests {
    @Test(
        "bytes that are uploaded come back, whole and in parts, with their checksums",
        arguments: ChecksumAlgorithm.allCases
    )
    func roundTrip(algorithm: ChecksumAlgorithm) async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
            let saved = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            )
            #expect(saved.hasData == false)
            #expect(try await fixture.store.content(of: saved.id) == nil)
            let upload = try await fixture.store.upload(to: saved.id)
            for start in stride(from: 0, to: bytes.count, by: 65_536) {
                try await upload.write(ByteBuffer(bytes: bytes[start..<min(start + 65_536, bytes.count)]))
            }
            #expect(try await fixture.store.findOtaPackageById(saved.id)?.hasData == false)
            let package = try await upload.finish(
                fileName: "fw.bin",
                contentType: "application/x-fw",
                algorithm: algorithm,
                checksum: ""
            )
            #expect(package.checksum == Checksum.hexadecimal(of: ByteBuffer(bytes: bytes), algorithm))
            #expect(package.checksumAlgorithm == algorithm)
            #expect(package.dataSize == 300_000)
            #expect(package.hasData)
            #expect(package.fileName == "fw.bin")
            #expect(package.contentType == "application/x-fw")
            #expect(try await fixture.store.findOtaPackageById(saved.id) == package)
            #expect(try fixture.packageFiles() == [package.sha256])
            let content = try #require(try await fixture.store.content(of: saved.id))
            #expect(content.size == 300_000)
            for range in [0..<300_000, 0..<0, 300_000..<300_000, 299_999..<300_000, 4095..<4097, 100..<100_100]
                as [Range<Int64>]
            {
                let read = try await content.read(range)
                #expect(Array(read.readableBytesView) == Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
            }
            await #expect(throws: NodeError.self) { _ = try await content.read(299_999..<300_001) }
        }
    }

    @Test("a checksum that is told must be that of the bytes, in lower case")
    func wrongChecksum() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            )
            let bytes = Array("123456789".utf8)
            for wrong in ["2639F4CB", "cbf43926", "2639f4c"] {
                await expectRefusal("Wrong otaPackage file!") {
                    try await fixture.upload(bytes, to: package.id, algorithm: .crc32, checksum: wrong)
                }
                #expect(try fixture.packageFiles() == [])
                #expect(try await fixture.store.findOtaPackageById(package.id) == package)
            }
            try await fixture.upload(bytes, to: package.id, algorithm: .crc32, checksum: "2639f4cb")
        }
    }

    @Test("a checksum given when the package was made is a promise about its bytes")
    func promisedChecksum() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            var package = OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            package.checksumAlgorithm = .crc32
            package.checksum = "2639f4cb"
            package = try await fixture.store.saveOtaPackage(package)
            await expectRefusal("Wrong otaPackage file!") {
                try await fixture.upload(Array("other".utf8), to: package.id, algorithm: .crc32)
            }
            try await fixture.upload(Array("123456789".utf8), to: package.id, algorithm: .crc32)
        }
    }

    @Test("an upload without name, type or bytes is refused and leaves nothing")
    func incomplete() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            )
            func finish(_ bytes: String, _ fileName: String?, _ contentType: String?) async throws {
                let upload = try await fixture.store.upload(to: package.id)
                try await upload.write(ByteBuffer(string: bytes))
                _ = try await upload.finish(
                    fileName: fileName,
                    contentType: contentType,
                    algorithm: .md5,
                    checksum: nil
                )
            }
            await expectRefusal("OtaPackage file name should be specified!") { try await finish("x", nil, "t") }
            await expectRefusal("OtaPackage content type should be specified!") { try await finish("x", "f", "") }
            await expectRefusal("OtaPackage data should be specified!") { try await finish("", "f", "t") }
            #expect(try fixture.packageFiles() == [])
        }
    }

    @Test("an upload that is given up, or that nobody holds any more, leaves nothing", .timeLimit(.minutes(5)))
    func givenUp() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let package = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "fw", version: "1")
            )
            let upload = try await fixture.store.upload(to: package.id)
            try await upload.write(ByteBuffer(string: "half"))
            #expect(try fixture.packageFiles().count == 1)
            await upload.cancel()
            #expect(try fixture.packageFiles() == [])
            await upload.cancel()
            await #expect(throws: NodeError.self) { try await upload.write(ByteBuffer(string: "more")) }
            await #expect(throws: NodeError.self) {
                _ = try await upload.finish(fileName: "f", contentType: "t", algorithm: .md5, checksum: nil)
            }
            do {
                let dropped = try await fixture.store.upload(to: package.id)
                try await dropped.write(ByteBuffer(string: "half"))
            }
            // The thread that wrote may hold it for a moment longer.
            while try !fixture.packageFiles().isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        }
    }

    @Test("packages with the same bytes share a file, which goes with the last of them")
    func sharedFile() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            let first = try await fixture.package("fw", "1", in: profile.id)
            let second = try await fixture.package("fw", "2", in: profile.id)
            #expect(first.sha256 == second.sha256)
            #expect(try fixture.packageFiles().count == 1)
            let content = try #require(try await fixture.store.content(of: first.id))
            try await fixture.store.deleteOtaPackage(first.id)
            #expect(try fixture.packageFiles().count == 1)
            #expect(try await fixture.store.package(first.id) == nil)
            try await fixture.store.deleteOtaPackage(second.id)
            #expect(try fixture.packageFiles() == [])
            // A download under way ends well all the same.
            #expect(try await String(buffer: content.read(0..<9)) == "the bytes")
            await expectRefusal("Ota package with id [\(second.id)] is not found", code: .notFound) {
                try await fixture.store.deleteOtaPackage(second.id)
            }
        }
    }

    @Test("a package stays what it is; the same bytes may be uploaded again")
    func immutable() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            var package = try await fixture.package(in: profile.id)
            try await fixture.upload(Array("the bytes".utf8), to: package.id)
            await expectRefusal("Updating otaPackage content type is prohibited!") {
                try await fixture.upload(Array("other bytes".utf8), to: package.id)
            }
            await expectRefusal("Updating otaPackage content type is prohibited!") {
                try await fixture.upload(Array("the bytes".utf8), to: package.id, algorithm: .md5)
            }
            #expect(try fixture.packageFiles() == [package.sha256])
            package.additionalInfo = ["note": "x"]
            package.sha256 = nil
            let saved = try await fixture.store.saveOtaPackage(package)
            #expect(saved.additionalInfo == ["note": "x"])
            #expect(saved.sha256 != nil)
            #expect(try await fixture.store.package(package.id)?.package == saved)
            package.title = "other"
            await expectRefusal("Updating otaPackage title is prohibited!") {
                _ = try await fixture.store.saveOtaPackage(package)
            }
        }
    }

    @Test("title and version are unique whatever the type, and the profile exists")
    func rules() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            _ = try await fixture.package("x", "1", in: profile.id)
            await expectRefusal("OtaPackage with such title and version already exists!") {
                _ = try await fixture.package("x", "1", type: .software, in: profile.id)
            }
            await expectRefusal("OtaPackage is referencing to non-existent device profile!") {
                _ = try await fixture.package("y", "1", in: .random())
            }
            _ = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: nil, type: .firmware, title: "y", version: "1")
            )
            await expectRefusal("Ota package with id [\(OtaPackageId(profile.id.uuid))] is not found", code: .notFound)
            {
                _ = try await fixture.store.upload(to: OtaPackageId(profile.id.uuid))
            }
            let elsewhere = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "z", version: "1", url: "http://x/z")
            )
            #expect(elsewhere.hasData)
            #expect(try await fixture.store.package(elsewhere.id)?.content == nil)
            await expectRefusal("File can't be saved if URL present!") {
                _ = try await fixture.store.upload(to: elsewhere.id)
            }
        }
    }

    @Test("a package in use is not deleted", arguments: OtaPackageType.allCases)
    func inUse(type: OtaPackageType) async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            var profile = try await fixture.profile()
            let package = try await fixture.package(type: type, in: profile.id)
            var device = try await fixture.device(in: profile.id)
            let word = type == .firmware ? "otaPackage" : "software"
            device[type] = package.id
            device = try await store.saveDevice(device, accessToken: nil)
            await expectRefusal("The \(word) referenced by the devices cannot be deleted!") {
                try await store.deleteOtaPackage(package.id)
            }
            device[type] = nil
            _ = try await store.saveDevice(device, accessToken: nil)
            if type == .firmware { profile.firmwareId = package.id } else { profile.softwareId = package.id }
            profile = try await store.saveDeviceProfile(profile)
            await expectRefusal("The \(word) referenced by the device profile cannot be deleted!") {
                try await store.deleteOtaPackage(package.id)
            }
            #expect(try await store.findOtaPackageByDeviceProfileIdAndType(profile.id, type) == package)
            await expectRefusal("The device profile referenced by the devices cannot be deleted!") {
                try await store.deleteDeviceProfile(profile.id)
            }
            try await store.deleteDevice(device.id)
            _ = try await store.package(package.id)
            try await store.deleteDeviceProfile(profile.id)
            #expect(try await store.findOtaPackageById(package.id) == nil)
            #expect(try await store.package(package.id) == nil)
            #expect(try fixture.packageFiles() == [])
        }
    }

    @Test("packages are listed by profile, type and whether they can be assigned")
    func pages() async throws {
        try await StoreFixture.with { fixture in
            let profile = try await fixture.profile()
            _ = try await fixture.package("a", "1", in: profile.id)
            _ = try await fixture.package("b", "1", type: .software, in: profile.id)
            let everybodys = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: nil, type: .firmware, title: "c", version: "1")
            )
            try await fixture.upload([1], to: everybodys.id)
            _ = try await fixture.store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "d", version: "1")
            )
            func titles(_ profile: DeviceProfileId?, _ type: OtaPackageType?, _ hasData: Bool?) async throws -> [String]
            {
                let link = PageLink(pageSize: 9, sortProperty: "title", ascending: true)
                return try await fixture.store.findOtaPackages(
                    of: .main,
                    deviceProfileId: profile,
                    type: type,
                    hasData: hasData,
                    page: link
                ).data.map(\.title)
            }
            #expect(try await titles(nil, nil, nil) == ["a", "b", "c", "d"])
            #expect(try await titles(profile.id, nil, nil) == ["a", "b", "d"])
            #expect(try await titles(profile.id, .firmware, nil) == ["a", "d"])
            #expect(try await titles(profile.id, .firmware, true) == ["a"])
            #expect(try await titles(nil, nil, false) == ["d"])
        }
    }

    @Test("the effective package is the device's own, else its profile's, and changes when a save returns")
    func effective() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let first = try await fixture.package("fw", "1", in: profile.id)
            let second = try await fixture.package("fw", "2", in: profile.id)
            let device = try await fixture.device(in: profile.id)
            func effective() async throws -> OtaPackageId? {
                try await store.effectivePackage(for: device.id, type: .firmware)?.package.id
            }
            #expect(try await effective() == nil)
            try await fixture.assign(first.id, to: profile.id)
            #expect(try await effective() == first.id)
            try await fixture.assign(second.id, to: device.id)
            #expect(try await effective() == second.id)
            let one = try await store.effectivePackage(for: device.id, type: .firmware)
            #expect(try await store.package(second.id) === one)
            try await fixture.assign(nil as OtaPackageId?, to: device.id)
            #expect(try await effective() == first.id)
            #expect(try await store.effectivePackage(for: device.id, type: .software) == nil)
            #expect(try await store.effectivePackage(for: .random(), type: .firmware) == nil)
        }
    }

    @Test func thePackagesOfATenantHaveTogetherAsManyBytesAsItMayStore() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            var tenant = try #require(try await store.findTenantById(.main))
            tenant.details = ["maxOtaPackagesInBytes": 10]
            _ = try await store.saveTenant(tenant)
            let profile = try await fixture.profile()
            _ = try await fixture.package("a", in: profile.id, bytes: Array("1234567".utf8))
            let second = try await store.saveOtaPackage(
                OtaPackage(deviceProfileId: profile.id, type: .firmware, title: "b", version: "1")
            )
            await expectRefusal("Ota packages total size exceeds the maximum of 10 bytes") {
                try await fixture.upload(Array("1234".utf8), to: second.id)
            }
            #expect(try await store.findOtaPackageById(second.id)?.hasData == false)
            #expect(try await fixture.upload(Array("123".utf8), to: second.id).dataSize == 3)
        }
    }
}
