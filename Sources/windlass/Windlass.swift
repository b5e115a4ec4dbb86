import ArgumentParser
import Chains
import Foundation
import NodeKit
import PluginEntry

/// A host for rule chains that carries out over-the-air updates.
@main
struct Windlass: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "windlass",
        abstract: "A host for rule chains that carries out over-the-air updates.",
        version: Platform.version,
        subcommands: [
            Serve.self, Check.self, Nodes.self, Settings.self, Doctor.self, PackageCommand.self, DeviceCommand.self,
            UpdateCommandLine.self, QueueCommand.self, DemoCommand.self,
        ]
    )

    /// Runs the command that was typed; what a user can mend is told in a sentence, without the usage text.
    static func main() async {
        do {
            try PlatformStamp.check()
            var command = try Self.parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let faults as ChainFaults {
            printToStandardError("\(faults)")
            Foundation.exit(1)
        } catch let error as NodeError {
            printToStandardError("windlass: \(error)")
            Foundation.exit(1)
        } catch let failure as CommandFailure {
            printToStandardError("windlass: \(failure)")
            Foundation.exit(failure.kind.rawValue)
        } catch {
            Self.exit(withError: error)
        }
    }
}

/// Prints a line to standard error.
func printToStandardError(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

/// Prints a line to standard output at once, also where that is a pipe.
func printNow(_ line: String) {
    print(line)
    fflush(nil)
}
