import HTTPTypes
import Hummingbird
import NIOCore
import NodeKit

/// `/metrics`: the host's numbers in the text format of Prometheus, version 0.0.4.
struct MetricsRoutes: Sendable {
    let metrics: @Sendable () async throws -> [MetricFamily]

    func add(to routes: inout RouteTable) {
        routes.add(
            .get,
            "/metrics",
            for: .anyone,
            Operation("Reads the numbers of the host, as Prometheus does", answer: .text("text/plain"))
        ) { _ in
            Response(
                status: .ok,
                headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: MetricsText.write(try await self.metrics())))
            )
        }
    }
}

/// The text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats).
enum MetricsText {
    static func write(_ families: [MetricFamily]) -> String {
        var text = ""
        for family in families {
            text += "# HELP \(family.name) \(self.escaped(family.summary, quotes: false))\n"
            text += "# TYPE \(family.name) \(family.kind.rawValue)\n"
            for sample in family.samples {
                text += family.name + sample.suffix
                if !sample.labels.isEmpty {
                    let labels = sample.labels.map { "\($0.name)=\"\(self.escaped($0.value, quotes: true))\"" }
                    text += "{\(labels.joined(separator: ","))}"
                }
                text += " \(self.number(sample.value))\n"
            }
        }
        return text
    }

    /// A whole number is written without a fraction.
    private static func number(_ value: Double) -> String {
        if let whole = Int64(exactly: value) { return "\(whole)" }
        if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
        return value.isNaN ? "NaN" : "\(value)"
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
