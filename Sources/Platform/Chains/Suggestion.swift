/// What would help someone who wrote a name that does not exist.
enum Suggestion {
    /// How many of the names that exist are listed.
    static let listedMax = 20

    /// `did you mean 'x'?` if a name is near, and the list of names: `did you mean 'x'? it has x, y`.
    static func help(for name: String, among names: [String], listedAs introduction: String) -> String? {
        guard !names.isEmpty else { return nil }
        let listed = names.prefix(Self.listedMax).joined(separator: ", ") + (names.count > Self.listedMax ? ", …" : "")
        let list = "\(introduction) \(listed)"
        return Self.nearest(to: name, among: names).map { "did you mean '\($0)'? \(list)" } ?? list
    }

    /// The name that is nearest by edit distance, if it is near enough to be what was meant.
    static func nearest(to name: String, among names: [String]) -> String? {
        // Longer names are nobody's typing mistake, and the distance costs the product of the lengths.
        guard name.count <= 64 else { return nil }
        let limit = max(1, name.count / 3)
        return names.lazy
            .map { (name: $0, distance: Self.distance(name.lowercased(), $0.lowercased())) }
            .filter { $0.distance <= limit }
            .min { $0.distance < $1.distance }?
            .name
    }

    /// How many single-character insertions, deletions, replacements and swaps of neighbours turn one text into the other.
    static func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a)
        let b = Array(b)
        var beforeLast: [Int] = []
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1]
            for j in b.indices {
                var cost = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforeLast[j - 1] + 1) }
                row.append(cost)
            }
            beforeLast = last
            last = row
        }
        return last[b.count]
    }
}
