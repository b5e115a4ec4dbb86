import NIOCore

/// Things that are due at some time, the next first: a binary heap.
///
/// Nothing is taken out before it is due, unless there is so much of it that no longer matters that it takes up room;
/// whoever asks what is due looks whether it still matters.
struct DeadlineQueue<Element> {
    private var heap: [(deadline: NIODeadline, element: Element)] = []

    /// When the next thing is due; `nil` if there is none.
    var nextDeadline: NIODeadline? { self.heap.first?.deadline }
    /// How many things wait.
    var count: Int { self.heap.count }

    /// Adds a thing.
    mutating func insert(_ element: Element, at deadline: NIODeadline) {
        self.heap.append((deadline, element))
        var index = self.heap.count - 1
        while index > 0, case let parent = (index - 1) / 2, self.heap[index].deadline < self.heap[parent].deadline {
            self.heap.swapAt(index, parent)
            index = parent
        }
    }

    /// Takes out what no longer matters, if that must be most of what waits.
    ///
    /// - Parameters:
    ///   - count: How many things still matter.
    ///   - matters: Whether a thing does.
    mutating func prune(to count: Int, where matters: (Element) -> Bool) {
        guard self.heap.count > 2 * count + Self.pruneSlack else { return }
        // In order of time, they are a heap.
        self.heap = self.heap.filter { matters($0.element) }.sorted { $0.deadline < $1.deadline }
    }

    /// How many things may always wait: to look through few often costs more than they take up.
    private static var pruneSlack: Int { 1024 }

    /// Takes out the next thing if it is due.
    mutating func popDue(_ now: NIODeadline) -> Element? {
        guard let first = self.heap.first, first.deadline <= now else { return nil }
        let last = self.heap.removeLast()
        guard !self.heap.isEmpty else { return first.element }
        self.heap[0] = last
        var index = 0
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2]
            where child < self.heap.count && self.heap[child].deadline < self.heap[least].deadline {
                least = child
            }
            if least == index { return first.element }
            self.heap.swapAt(index, least)
            index = least
        }
    }
}
