import Chains
import FoundationEssentials
import Glibc
import NodeKit
import OTA

/// The numbers of a whole host, put together when somebody asks.
struct HostMetrics: Sendable {
    let runtime: ChainRuntime
    let store: any StoreEngine
    let sessions: DeviceSessions
    let registry: Metrics

    func families() async throws -> [MetricFamily] {
        let info = MetricFamily(
            "windlass_build_info",
            .gauge,
            "Always 1; tells the version.",
            [MetricSample(labels: [.init("version", Platform.version)], value: 1)]
        )
        let listening = MetricFamily(
            "windlass_listening_devices",
            .gauge,
            "Devices with a session, or a request that waits for news.",
            [MetricSample(value: Double(self.sessions.deviceCount))]
        )
        let stored = QueueMetrics.adding(self.runtime.queues, to: try await self.store.metrics())
        return [info] + self.chains() + self.registry.families() + [listening] + stored + ProcessMetrics.families()
    }

    private func chains() -> [MetricFamily] {
        let links = self.runtime.linkCounters().map { link in
            MetricSample(
                labels: [
                    .init("chain", link.chain), .init("from", link.from), .init("relation", link.relation),
                    .init("to", link.to),
                ],
                value: Double(link.messages)
            )
        }
        let nodes = self.runtime.nodeCounters().map { node in
            (labels: [MetricSample.Label("chain", node.chain), MetricSample.Label("node", node.node)], node: node)
        }
        func family(_ name: String, _ summary: String, _ value: (NodeCounter) -> UInt64) -> MetricFamily {
            MetricFamily(
                name,
                .counter,
                summary,
                nodes.map { MetricSample(labels: $0.labels, value: Double(value($0.node))) }
            )
        }
        return [
            MetricFamily("windlass_link_messages_total", .counter, "Messages that went along a link.", links),
            family("windlass_node_messages_total", "Messages that a node was given.", \.processed),
            family("windlass_node_failures_total", "Messages that a node threw an error for.", \.failed),
            family("windlass_node_started_total", "Messages that started at a node.", \.started),
            family(
                "windlass_node_unhandled_failures_total",
                "Messages that started at a node and failed, with nothing in the chain to handle it.",
                \.unhandled
            ),
            MetricFamily(
                "windlass_node_seconds",
                .summary,
                "Time from giving a node a message until it has said where that goes, of one in 16 messages.",
                nodes.flatMap { labels, node in
                    [
                        MetricSample(suffix: "_sum", labels: labels, value: node.seconds),
                        MetricSample(suffix: "_count", labels: labels, value: Double(node.timed)),
                    ]
                }
            ),
        ]
    }
}

/// The numbers of the process, under the names that Prometheus' own libraries give them (`man 5 proc`).
enum ProcessMetrics {
    static func families() -> [MetricFamily] {
        var families: [MetricFamily] = []
        func add(_ name: String, _ kind: MetricFamily.Kind, _ summary: String, _ value: Double?) {
            guard let value else { return }
            families.append(MetricFamily(name, kind, summary, [MetricSample(value: value)]))
        }
        var usage = rusage()
        if getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 {
            let seconds = [usage.ru_utime, usage.ru_stime].reduce(0) {
                $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6
            }
            add("process_cpu_seconds_total", .counter, "Time that processors spent on the process.", seconds)
        }
        let status = Self.fields(of: "/proc/self/stat")
        let page = Double(sysconf(Int32(_SC_PAGESIZE)))
        add("process_virtual_memory_bytes", .gauge, "Virtual memory.", status?[20])
        add("process_resident_memory_bytes", .gauge, "Memory that is in use.", status?[21].map { $0 * page })
        add("process_threads", .gauge, "Threads.", status?[17])
        add("process_start_time_seconds", .gauge, "When the process began, since 1970.", Self.start(status?[19]))
        let open = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
        add("process_open_fds", .gauge, "Files and sockets that are open.", open.map(Double.init))
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            add("process_max_fds", .gauge, "Files and sockets that may be open.", Double(limit.rlim_cur))
        }
        return families
    }

    /// The numbers that follow the name in brackets, which may hold anything; the first is the state and no number.
    private static func fields(of path: String) -> [Int: Double]? {
        guard let data = FileManager.default.contents(atPath: path),
            let text = String(decoding: data, as: UTF8.self).split(separator: ")").last
        else { return nil }
        let fields = text.split(whereSeparator: \.isWhitespace).enumerated()
        return Dictionary(fields.compactMap { index, field in Double(field).map { (index, $0) } }) { $1 }
    }

    /// The time of day when the process began, from the ticks between the start of the system and that.
    private static func start(_ ticks: Double?) -> Double? {
        guard let ticks, let data = FileManager.default.contents(atPath: "/proc/stat") else { return nil }
        let lines = String(decoding: data, as: UTF8.self).split(separator: "\n")
        guard let boot = lines.first(where: { $0.hasPrefix("btime ") })?.split(separator: " ").last,
            let seconds = Double(boot)
        else { return nil }
        return seconds + ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
}

/// Whether the host can do its work, part by part.
struct HostHealth: Sendable {
    let runtime: ChainRuntime
    let store: any StoreEngine

    func parts(isStarted: Bool) async -> [String: Bool] {
        [
            "chains": isStarted && self.runtime.isListening,
            "store": await self.store.isReady(),
            "disk": self.store.hasRoom,
        ]
    }
}
