import ArgumentParser
import Chains
import Host

/// The command `windlass check`.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what the host would say of chain files, without starting it.",
        discussion: """
            Each fault is a line on standard error: file:line:column: error: what; what would help [code]. With an error the host \
            does not start, and the command exits with 1. A warning stops nothing: the chain runs, but probably does not do what \
            is wanted.
            """
    )

    @OptionGroup var load: LoadArguments

    @Flag(name: .long, help: "Exits with 1 if there is a warning, too.")
    var strict = false

    @Argument(help: "Chain files; without any, those of the folder given by --chains.")
    var files: [String] = []

    func run() throws {
        let checked = try Host.check(files: self.files, options: self.load.options())
        let warnings = checked.warnings
        if self.strict, !warnings.isEmpty { throw ChainFaults(warnings) }
        for warning in warnings { printToStandardError("\(warning)") }
        let count = warnings.isEmpty ? "" : ", \(warnings.count) warning\(warnings.count == 1 ? "" : "s")"
        print("\(checked.files) chain file\(checked.files == 1 ? "" : "s") checked, no fault\(count)")
    }
}
