import NodeKit
import OTA
import Testing

@testable import Store

@Suite struct CacheTests {
    @Test("a cache holds its limit and no more, and keeps what is used")
    func limit() {
        var cache = BoundedCache<Int, Int>(limit: 10)
        for number in 0..<1000 {
            cache.insert(number, forKey: number)
            #expect(cache.count <= 10)
            #expect(cache.value(forKey: 0) == 0)
            #expect(cache.value(forKey: number) == number)
        }
        #expect(cache.value(forKey: 1) == nil)
        cache.insert(5, forKey: 999)
        #expect(cache.value(forKey: 999) == 5)
        cache.remove(999)
        #expect(cache.value(forKey: 999) == nil)
        cache.removeAll()
        #expect(cache.count == 0)
    }

    @Test("what was read before something was forgotten is not kept")
    func staleRead() {
        let caches = StoreCaches()
        let key = StoreCaches.DevicePackage(device: .random(), type: .firmware)
        let version = caches.version
        var effects = Effects()
        effects.devices = [key.device]
        caches.forget(effects)
        caches.keep(.random(), for: key, readAt: version)
        #expect(caches.effectivePackage(key) == .unknown)
        caches.keep(nil, for: key, readAt: caches.version)
        #expect(caches.effectivePackage(key) == .absent)
        caches.forget(effects)
        #expect(caches.effectivePackage(key) == .unknown)
    }

    @Test("readers never see an old package once a save has returned")
    func noStaleWindow() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let packages = [
                try await fixture.package("fw", "1", in: profile.id),
                try await fixture.package("fw", "2", in: profile.id),
            ]
            let device = try await fixture.device(in: profile.id)
            try await withThrowingTaskGroup { group in
                for _ in 0..<4 {
                    group.addTask {
                        while !Task.isCancelled {
                            _ = try await store.effectivePackage(for: device.id, type: .firmware)
                            // What is in memory is returned without a pause, and there are few threads.
                            await Task.yield()
                        }
                    }
                }
                for round in 0..<100 {
                    let package = packages[round % 2]
                    try await fixture.assign(package.id, to: device.id)
                    #expect(try await store.effectivePackage(for: device.id, type: .firmware)?.package.id == package.id)
                }
                group.cancelAll()
                try await group.waitForAll()
            }
        }
    }

    @Test("how a device may connect follows its profile at once")
    func transport() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            var profile = try await fixture.profile()
            let other = try await store.saveDeviceProfile(
                DeviceProfile(name: "other", settings: ["transportType": "COAP"])
            )
            var device = try await fixture.device(in: profile.id)
            let originator = Originator(id: device.id.uuid, name: device.name, type: profile.name)
            #expect(try await store.transport(of: originator) == .any)
            profile.settings = ["transportType": "LWM2M"]
            profile = try await store.saveDeviceProfile(profile)
            #expect(try await store.transport(of: originator) == ProfileTransport(kind: .lwm2m))
            device.deviceProfileId = other.id
            device = try await store.saveDevice(device, accessToken: nil)
            #expect(try await store.transport(of: originator) == ProfileTransport(kind: .coap))
            try await store.deleteDevice(device.id)
            #expect(try await store.transport(of: originator) == .any)
        }
    }

    @Test("whoever has shown who it is, is known to connect as its profile says, without another look")
    func transportAlong() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await store.saveDeviceProfile(
                DeviceProfile(name: "other", settings: ["transportType": "COAP"])
            )
            let device = try await fixture.device(in: profile.id)
            let token = "token of \(device.name)"
            #expect(store.caches.transport(of: device.id.uuid) == nil)
            #expect(try await store.device(clientId: "c", userName: token, password: nil)?.id == device.id.uuid)
            #expect(store.caches.transport(of: device.id.uuid) == ProfileTransport(kind: .coap))
        }
    }

    @Test("which package a device should have is in memory once it was asked for, as it is now or not at all")
    func knownPackage() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let profile = try await fixture.profile()
            let first = try await fixture.package("fw", "1.0", in: profile.id)
            let second = try await fixture.package("fw", "2.0", in: profile.id)
            let device = try await fixture.device("a", in: profile.id)
            func known() -> Cached<OtaPackageId> {
                switch store.known(effectiveFor: device.id, type: .firmware) {
                case .hit(let package): .hit(package.package.id)
                case .absent: .absent
                case .unknown: .unknown
                }
            }
            #expect(known() == .unknown)
            #expect(try await store.effectivePackage(for: device.id, type: .firmware) == nil)
            #expect(known() == .absent)
            for package in [first, second] {
                try await fixture.assign(package.id, to: device.id)
                #expect(known() == .unknown)
                _ = try await store.effectivePackage(for: device.id, type: .firmware)
                #expect(known() == .hit(package.id))
                #expect(store.known(package.id).found?.package.id == package.id)
            }
            try await fixture.assign(nil, to: device.id)
            try await store.deleteOtaPackage(second.id)
            #expect(known() == .unknown)
            #expect(store.known(second.id).found == nil)
        }
    }

    @Test("who has an access token is in memory once it was asked for, as it is now or not at all")
    func known() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            var profile = try await fixture.profile()
            var device = try await fixture.device("a", in: profile.id)
            let token = "token of a"
            func ask() async throws {
                let originator = try #require(try await store.device(accessToken: token))
                _ = try await store.transport(of: originator)
                let known = try #require(store.known(accessToken: token).found)
                #expect(known.device == originator)
            }
            #expect(store.known(accessToken: "").found == nil)
            try await ask()
            #expect(store.known(accessToken: token).found?.transport == .any)
            device.name = "b"
            device = try await store.saveDevice(device, accessToken: nil)
            #expect(store.known(accessToken: token).found?.device.name != "a")
            try await ask()
            profile.settings = ["transportType": "LWM2M"]
            profile = try await store.saveDeviceProfile(profile)
            #expect(store.known(accessToken: token).found?.transport != .any)
            try await ask()
            #expect(store.known(accessToken: token).found?.transport == ProfileTransport(kind: .lwm2m))
            var credentials = try #require(try await store.findCredentials(of: device.id))
            credentials.credentialsId = "another"
            _ = try await store.saveCredentials(credentials)
            #expect(store.known(accessToken: token).found == nil)
        }
    }
}
