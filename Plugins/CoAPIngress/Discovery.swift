import NIOCore

/// What `/.well-known/core` answers (RFC 6690): where requests may go.
///
/// The access token of a device is a segment of nearly all paths, and is nobody else's business; so what is listed is where
/// these paths begin, and their titles say how they go on.
enum Discovery {
    /// A link to a resource, or to where the paths of resources begin.
    struct Link: Hashable, Sendable {
        var path: String
        var attributes: [(name: String, value: String)]

        /// The link as it is sent.
        var text: String {
            "<\(self.path)>"
                + self.attributes.map { $0.value.isEmpty ? ";\($0.name)" : ";\($0.name)=\(Self.quoted($0))" }.joined()
        }

        /// RFC 6690 §2: numbers may stand without quotation marks.
        private static func quoted(_ attribute: (name: String, value: String)) -> String {
            UInt(attribute.value) == nil ? "\"\(attribute.value)\"" : attribute.value
        }

        /// Whether the link has what a query asks for (RFC 6690 §4.1): an attribute, or `href` for its path.
        ///
        /// The asked value may end in `*`, which stands for any end; of a value with spaces each part counts.
        func fits(_ argument: CoAPRequest.Argument) -> Bool {
            let values: [Substring]
            if argument.name == "href" {
                values = [self.path[...]]
            } else if let value = self.attributes.first(where: { $0.name == argument.name })?.value {
                values = value.isEmpty ? [""] : value.split(separator: " ") + [value[...]]
            } else {
                return false
            }
            guard argument.value.hasSuffix("*") else { return values.contains(argument.value[...]) }
            return values.contains { $0.hasPrefix(argument.value.dropLast()) }
        }

        static func == (a: Self, b: Self) -> Bool { a.text == b.text }
        func hash(into hasher: inout Hasher) { hasher.combine(self.text) }
    }

    private static let device = "thingsboard.device"

    static let links = [
        Link(path: "/.well-known/core", attributes: [("ct", "40")]),
        Link(
            path: "/api/v1",
            attributes: [
                ("rt", "ota.attributes ota.telemetry ota.rpc ota.claim"), ("if", Self.device),
                ("title", "/api/v1/{token}/attributes, telemetry, rpc, claim"), ("ct", "50"), ("obs", ""),
            ]
        ),
        Link(path: "/api/v1/provision", attributes: [("rt", "ota.provision"), ("if", Self.device), ("ct", "50")]),
        Link(
            path: "/fw",
            attributes: [
                ("rt", "ota.firmware"), ("if", Self.device), ("title", "/fw/{token}?title&version&size&chunk"),
                ("ct", "42"),
            ]
        ),
        Link(
            path: "/sw",
            attributes: [
                ("rt", "ota.software"), ("if", Self.device), ("title", "/sw/{token}?title&version&size&chunk"),
                ("ct", "42"),
            ]
        ),
    ]

    /// The links that have everything that a query asks for; no text if there are none.
    static func body(_ query: [CoAPRequest.Argument]) -> ByteBuffer {
        let links = Self.links.filter { link in query.allSatisfy { link.fits($0) } }
        return ByteBuffer(string: links.map(\.text).joined(separator: ","))
    }
}
