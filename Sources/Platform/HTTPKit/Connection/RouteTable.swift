import IngressKit

/// A node's site on a listener.
final class Mount: Sendable {
    /// The node, for people.
    let owner: String
    /// The paths below which it serves.
    let paths: [String]
    let site: any HTTPSite
    let metrics: TransportMetrics
    private let prefixes: [[UInt8]]

    /// Describes a mount.
    ///
    /// - Parameters:
    ///   - site: What is served.
    ///   - paths: Each begins with a slash. One that ends with a slash stands for all paths that begin with it, any other
    ///     for itself only.
    ///   - owner: The node, for people.
    ///   - metrics: What counts its requests.
    init(_ site: any HTTPSite, at paths: [String], owner: String, metrics: TransportMetrics) {
        precondition(paths.allSatisfy { $0.hasPrefix("/") }, "a path begins with a slash")
        self.site = site
        self.paths = paths
        self.owner = owner
        self.metrics = metrics
        self.prefixes = paths.map { Array($0.utf8) }
    }

    /// Whether a path is one of those that are served here.
    func serves(_ path: HeadBytes) -> Bool {
        self.prefixes.contains { prefix in
            guard path.count >= prefix.count, path.starts(with: prefix) else { return false }
            return path.count == prefix.count || prefix.last == UInt8(ascii: "/")
        }
    }

    /// A path of this and one of another that some request could be below of both; `nil` if there are none.
    func conflict(with other: Mount) -> (String, String)? {
        func covers(_ one: String, _ other: String) -> Bool {
            one == other || one.hasSuffix("/") && other.hasPrefix(one)
        }
        for path in self.paths {
            for taken in other.paths where covers(path, taken) || covers(taken, path) { return (path, taken) }
        }
        return nil
    }
}

/// The mounts of a listener as the connections of one event loop see them.
final class RouteTable {
    /// Changes on the event loop only.
    var mounts: [Mount]

    init(_ mounts: [Mount] = []) { self.mounts = mounts }

    /// Finds the route of a request, or why there is none.
    func find(_ target: HeadBytes, for head: RequestHead) {
        guard let target = RequestTarget(target) else { return head.refuse(.notFound) }
        for mount in self.mounts where mount.serves(target.path) {
            head.mount = mount
            do {
                head.route = try mount.site.route(head.method, target)
            } catch {
                head.refuse(error)
            }
            return
        }
        head.refuse(.notFound)
    }
}
