/// Reads, checks and plans chain files; makes no node.
public struct ChainChecker: Sendable {
    private let types: NodeTypes
    private let environment: EnvironmentText

    /// Makes a checker.
    ///
    /// - Parameters:
    ///   - types: The node types that chains can use.
    ///   - environment: What fills `${NAME}` in attribute values.
    public init(types: NodeTypes, environment: [String: String]) {
        self.types = types
        self.environment = EnvironmentText(environment: environment)
    }

    /// Checks chain files that are to run together.
    ///
    /// - Returns: The chains, with the warnings of all files.
    /// - Throws: ``ChainFaults`` with the errors and warnings of all files, if there is an error.
    public func check(_ sources: [ChainSource]) throws(ChainFaults) -> CheckedChains {
        var chains: [CheckedChain] = []
        var files: [String: String] = [:]
        var faults: [ChainFault] = []
        for source in sources {
            let text = SourceText(path: source.path, bytes: source.bytes)
            do {
                var check = ChainCheck(source: text, types: self.types, environment: self.environment)
                let root = try XMLReader.read(text)
                let chain = check.chain(root)
                faults += check.faults
                guard let chain else { continue }
                if let file = files[chain.name] {
                    let offset = root.attribute("name")?.offset ?? root.offset
                    let message = "the chain name '\(chain.name)' is taken by \(file)"
                    faults.append(text.fault(at: offset, "repeated-chain", message, help: "rename one of them"))
                }
                files[chain.name] = source.path
                chains.append(chain)
            } catch {
                faults += error.faults
            }
        }
        let found = ChainFaults(faults)
        guard found.faults.allSatisfy({ $0.severity == .warning }) else { throw found }
        return CheckedChains(chains: chains, warnings: found.faults)
    }
}
