import Foundation
import NodeKit

/// Rows of columns for people, each as wide as its widest text.
struct Table {
    private var rows: [[String]]

    init(_ titles: [String]) { self.rows = [titles] }

    mutating func add(_ row: [String]) { self.rows.append(row) }

    var text: String {
        let widths = (self.rows.first ?? []).indices.map { column in
            self.rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return self.rows.map { row in
            zip(row, widths).map { text, width in
                text + String(repeating: " ", count: max(0, width - text.count))
            }.joined(separator: "  ").trimmingTrailingSpaces
        }.joined(separator: "\n")
    }
}

/// A list that is printed as it comes, so that it may be as long as a fleet is large.
struct ListOutput {
    let format: OutputFormat
    let titles: [String]
    let row: (JSON) -> [String]
    private var count = 0

    init(_ format: OutputFormat, titles: [String], row: @escaping (JSON) -> [String]) {
        self.format = format
        self.titles = titles
        self.row = row
    }

    mutating func add(_ page: [JSON]) {
        switch self.format {
        case .text:
            var table = Table(self.titles)
            for entry in page { table.add(self.row(entry)) }
            let lines = table.text.split(separator: "\n", omittingEmptySubsequences: false)
            // The titles stand above the first page.
            for line in lines.dropFirst(self.count == 0 ? 0 : 1) { print(line) }
        case .json:
            for (index, entry) in page.enumerated() {
                print("\(self.count + index == 0 ? "[" : ",")\(entry)", terminator: "")
            }
        }
        self.count += page.count
    }

    func finish() {
        if self.format == .json { print(self.count == 0 ? "[]" : "]") }
        fflush(nil)
    }
}

extension String {
    fileprivate var trimmingTrailingSpaces: String {
        var text = self
        while text.last == " " { text.removeLast() }
        return text
    }
}

extension JSON {
    /// A time in milliseconds as people and scripts read it (RFC 3339), in UTC.
    var dateText: String {
        guard let milliseconds = self.integer else { return "-" }
        return Date(timeIntervalSince1970: Double(milliseconds) / 1000).formatted(.iso8601)
    }
}
