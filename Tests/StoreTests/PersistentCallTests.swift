import FoundationEssentials
import NodeKit
import OTA
import StoreTesting
import Testing

@testable import Store

@Suite struct PersistentCallTests {
    private static func call(
        _ device: Device,
        _ method: String = "m",
        expires: Int64 = 2_000_000_000_000,
        retries: Int = 1
    ) -> PersistentCall {
        PersistentCall(
            device: Originator(id: device.id.uuid, name: device.name, type: "profile"),
            createdTime: Timestamp(milliseconds: 5),
            expirationTime: Timestamp(milliseconds: expires),
            method: method,
            params: ["a": [1, nil]],
            isOneWay: false,
            timeout: .milliseconds(7500),
            retriesLeft: retries,
            additionalInfo: "x"
        )
    }

    @Test("a call is what it was when it is read again, and goes with its device")
    func whole() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: try await fixture.profile().id)
            let call = Self.call(device)
            try await store.addCall(call)
            #expect(try await store.call(call.id) == call)
            #expect(try await store.nextCall(of: device.id) == call)
            #expect(await store.devicesWithNewCalls() == [device.id.uuid])
            #expect(try await store.call(.random()) == nil)
            await expectRefusal("Device with id [\(DeviceId(call.id.uuid))] is not found", code: .notFound) {
                var stranger = call
                stranger.device.id = call.id.uuid
                try await store.addCall(stranger)
            }
            try await store.deleteDevice(device.id)
            #expect(try await store.call(call.id) == nil)
            #expect(try await !store.deleteCall(call.id))
        }
    }

    @Test("calls come in order, and what is over stays as it is")
    func order() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: try await fixture.profile().id)
            let calls = ["a", "b", "c"].map { Self.call(device, $0) }
            for call in calls { try await store.addCall(call) }
            store.noteTaken(calls[0].id)
            try await store.noteCall(calls[0].id, .successful, response: ["ok": true], retriesLeft: nil)
            #expect(try await store.nextCall(of: device.id)?.method == "b")
            try await store.noteCall(calls[0].id, .failed, response: nil, retriesLeft: nil)
            store.noteTaken(calls[0].id)
            try await store.noteCall(calls[1].id, .queued, response: nil, retriesLeft: 0)
            let over = try #require(try await store.call(calls[0].id))
            #expect(over.status == .successful && over.response == ["ok": true])
            #expect(try await store.call(calls[1].id)?.retriesLeft == 0)
            let page = try await store.calls(of: device.id, status: nil, page: PageLink(pageSize: 2))
            #expect(page.data.map(\.method) == ["c", "b"] && page.totalElements == 3)
            let queued = try await store.calls(
                of: device.id,
                status: .queued,
                page: PageLink(pageSize: 9, ascending: true)
            )
            #expect(queued.data.map(\.method) == ["b", "c"])
            #expect(try await store.deleteCall(calls[1].id))
            #expect(try await store.nextCall(of: device.id)?.method == "c")
        }
    }

    @Test("what was on its way waits again after a restart, and what waits too long expires")
    func restart() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: try await fixture.profile().id)
            let call = Self.call(device, expires: 1000)
            try await store.addCall(call)
            store.noteTaken(call.id)
            try await store.expireCalls(at: Timestamp(milliseconds: 1000))
            #expect(try await store.call(call.id)?.status == .sent)
            try await store.requeueCalls()
            #expect(try await store.call(call.id)?.status == .queued)
            try await store.expireCalls(at: Timestamp(milliseconds: 999))
            #expect(try await store.call(call.id)?.status == .queued)
            try await store.expireCalls(at: Timestamp(milliseconds: 1000))
            #expect(try await store.call(call.id)?.status == .expired)
        }
    }

    @Test("so many calls of a device may wait and not one more; of those that are over the newest are kept")
    func limits() async throws {
        try await StoreFixture.with { fixture in
            let store = fixture.store
            let device = try await fixture.device(in: try await fixture.profile().id)
            var first: PersistentCallId?
            for _ in 0..<PersistentCallRules.deviceCallsMax {
                let call = Self.call(device)
                first = first ?? call.id
                try await store.addCall(call)
            }
            await expectRefusal(
                "\(PersistentCallRules.deviceCallsMax) calls of this device wait already; delete some, or wait until they are over",
                code: .tooManyRequests
            ) { try await store.addCall(Self.call(device)) }
            try await store.noteCall(try #require(first), .failed, response: nil, retriesLeft: nil)
            for _ in 0..<PersistentCallRules.finishedCallsMax + 1 {
                let call = Self.call(device)
                try await store.addCall(call)
                try await store.noteCall(call.id, .timeout, response: nil, retriesLeft: nil)
            }
            let over = try await store.calls(of: device.id, status: .timeout, page: PageLink(pageSize: 1))
            #expect(over.totalElements == PersistentCallRules.finishedCallsMax)
            #expect(try await store.call(try #require(first)) == nil)
        }
    }
}
