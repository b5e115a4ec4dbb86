import NodeKit

/// Whether a node that says *later* has a queue behind it that keeps the message until then.
extension ChainCheck {
    /// How a message came to a node.
    private enum Way: Int, CaseIterable {
        /// Through no queue.
        case unqueued
        /// From a queue, and as the only one of its kind.
        case queued
        /// From a queue, but as one of several copies, of which the queue could not keep one alone.
        case copied
    }

    /// A node as a message comes to it, or starts there.
    private struct Step: Hashable {
        var node: Int
        var way: Way
        /// Whether the message starts here.
        var isStart: Bool
    }

    /// Reports nodes that say *later* of messages that no queue keeps.
    mutating func checkLater() {
        let patient = self.nodes.indices.filter { self.nodes[$0].descriptor.traits.contains(.saysLater) }
        guard !patient.isEmpty else { return }
        let steps = self.steps()
        for index in patient {
            let node = self.nodes[index]
            if let path = self.path(to: Step(node: index, way: .unqueued, isStart: false), in: steps) {
                self.fault(
                    at: node.element.offset,
                    "later-without-queue",
                    "node '\(node.id)' may say later of a message that no queue keeps: \(path)",
                    help: "put a queue before it, such as a throttle"
                )
            } else if let path = self.path(to: Step(node: index, way: .copied, isStart: false), in: steps) {
                self.fault(
                    at: node.element.offset,
                    "later-without-queue",
                    "node '\(node.id)' may say later of one of several copies, which its queue does not keep alone: \(path)",
                    help: "put a queue between the copies and it, such as a throttle"
                )
            }
        }
    }

    /// Every way to come to a node, with the step before it; breadth first, so that paths are short.
    private func steps() -> [Step: Step?] {
        var before: [Step: Step?] = [:]
        var next: [Step] = []
        for index in self.nodes.indices where self.nodes[index].startsMessages {
            let isQueue = self.nodes[index].descriptor.traits.contains(.isQueue)
            let step = Step(node: index, way: isQueue ? .queued : .unqueued, isStart: true)
            before[step] = .some(nil)
            next.append(step)
        }
        var position = 0
        while position < next.count {
            let step = next[position]
            position += 1
            let node = self.nodes[step.node]
            let counts = Dictionary(node.links.map { ($0.relation, 1) }, uniquingKeysWith: +)
            for link in node.links where self.leaves(node, by: link.relation, isStart: step.isStart) {
                let isCopied = step.way == .queued && counts[link.relation, default: 0] > 1
                let following = Step(node: link.target, way: isCopied ? .copied : step.way, isStart: false)
                guard before[following] == nil else { continue }
                before[following] = step
                next.append(following)
            }
        }
        return before
    }

    /// Whether a message that starts at a node, or came to it, may leave by a relation.
    ///
    /// What comes to a queue ends there and starts anew, unless the queue fails to take it.
    private func leaves(_ node: DraftNode, by relation: Relation, isStart: Bool) -> Bool {
        if isStart { return relation != .failure || !node.takesMessages }
        return relation == .failure || !node.descriptor.traits.contains(.isQueue)
    }

    /// The identifiers on a way to a node, as `a -> b -> c`; `nil` if no way leads there.
    private func path(to last: Step, in steps: [Step: Step?]) -> String? {
        guard steps[last] != nil else { return nil }
        var path: [String] = []
        var step: Step? = last
        while let current = step {
            path.append(self.nodes[current.node].id)
            step = steps[current] ?? nil
        }
        return path.reversed().joined(separator: " -> ")
    }
}
