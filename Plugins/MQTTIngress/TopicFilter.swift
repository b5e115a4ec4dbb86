import NodeKit

/// A filter of topic names with the wildcards `+` (one level) and `#` (this level and all below), as MQTT 5 §4.7 defines.
struct TopicFilter: Hashable, Sendable {
    private let exact: ExactText

    /// The filter as the client wrote it.
    var text: String { self.exact.wrappedValue }

    /// Takes a filter that is valid; `nil` if it is not.
    init?(_ text: String) {
        guard Self.isValid(text) else { return nil }
        self.exact = Self.usual.first { $0 == text.exact } ?? text.exact
    }

    /// The filters that nearly all devices subscribe to: written here, they take no memory of a session.
    private static let usual: [ExactText] = [
        "v1/devices/me/attributes", "v1/devices/me/attributes/response/+", "v1/devices/me/rpc/request/+",
        "v1/devices/me/rpc/response/+", "v2/fw/response/+", "v2/fw/response/+/chunk/+", "v2/sw/response/+/chunk/+",
    ]

    /// Whether a topic name fits the filter.
    ///
    /// Looks at each byte once, allocates nothing.
    func matches(_ topic: String) -> Bool {
        let filter = self.exact.wrappedValue.utf8.span
        let topic = topic.utf8.span
        // MQTT 5 §4.7.2: a wildcard at the start does not match topics that begin with `$`.
        if !topic.isEmpty, topic[0] == UInt8(ascii: "$"), filter[0] != UInt8(ascii: "$") { return false }
        var position = 0
        for index in filter.indices {
            switch filter[index] {
            // Wildcards are alone in their level, so what matched so far ends where one begins.
            case UInt8(ascii: "#"): return true
            case UInt8(ascii: "+"):
                while position < topic.count, topic[position] != UInt8(ascii: "/") { position += 1 }
            case let byte:
                guard position < topic.count else {
                    // MQTT 5 §4.7.1.2: `sport/#` also matches `sport`.
                    return byte == UInt8(ascii: "/") && index == filter.count - 2
                        && filter[index + 1] == UInt8(ascii: "#")
                }
                guard topic[position] == byte else { return false }
                position += 1
            }
        }
        return position == topic.count
    }

    /// Whether the filter is of a shared subscription (MQTT 5 §4.8.2).
    var isShared: Bool { self.text.utf8.starts(with: "$share/".utf8) }

    /// Whether wildcards stand where they may: alone in their level, and `#` last (MQTT 5 §4.7.1).
    private static func isValid(_ text: String) -> Bool {
        guard !text.isEmpty else { return false }
        let levels = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        for (index, level) in levels.enumerated() where level.count > 1 || index < levels.count - 1 {
            if level.contains(UInt8(ascii: "#")) { return false }
            if level.count > 1, level.contains(UInt8(ascii: "+")) { return false }
        }
        return true
    }

    /// Whether a text can be the name of a topic: not empty, and without wildcards (MQTT 5 §4.7.1).
    static func isTopicName(_ text: String) -> Bool {
        let bytes = text.utf8.span
        for index in bytes.indices where bytes[index] == UInt8(ascii: "#") || bytes[index] == UInt8(ascii: "+") {
            return false
        }
        return !bytes.isEmpty
    }
}
