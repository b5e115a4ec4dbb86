import Foundation

/// How far a transfer is, redrawn in place on standard error; nothing where that is no terminal.
final class ProgressBar {
    static let width = 30
    /// How often it is redrawn at most.
    static let redrawPause = Duration.milliseconds(100)

    private let title: String
    private let total: Int
    private let isTerminal: Bool
    private let clock = ContinuousClock()
    private let start: ContinuousClock.Instant
    private var drawn: ContinuousClock.Instant?

    init(_ title: String, total: Int, isTerminal: Bool = isatty(STDERR_FILENO) == 1) {
        self.title = title
        self.total = total
        self.isTerminal = isTerminal
        self.start = self.clock.now
    }

    func update(_ done: Int) {
        guard self.isTerminal else { return }
        let now = self.clock.now
        if let drawn = self.drawn, now - drawn < Self.redrawPause, done < self.total { return }
        self.drawn = now
        FileHandle.standardError.write(Data("\r\u{1B}[K\(self.line(done, after: now - self.start))".utf8))
    }

    /// Leaves the terminal as it was.
    func finish() {
        guard self.isTerminal else { return }
        FileHandle.standardError.write(Data("\r\u{1B}[K".utf8))
    }

    /// What is drawn.
    func line(_ done: Int, after time: Duration) -> String {
        let part = self.total > 0 ? min(1, Double(done) / Double(self.total)) : 1
        let filled = Int(part * Double(Self.width))
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: Self.width - filled)
        let seconds = max(0.001, Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18)
        let rate = String(format: "%.1f", Double(done) / seconds / 1_048_576)
        return "\(self.title)  [\(bar)] \(Int(part * 100)) %  \(rate) MiB/s"
    }
}
