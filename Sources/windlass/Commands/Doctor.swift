import ArgumentParser
import NodeKit
import Store

/// The command `windlass doctor`.
struct Doctor: AsyncParsableCommand {
    enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

    /// The exit code if a fault is there that was not mended.
    static let faultsFound = ExitCode(2)

    static let configuration = CommandConfiguration(
        abstract: "Looks through the data folder of a host and says what is wrong and how to mend it.",
        discussion: """
            Reads every row, and every byte of every package to compare its checksum. Changes nothing without --repair, and may \
            look while a host has the folder open. Exits with 0 if all is well, with 2 if there is a fault that was not mended, \
            and with 1 if it could not look.
            """
    )

    @Option(name: .long, help: ArgumentHelp("The folder of the database and the packages.", valueName: "dir"))
    var data = "windlass-data"

    @Flag(
        name: .long,
        help: "Mend what can be mended without losing anything that is good; no host may have the folder open."
    )
    var repair = false

    @Option(name: .long, help: "How to say it: text or json.")
    var format = Format.text

    func run() async throws {
        let report = try await StoreDoctor(directory: self.data).examine(repair: self.repair)
        switch self.format {
        case .text: print(report.listing(of: self.data, isRepairing: self.repair))
        case .json: print(report.json(of: self.data).description)
        }
        if !report.findings.isEmpty { throw Self.faultsFound }
    }
}

extension StoreDoctor.Report {
    /// The report for people.
    fileprivate func listing(of folder: String, isRepairing: Bool) -> String {
        let inUse = self.isInUse ? "; a host has it open" : ""
        var lines = [
            "\(folder): \(self.packages) packages with \(self.bytes) bytes, \(self.devices) devices\(inUse)"
        ]
        for queue in self.queues {
            let since = queue.oldest.map { ", the oldest since \(JSON.integer($0.rawValue).dateText)" } ?? ""
            lines.append("queue '\(queue.name)': \(queue.count) message\(queue.count == 1 ? "" : "s")\(since)")
        }
        for finding in self.repaired { lines.append("mended: \(finding)") }
        for finding in self.findings {
            lines.append("fault: \(finding)")
            lines.append("  to mend it: \(finding.remedy)")
        }
        let count = self.findings.count
        lines.append(count == 0 ? "no fault" : "\(count) fault\(count == 1 ? "" : "s")")
        return lines.joined(separator: "\n")
    }

    /// The report for programs.
    fileprivate func json(of folder: String) -> JSON {
        func json(_ finding: StoreFinding) -> JSON {
            [
                "code": .string(finding.code.rawValue), "message": .string(finding.sentence),
                "remedy": .string(finding.remedy), "repairable": .bool(finding.isRepairable),
            ]
        }
        return [
            "data": .string(folder), "inUse": .bool(self.isInUse), "packages": .integer(Int64(self.packages)),
            "bytes": .integer(self.bytes), "devices": .integer(Int64(self.devices)),
            "queues": .array(
                self.queues.map { queue in
                    [
                        "name": .string(queue.name), "waiting": .integer(Int64(queue.count)),
                        "oldest": queue.oldest.map { .integer($0.rawValue) } ?? .null,
                    ]
                }
            ),
            "repaired": .array(self.repaired.map(json)), "findings": .array(self.findings.map(json)),
        ]
    }
}
