import NodeKit

/// Where messages that are meant for a device end before a node delivers them.
extension ChainCheck {
    /// Warns of relations by which a message ends that is meant for a device.
    ///
    /// Of a message that is copied, one copy has to come to a node that delivers. What such a node does with it afterwards does not
    /// matter, nor does a `Failure` without a link: the message is then tried again, or its failure is logged.
    mutating func checkDelivery() {
        let starts = self.nodes.indices.filter { self.nodes[$0].descriptor.traits.contains(.startsDelivery) }
        guard !starts.isEmpty else { return }
        let unsure = self.nodesWithDeadEnd()
        let able = self.nodesThatLeadToDelivery()
        let goal = self.nodes.first { $0.descriptor.traits.contains(.delivers) }?.id
        let goalHelp = goal.map { "leads to '\($0)'" } ?? "notifies devices"
        var seen: Set<Int> = []
        for start in starts where unsure.contains(start) && seen.insert(start).inserted {
            var next = [start]
            while let index = next.popLast() {
                let node = self.nodes[index]
                let exits = self.exits(of: node)
                if exits.isEmpty {
                    self.warn(
                        at: node.element.offset,
                        "dead-end",
                        "a message from '\(self.nodes[start].id)' ends at '\(node.id)', and its device is not notified",
                        help: "link to a node that \(goalHelp) instead"
                    )
                }
                for (relation, targets) in exits {
                    if targets.isEmpty {
                        self.warn(
                            at: node.element.offset,
                            "dead-end",
                            "a message from '\(self.nodes[start].id)' that leaves '\(node.id)' by '\(relation)' ends there, "
                                + "and its device is not notified",
                            help: "link '\(relation)' to a node that \(goalHelp)"
                        )
                    }
                    guard targets.allSatisfy(unsure.contains) else { continue }
                    // A copy that is made for something else, such as a line in the log, is not the one to mend.
                    let meant = targets.filter(able.contains)
                    for target in meant.isEmpty ? targets : meant where seen.insert(target).inserted {
                        next.append(target)
                    }
                }
            }
        }
    }

    /// The relations that a message may leave a node by and that decide whether it is delivered, with the nodes they lead to.
    private func exits(of node: DraftNode) -> [(relation: Relation, targets: [Int])] {
        let targets = Dictionary(grouping: node.links, by: \.relation).mapValues { $0.map(\.target) }
        var relations = node.descriptor.relations.map(\.relation).filter { $0 != .failure }
        if node.descriptor.hasOpenRelations { relations.append(.other) }
        var seen: Set<Relation> = []
        return (relations + node.links.map(\.relation)).filter { seen.insert($0).inserted }
            .map { ($0, targets[$0] ?? []) }
    }

    /// The nodes at which a message may be that ends, with all of its copies, before a node delivers it.
    private func nodesWithDeadEnd() -> Set<Int> {
        /// The exits that lead to each node, as places in `sureCounts`.
        var exits: [Int: [Int]] = [:]
        /// For each exit its node, and how many of its targets are not found.
        var sureCounts: [(node: Int, count: Int)] = []
        var found: Set<Int> = []
        for index in self.nodes.indices where !self.nodes[index].descriptor.traits.contains(.delivers) {
            let own = self.exits(of: self.nodes[index])
            if own.isEmpty || own.contains(where: { $0.targets.isEmpty }) { found.insert(index) }
            for (_, targets) in own {
                for target in targets { exits[target, default: []].append(sureCounts.count) }
                sureCounts.append((index, targets.count))
            }
        }
        var next = Array(found)
        while let index = next.popLast() {
            for exit in exits[index] ?? [] {
                sureCounts[exit].count -= 1
                let (node, count) = sureCounts[exit]
                if count == 0, found.insert(node).inserted { next.append(node) }
            }
        }
        return found
    }

    /// The nodes that deliver, or from which links lead to one that does.
    private func nodesThatLeadToDelivery() -> Set<Int> {
        let sources = self.sources()
        var found = Set(self.nodes.indices.filter { self.nodes[$0].descriptor.traits.contains(.delivers) })
        var next = Array(found)
        while let index = next.popLast() {
            for source in sources[index] ?? [] where found.insert(source).inserted { next.append(source) }
        }
        return found
    }
}
