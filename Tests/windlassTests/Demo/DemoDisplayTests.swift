import Synchronization
import Testing

@testable import windlass

@Suite("What the demo shows")
struct DemoDisplayTests {
    @Test("Without a terminal each state is a line, and a download one line for each quarter")
    func plain() {
        let output = Output()
        let display = DemoDisplay(names: ["http"], isTerminal: false) { output.append($0) }
        display.update(0, DemoProgress(state: .waiting))
        for bytes in 0...8 { display.update(0, DemoProgress(state: .downloading, bytes: bytes << 19, total: 8 << 19)) }
        display.update(0, DemoProgress(state: .updated, bytes: 8 << 19, total: 8 << 19))
        display.finish()
        #expect(
            output.text == """
                  http  WAITING
                  http  DOWNLOADING 0% (0.0 of 4.0 MiB)
                  http  DOWNLOADING 25% (1.0 of 4.0 MiB)
                  http  DOWNLOADING 50% (2.0 of 4.0 MiB)
                  http  DOWNLOADING 75% (3.0 of 4.0 MiB)
                  http  DOWNLOADING 100% (4.0 of 4.0 MiB)
                  http  UPDATED

                """
        )
    }

    @Test("On a terminal the bars are drawn once and then over themselves")
    func terminal() {
        let output = Output()
        let display = DemoDisplay(names: ["http", "mqtt"], isTerminal: true) { output.append($0) }
        display.update(0, DemoProgress(state: .waiting))
        display.update(1, DemoProgress(state: .waiting))
        #expect(output.text.split(separator: "\n").count == 4)
        #expect(!output.parts[0].hasPrefix("\u{1B}[2A") && output.parts[1].hasPrefix("\u{1B}[2A"))
    }

    @Test(
        "A bar is as full as the download, to the eighth of a character",
        arguments: [(0, ""), (1, "▏"), (7, "▉"), (8, "█"), (12, "█▌"), (240, String(repeating: "█", count: 30))]
    )
    func bar(eighths: Int, filled: String) {
        let progress = DemoProgress(state: .downloading, bytes: eighths, total: 240)
        let bar = DemoDisplay.bar("http", progress)
        let expected = filled + String(repeating: "░", count: 30 - filled.count)
        #expect(bar.contains("m\(expected)\u{1B}"))
    }

    @Test("The table lines up, with numbers to the right")
    func table() {
        let rows = [
            DemoRow(
                transport: "http",
                device: "demo-http",
                state: "UPDATED",
                bytes: 4_194_304,
                seconds: 0.5,
                checksum: "86de… verified"
            ),
            DemoRow(transport: "coap", device: "demo-coap", state: "FAILED", checksum: "not verified"),
        ]
        #expect(
            DemoTable.text(rows) == """
                  transport  device     state        bytes  seconds  MB/s  checksum
                  ─────────  ─────────  ───────  ─────────  ───────  ────  ──────────────
                  http       demo-http  UPDATED  4,194,304     0.50   8.4  86de… verified
                  coap       demo-coap  FAILED           -        -     -  not verified

                """
        )
    }

    @Test("Numbers read as people write them")
    func numbers() {
        #expect(
            [0, 999, 1_000, 1_234_567, -1_234].map(DemoText.grouped) == ["0", "999", "1,000", "1,234,567", "-1,234"]
        )
        #expect(DemoText.decimal(1.005, 1) == "1.0" && DemoText.decimal(0.999, 2) == "1.00")
        #expect(DemoText.decimal(-1, 1) == "0.0" && DemoText.decimal(.infinity, 0) == "1000000000000000")
        #expect(DemoText.size(1 << 10) == "1.0 KiB" && DemoText.size(1_023) == "1023 bytes")
        #expect(DemoText.size(0, of: 3 << 30) == "0.0 of 3.0 GiB")
    }
}

/// Collects what is written.
private final class Output: Sendable {
    private let written = Mutex<[String]>([])

    var parts: [String] { self.written.withLock { $0 } }
    var text: String { self.parts.joined() }
    func append(_ text: String) { self.written.withLock { $0.append(text) } }
}
