/// First in, first out.
///
/// Takes no memory while it is empty, as it is on an idle connection.
struct Queue<Element> {
    /// Those before `head` are taken.
    private var elements: [Element?] = []
    private var head = 0

    init() {}

    var isEmpty: Bool { self.head == self.elements.count }

    var count: Int { self.elements.count - self.head }

    /// What waits, oldest first.
    var waiting: some Sequence<Element> { self.elements[self.head...].lazy.compactMap { $0 } }

    mutating func append(_ element: consuming Element) { self.elements.append(element) }

    /// Puts elements before all that waits.
    mutating func prepend(_ elements: [Element]) {
        self.elements.replaceSubrange(..<self.head, with: elements)
        self.head = 0
    }

    mutating func popFirst() -> Element? {
        guard !self.isEmpty else { return nil }
        // Moved out: messages are dear to copy.
        let element = self.elements[self.head].take()
        self.head += 1
        if self.isEmpty {
            self.removeAll()
        } else if self.head > 32, self.head * 2 > self.elements.count {
            self.elements.removeFirst(self.head)
            self.head = 0
        }
        return element
    }

    mutating func removeAll() {
        self.elements = []
        self.head = 0
    }
}

extension Queue: Sendable where Element: Sendable {}
