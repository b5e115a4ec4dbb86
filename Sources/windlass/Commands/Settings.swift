import ArgumentParser
import Foundation
import Host

/// The command `windlass settings`.
struct Settings: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the settings of a host that have no option of their own.",
        discussion: "Set one with 'windlass serve --set NAME=VALUE' or with its environment variable."
    )

    func run() throws {
        for setting in HostSettings.all {
            let value = setting.defaultText.isEmpty ? "none" : setting.defaultText
            print("\(setting.name)  \(setting.valueText), default \(value), variable \(setting.variable)")
            print("  \(setting.summary)")
        }
    }
}

extension HostSettings.Setting {
    /// What may be written.
    fileprivate var valueText: String {
        switch self.kind {
        case .boolean: "true|false"
        case .integer(let range): "integer \(range.lowerBound)…\(range.upperBound)"
        case .text: "text"
        }
    }
}
