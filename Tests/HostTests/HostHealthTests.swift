import Testing

@testable import Host

@Suite struct HostHealthTests {
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
