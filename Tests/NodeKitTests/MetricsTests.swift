import NodeKit
import Testing

@Suite struct MetricsTests {
    @Test("the same name and labels are the same number; other labels are another of the same family")
    func numbers() {
        let metrics = Metrics()
        metrics.counter("a_total", "A.", labels: [.init("x", "1")]).add(2)
        metrics.counter("a_total", "A.", labels: [.init("x", "1")]).add()
        metrics.counter("a_total", "A.", labels: [.init("x", "2")]).add()
        let gauge = metrics.gauge("b", "B.")
        gauge.add(5)
        gauge.add(-7)
        #expect(
            metrics.families() == [
                MetricFamily(
                    "a_total",
                    .counter,
                    "A.",
                    [
                        MetricSample(labels: [.init("x", "1")], value: 3),
                        MetricSample(labels: [.init("x", "2")], value: 1),
                    ]
                ),
                MetricFamily("b", .gauge, "B.", [MetricSample(value: -2)]),
            ]
        )
    }

    @Test("there are no more numbers than the limit; one beyond counts, but is not shown")
    func limit() {
        let metrics = Metrics()
        for number in 0..<Metrics.numbersMax {
            metrics.counter("a_total", "A.", labels: [.init("x", "\(number)")]).add()
        }
        let beyond = metrics.counter("a_total", "A.", labels: [.init("x", "beyond")])
        beyond.add()
        #expect(beyond.value == 1)
        #expect(metrics.families().map(\.samples.count) == [Metrics.numbersMax])
    }
}
