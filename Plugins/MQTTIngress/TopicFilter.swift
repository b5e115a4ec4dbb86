/// A filter of topic names with the wildcards `+` (one level) and `#` (this level and all below), as MQTT 5 §4.7 defines.
struct TopicFilter: Hashable, Sendable {
    /// The filter as the client wrote it.
    let text: String

    /// Takes a filter that is valid; `nil` if it is not.
    init?(_ text: String) {
        guard Self.isValid(text) else { return nil }
        self.text = Self.usual.firstIndex(of: text).map { Self.usual[$0] } ?? text
    }

    /// The filters that nearly all devices subscribe to: written here, they take no memory of a session.
    private static let usual = [
        "v1/devices/me/attributes", "v1/devices/me/attributes/response/+", "v1/devices/me/rpc/request/+",
        "v1/devices/me/rpc/response/+", "v2/fw/response/+", "v2/fw/response/+/chunk/+", "v2/sw/response/+/chunk/+",
    ]

    /// Whether a topic name fits the filter.
    ///
    /// Looks at bytes, allocates nothing.
    func matches(_ topic: String) -> Bool {
        var filter = self.text.utf8[...]
        var topic = topic.utf8[...]
        // MQTT 5 §4.7.2: a wildcard at the start does not match topics that begin with `$`.
        if topic.first == UInt8(ascii: "$"), filter.first != UInt8(ascii: "$") { return false }
        while true {
            let level = filter.prefix { $0 != UInt8(ascii: "/") }
            if level.elementsEqual(CollectionOfOne(UInt8(ascii: "#"))) { return true }
            let name = topic.prefix { $0 != UInt8(ascii: "/") }
            guard level.elementsEqual(CollectionOfOne(UInt8(ascii: "+"))) || level.elementsEqual(name) else {
                return false
            }
            filter = filter[level.endIndex...]
            topic = topic[name.endIndex...]
            switch (filter.isEmpty, topic.isEmpty) {
            case (true, true): return true
            // MQTT 5 §4.7.1.2: `sport/#` also matches `sport`.
            case (false, true): return filter.elementsEqual("/#".utf8)
            case (true, false): return false
            case (false, false):
                filter = filter.dropFirst()
                topic = topic.dropFirst()
            }
        }
    }

    /// Whether the filter is of a shared subscription (MQTT 5 §4.8.2).
    var isShared: Bool { self.text.hasPrefix("$share/") }

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
        !text.isEmpty && !text.utf8.contains { $0 == UInt8(ascii: "#") || $0 == UInt8(ascii: "+") }
    }
}
