import Chains
import FoundationEssentials
import FuzzSupport
import Host
import NIOCore
import NodeKit

/// The node types of the plugins beside the executable, loaded as the host does.
private let types: NodeTypes = {
    do {
        let executable = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let folder = executable.split(separator: "/").dropLast().joined(separator: "/")
        return try PluginLoader().load(folders: ["/" + folder])
    } catch {
        fatalError("\(error)")
    }
}()

/// Reads and checks a chain file with the node types that ship: it is accepted, or every fault has a place in it.
@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    let bytes = Array(FuzzInput(start, count).bytes.readableBytesView)
    let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
    let checker = ChainChecker(types: types, environment: ["HTTP_PORT": "8080", "EMPTY": ""])
    do {
        _ = try checker.check([ChainSource(path: "fuzz.xml", bytes: bytes)])
    } catch {
        precondition(!error.faults.isEmpty, "refused without a fault")
        for fault in error.faults {
            precondition((1...lines).contains(fault.line), "line \(fault.line) of \(lines): \(fault)")
            precondition((1...bytes.count + 1).contains(fault.column), "column \(fault.column): \(fault)")
        }
    }
    return 0
}
