import ArgumentParser
import Host

/// The command `windlass check`.
struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what the host would say of chain files, without starting it."
    )

    @OptionGroup var load: LoadArguments

    @Argument(help: "Chain files; without any, those of the folder given by --chains.")
    var files: [String] = []

    func run() throws {
        let count = try Host.check(files: self.files, options: self.load.options())
        print("\(count) chain file\(count == 1 ? "" : "s") checked, no fault")
    }
}
