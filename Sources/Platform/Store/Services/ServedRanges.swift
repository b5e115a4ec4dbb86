/// Which bytes of a package were served: few ranges, in order, none touching the next.
struct ServedRanges: Sendable, Equatable {
    /// The most ranges that are kept.
    ///
    /// A device that fetches in order has one. What would need another one beyond this does not count as served.
    static let countMax = 256

    private(set) var ranges: [Range<Int64>] = []

    init() {}

    /// Reads what ``text`` wrote.
    ///
    /// Ranges may overlap and be in any order: two lists are joined by a comma.
    init(text: String?) {
        for part in (text ?? "").split(separator: ",") {
            let bounds = part.split(separator: "-", omittingEmptySubsequences: false).map { Int64($0) }
            guard bounds.count == 2, let lower = bounds[0], let upper = bounds[1], lower < upper else { continue }
            self.insert(lower..<upper)
        }
    }

    /// The ranges as `0-4096,8192-12288`, the upper bounds not included; `nil` if there are none.
    var text: String? {
        self.ranges.isEmpty ? nil : self.ranges.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")
    }

    /// How many bytes there are.
    var bytes: Int64 { self.ranges.reduce(0) { $0 + Int64($1.count) } }

    /// Whether all bytes of a package of this size are there.
    func cover(_ size: Int64) -> Bool { self.ranges.first.map { $0.lowerBound <= 0 && $0.upperBound >= size } ?? false }

    /// Adds a range.
    ///
    /// - Returns: Whether any byte of it was new.
    @discardableResult
    mutating func insert(_ range: Range<Int64>) -> Bool {
        guard !range.isEmpty else { return false }
        // Mostly it goes on where the last one ended.
        if let last = self.ranges.last, last.lowerBound <= range.lowerBound, range.lowerBound <= last.upperBound {
            guard range.upperBound > last.upperBound else { return false }
            self.ranges[self.ranges.count - 1] = last.lowerBound..<range.upperBound
            return true
        }
        let start = self.ranges.firstIndex { $0.upperBound >= range.lowerBound } ?? self.ranges.count
        let end = self.ranges[start...].firstIndex { $0.lowerBound > range.upperBound } ?? self.ranges.count
        guard start < end else {
            guard self.ranges.count < Self.countMax else { return false }
            self.ranges.insert(range, at: start)
            return true
        }
        let joined =
            min(
                range.lowerBound,
                self.ranges[start].lowerBound
            )..<max(range.upperBound, self.ranges[end - 1].upperBound)
        guard end - start > 1 || joined != self.ranges[start] else { return false }
        self.ranges.replaceSubrange(start..<end, with: [joined])
        return true
    }

    /// The ranges as far as they are within a package of this size.
    func clamped(to size: Int64) -> ServedRanges {
        var clamped = ServedRanges()
        for range in self.ranges { clamped.insert(range.clamped(to: 0..<max(0, size))) }
        return clamped
    }

    /// Adds all ranges of another list.
    mutating func formUnion(_ other: ServedRanges) {
        for range in other.ranges { self.insert(range) }
    }
}
