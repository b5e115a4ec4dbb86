import NodeKit

/// What can be said of a chain as a whole: which nodes no message reaches, and where a message would never end.
extension ChainCheck {
    /// Checks the links of all nodes.
    ///
    /// - Parameter isComplete: Whether every node and link was understood; otherwise nothing is said about nodes that seem to
    ///   lack links, since the missing ones are reported already.
    mutating func checkGraph(isComplete: Bool) {
        if isComplete {
            self.checkIngresses()
            self.checkReached()
        }
        self.checkCycles()
    }

    private mutating func checkIngresses() {
        for node in self.nodes
        where node.startsMessages && node.links.isEmpty && !node.descriptor.traits.contains(.resends) {
            self.fault(
                at: node.element.offset,
                "unconnected-ingress",
                "messages start at '\(node.id)' and go nowhere",
                help: "add to=\"…\" or a <link>"
            )
        }
    }

    /// Reports nodes that no message reaches.
    ///
    /// A node that both takes and starts messages, as one that holds them back does, starts only what it took.
    private mutating func checkReached() {
        var reached = Set(self.nodes.indices.filter { !self.nodes[$0].takesMessages })
        var next = Array(reached)
        while let index = next.popLast() {
            for link in self.nodes[index].links where reached.insert(link.target).inserted { next.append(link.target) }
        }
        for index in self.nodes.indices where !reached.contains(index) {
            self.fault(
                at: self.nodes[index].element.offset,
                "unreachable-node",
                "no message reaches node '\(self.nodes[index].id)'",
                help: "link to it, or remove it"
            )
        }
    }

    /// Reports cycles without an end.
    ///
    /// A node has a way out if it starts messages, too (it takes them in, and their way ends there), or if one of its
    /// relations is not linked or leads only to nodes that have a way out. `Failure` counts only where it is linked: that
    /// everything goes wrong at last is no plan. Nodes without a way out hold each message for ever, so each of them leads into
    /// a cycle. Cycles with a way out are allowed, and a message that does not take it meets the ceiling on hops.
    private mutating func checkCycles() {
        var endless = Set(self.nodes.indices.filter { !self.nodes[$0].startsMessages })
        while true {
            self.removeNodesWithWayOut(from: &endless)
            guard let start = endless.min() else { return }
            let cycle = self.cycle(from: start, in: endless)
            let first = cycle.min() ?? start
            let turn = cycle.firstIndex(of: first) ?? 0
            let path = (cycle[turn...] + cycle[..<turn] + [first]).map { self.nodes[$0].id }.joined(separator: " -> ")
            self.fault(
                at: self.nodes[first].element.offset,
                "endless-cycle",
                "a message never leaves the cycle \(path)",
                help: "link one of its relations to a node outside"
            )
            // What only leads into this cycle is not worth another line.
            endless.subtract(cycle)
        }
    }

    private func removeNodesWithWayOut(from endless: inout Set<Int>) {
        let sources = self.sources()
        var next = endless.sorted()
        while let index = next.popLast() {
            guard endless.contains(index), self.hasWayOut(self.nodes[index], from: endless) else { continue }
            endless.remove(index)
            next += sources[index] ?? []
        }
    }

    private func hasWayOut(_ node: DraftNode, from endless: Set<Int>) -> Bool {
        var relations = Set(node.descriptor.relations.map(\.relation)).subtracting([.failure])
        if node.descriptor.hasOpenRelations { relations.insert(.other) }
        relations.formUnion(node.links.map(\.relation))
        guard !relations.isEmpty else { return true }
        return relations.contains { relation in
            !node.links.contains { $0.relation == relation && endless.contains($0.target) }
        }
    }

    /// The nodes with a link to each node.
    func sources() -> [Int: [Int]] {
        var sources: [Int: [Int]] = [:]
        for index in self.nodes.indices {
            for link in self.nodes[index].links { sources[link.target, default: []].append(index) }
        }
        return sources
    }

    /// Follows links within the set until a node comes again.
    private func cycle(from start: Int, in endless: Set<Int>) -> [Int] {
        var path = [start]
        while let last = path.last,
            let next = self.nodes[last].links.first(where: { endless.contains($0.target) })?.target
        {
            if let index = path.firstIndex(of: next) { return Array(path[index...]) }
            path.append(next)
        }
        return path
    }
}
