import NodeKit

/// The plans of all chains that run together.
struct PlanSet: Sendable {
    let chains: CheckedChains
    let nodes: [NodeKey: any ChainNode]
    let counters: CounterTable
    private let places: [NodeKey: PlanTable.Place]

    /// No chain at all.
    static let empty = PlanSet(CheckedChains(chains: []), nodes: [:], previous: CounterTable())

    /// Puts the nodes of checked chains together.
    ///
    /// - Parameters:
    ///   - chains: The chains.
    ///   - nodes: An instance of every node.
    ///   - previous: Where counters of links and nodes that were there before go on from.
    init(_ chains: CheckedChains, nodes: [NodeKey: any ChainNode], previous: CounterTable) {
        var counters = CounterTable()
        var places: [NodeKey: PlanTable.Place] = [:]
        for chain in chains.chains {
            let stops = chain.nodes.map { node in
                let key = NodeKey(chain: chain.name, node: node.id)
                return ChainPlan.Stop(
                    id: node.id,
                    node: nodes[key] as? any Node,
                    exits: Self.exits(of: node, in: chain, &counters, previous),
                    descriptor: node.nodeType.descriptor,
                    counters: counters.node(key, previous: previous)
                )
            }
            let plan = ChainPlan(chain: chain.name, hopsMax: chain.hopsMax, stops: stops)
            for (index, node) in chain.nodes.enumerated() {
                places[NodeKey(chain: chain.name, node: node.id)] = PlanTable.Place(plan: plan, index: index)
            }
        }
        self.chains = chains
        self.nodes = nodes
        self.counters = counters
        self.places = places
    }

    private static func exits(
        of node: CheckedNode,
        in chain: CheckedChain,
        _ counters: inout CounterTable,
        _ previous: CounterTable
    ) -> [ChainPlan.Exit] {
        var relations: [Relation] = []
        for link in node.links where !relations.contains(link.relation) { relations.append(link.relation) }
        return relations.map { relation in
            let links = node.links.filter { $0.relation == relation }.map { link in
                let key = CounterTable.LinkKey(
                    chain: chain.name,
                    from: node.id,
                    relation: relation.rawValue,
                    to: chain.nodes[link.target].id
                )
                return ChainPlan.Link(target: link.target, counter: counters.link(key, previous: previous))
            }
            return ChainPlan.Exit(relation: relation, links: links)
        }
    }

    /// The same plans with other instances of some nodes.
    func replacing(_ nodes: [NodeKey: any ChainNode]) -> PlanSet {
        PlanSet(self.chains, nodes: self.nodes.merging(nodes) { $1 }, previous: self.counters)
    }

    /// Every node with its key, in the order of the files.
    var checked: [(key: NodeKey, node: CheckedNode)] {
        self.chains.chains.flatMap { chain in
            chain.nodes.map { (NodeKey(chain: chain.name, node: $0.id), $0) }
        }
    }

    /// The nodes where messages start, in the order to start them.
    ///
    /// Those that also take messages come first: they are what the others send to.
    var ingresses: [NodeKey] {
        let keys = self.checked.filter { $0.node.nodeType is any IngressNode.Type }
        return
            (keys.filter { $0.node.nodeType is any Node.Type } + keys.filter { !($0.node.nodeType is any Node.Type) })
            .map(\.key)
    }

    func place(of key: NodeKey) -> PlanTable.Place? { self.places[key] }
}
