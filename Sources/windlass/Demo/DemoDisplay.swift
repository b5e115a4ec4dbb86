import Synchronization

/// Shows how far each device is: bars that are redrawn in place on a terminal, plain lines elsewhere.
///
/// Devices report to it from any thread.
final class DemoDisplay: Sendable {
    /// Characters of a full bar.
    static let barWidth = 30
    /// How often a terminal is redrawn at most.
    static let redrawPause = Duration.milliseconds(50)

    private struct Row {
        var name: String
        var progress: DemoProgress?
        var start: ContinuousClock.Instant?
        var quarterShown = 0
    }

    private struct State {
        var rows: [Row]
        var isDrawn = false
        var drawn: ContinuousClock.Instant?
    }

    private let isTerminal: Bool
    private let write: @Sendable (String) -> Void
    private let state: Mutex<State>
    private let clock = ContinuousClock()

    /// Makes a display with a row for each name.
    ///
    /// - Parameters:
    ///   - names: What each row begins with.
    ///   - isTerminal: Whether the output understands ANSI escape sequences.
    ///   - write: Writes text as it is; called by one thread at a time.
    init(names: [String], isTerminal: Bool, write: @escaping @Sendable (String) -> Void) {
        self.isTerminal = isTerminal
        self.write = write
        self.state = Mutex(State(rows: names.map { Row(name: $0) }))
    }

    /// Takes in how far a device is.
    ///
    /// - Parameters:
    ///   - index: Zero-based row.
    ///   - progress: What the device told.
    func update(_ index: Int, _ progress: DemoProgress) {
        self.state.withLock { state in
            let isNewState = state.rows[index].progress?.state != progress.state
            state.rows[index].progress = progress
            if progress.state == .downloading, state.rows[index].start == nil {
                state.rows[index].start = self.clock.now
            }
            if self.isTerminal {
                let isDue = state.drawn.map { self.clock.now - $0 >= Self.redrawPause } ?? true
                if isNewState || isDue { self.draw(&state) }
            } else {
                self.line(for: &state.rows[index], isNewState: isNewState)
            }
        }
    }

    /// Draws the last state of all bars.
    func finish() {
        self.state.withLock { state in
            if self.isTerminal { self.draw(&state) }
        }
    }

    private func draw(_ state: inout State) {
        var text = state.isDrawn ? "\u{1B}[\(state.rows.count)A" : ""
        for row in state.rows { text += "\r\u{1B}[2K  \(Self.bar(row.name, row.progress))\n" }
        state.isDrawn = true
        state.drawn = self.clock.now
        self.write(text)
    }

    private func line(for row: inout Row, isNewState: Bool) {
        guard let progress = row.progress else { return }
        if isNewState, progress.state != .downloading {
            self.write("  \(DemoText.left(row.name, 4))  \(progress.state.rawValue)\n")
        } else if progress.state == .downloading, progress.total > 0 {
            let quarter = progress.bytes * 4 / progress.total
            guard isNewState || quarter > row.quarterShown else { return }
            row.quarterShown = quarter
            let size = DemoText.size(progress.bytes, of: progress.total)
            self.write("  \(DemoText.left(row.name, 4))  \(progress.state.rawValue) \(quarter * 25)% (\(size))\n")
        }
    }

    /// One bar, as in `http  ████████░░░░  67%   2.7 of 4.0 MiB  DOWNLOADING`.
    static func bar(_ name: String, _ progress: DemoProgress?) -> String {
        let progress = progress ?? DemoProgress(state: .connecting)
        let share = progress.total > 0 ? min(1, Double(progress.bytes) / Double(progress.total)) : 0
        let eighths = Int(share * Double(Self.barWidth * 8))
        let parts = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
        let filled = String(repeating: "█", count: eighths / 8) + parts[eighths % 8]
        let bar = filled + String(repeating: "░", count: Self.barWidth - filled.count)
        let color = progress.state == .updated ? "\u{1B}[32m" : progress.state == .failed ? "\u{1B}[31m" : "\u{1B}[36m"
        let percent = DemoText.right("\(Int(share * 100))%", 4)
        let size = DemoText.left(progress.total > 0 ? DemoText.size(progress.bytes, of: progress.total) : "", 18)
        return "\(DemoText.left(name, 4))  \(color)\(bar)\u{1B}[0m \(percent)  \(size)  \(progress.state.rawValue)"
    }
}

