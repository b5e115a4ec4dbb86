import ArgumentParser
import Foundation

/// How a command that may touch many devices or messages is held back; the same for every one of them.
struct Confirmation: ParsableArguments {
    @Flag(name: .long, help: "Say how many devices or messages would be touched, and change nothing.")
    var dryRun = false

    @Flag(name: .long, help: "Touch more than one device or message without asking.")
    var yes = false

    /// Lets a command go on if it touches one device at most, or if `--yes` or a person at the terminal agrees.
    ///
    /// - Parameters:
    ///   - what: What would be done, such as `retry the updates of 37 devices`.
    ///   - devices: How many devices that touches.
    /// - Throws: ``CommandFailure`` if nobody agrees: `unconfirmed` if nobody could be asked, else `failed`.
    func confirm(_ what: String, devices: Int) throws { try self.confirm(what, count: devices) }

    /// The same for messages.
    func confirm(_ what: String, messages: Int) throws { try self.confirm(what, count: messages) }

    private func confirm(_ what: String, count: Int) throws {
        guard count > 1, !self.yes else { return }
        guard isatty(STDIN_FILENO) == 1 else {
            throw CommandFailure(
                .unconfirmed,
                "cannot ask whether to \(what), since standard input is not a terminal; add --yes to do it"
            )
        }
        // Standard output is for what was done, which a script may read even if a person answers.
        FileHandle.standardError.write(Data("\(what)? [y/N] ".utf8))
        guard let answer = readLine(), ["y", "yes"].contains(answer.lowercased()) else {
            throw CommandFailure(.failed, "nothing was changed")
        }
    }
}

/// A number of devices, for people.
func deviceCount(_ count: Int) -> String { count == 1 ? "1 device" : "\(count) devices" }
