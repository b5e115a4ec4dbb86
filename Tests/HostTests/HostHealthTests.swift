import Testing

@testable import Host

@Suite struct HostHealthTests {
    @Test("the room on a disk is told, and that of a folder that is none is not known")
    func room() {
        #expect((HostHealth.freeBytes(of: "/") ?? 0) > 0)
        #expect(HostHealth.freeBytes(of: "/nowhere/at/all") == nil)
    }

    @Test("a disk with less room than the limit counts as full")
    func full() {
        #expect(HostHealth.hasRoom(HostHealth.freeBytesMin))
        #expect(!HostHealth.hasRoom(HostHealth.freeBytesMin - 1))
        #expect(HostHealth.hasRoom(nil))
    }

    @Test("the process tells its numbers under Prometheus' names")
    func process() throws {
        let families = ProcessMetrics.families()
        let values = Dictionary(uniqueKeysWithValues: families.map { ($0.name, $0.samples.first?.value ?? -1) })
        for name in [
            "process_cpu_seconds_total", "process_virtual_memory_bytes", "process_resident_memory_bytes",
            "process_threads", "process_start_time_seconds", "process_open_fds", "process_max_fds",
        ] {
            #expect((values[name] ?? -1) > 0, "\(name)")
        }
        #expect((values["process_resident_memory_bytes"] ?? 0) < (values["process_virtual_memory_bytes"] ?? 0))
        // After 2020, and no later than a clock may be wrong.
        #expect((1_577_836_800..<4_000_000_000).contains(values["process_start_time_seconds"] ?? 0))
    }
}