/// One line of the final table.
struct DemoRow: Sendable, Hashable {
    /// Transport, in lower case.
    var transport: String
    /// The device's name.
    var device: String
    /// The state as the host has it.
    var state: String
    /// Bytes fetched, `nil` if the device failed.
    var bytes: Int?
    /// Seconds of the download.
    var seconds: Double?
    /// The checksum and whether it was the announced one.
    var checksum: String
}

/// The final table.
enum DemoTable {
    /// Columns as wide as what they hold, numbers to the right.
    static func text(_ rows: [DemoRow]) -> String {
        let head = ["transport", "device", "state", "bytes", "seconds", "MB/s", "checksum"]
        let cells = rows.map { row in
            [
                row.transport, row.device, row.state,
                row.bytes.map(DemoText.grouped) ?? "-",
                row.seconds.map { DemoText.decimal($0, 2) } ?? "-",
                Self.rate(row) ?? "-",
                row.checksum,
            ]
        }
        let widths = head.indices.map { column in ([head] + cells).map { $0[column].count }.max() ?? 0 }
        func line(_ cells: [String]) -> String {
            let padded = cells.indices.map { column in
                column == cells.count - 1
                    ? cells[column]
                    : (3...5).contains(column)
                        ? DemoText.right(cells[column], widths[column]) : DemoText.left(cells[column], widths[column])
            }
            return "  " + padded.joined(separator: "  ") + "\n"
        }
        return line(head) + line(widths.map { String(repeating: "─", count: $0) }) + cells.map(line).joined()
    }

    private static func rate(_ row: DemoRow) -> String? {
        guard let bytes = row.bytes, let seconds = row.seconds, seconds > 0 else { return nil }
        return DemoText.decimal(Double(bytes) / 1_000_000 / seconds, 1)
    }
}

/// Numbers and texts as people read them.
enum DemoText {
    /// Pads on the right.
    static func left(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    /// Pads on the left.
    static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    /// A number with the given digits after the point; not negative, less than 10^15.
    static func decimal(_ value: Double, _ digits: Int) -> String {
        var scale = 1
        for _ in 0..<digits { scale *= 10 }
        let scaled = Int((min(max(value, 0), 1e15 / Double(scale)) * Double(scale)).rounded())
        guard digits > 0 else { return "\(scaled)" }
        let fraction = "\(scaled % scale)"
        return "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    /// A whole number with a comma after each three digits.
    static func grouped(_ value: Int) -> String {
        var text = ""
        for (index, digit) in "\(value)".reversed().enumerated() {
            if index > 0, index % 3 == 0, digit != "-" { text = "," + text }
            text = "\(digit)" + text
        }
        return text
    }

    /// `2.7 of 4.0 MiB`, both in the unit that suits the second.
    static func size(_ bytes: Int, of total: Int) -> String {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        guard let (name, size) = units.first(where: { total >= $0.1 }) else { return "\(bytes) of \(total) bytes" }
        return
            "\(Self.decimal(Double(bytes) / Double(size), 1)) of \(Self.decimal(Double(total) / Double(size), 1)) \(name)"
    }

    /// A size in the unit that suits it.
    static func size(_ bytes: Int) -> String {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        guard let (name, size) = units.first(where: { bytes >= $0.1 }) else { return "\(bytes) bytes" }
        return "\(Self.decimal(Double(bytes) / Double(size), 1)) \(name)"
    }
}
