import IngressKit
import Testing

@testable import HTTPKit

/// Answers nothing.
private struct EmptySite: HTTPSite {
    func route(_ method: RequestMethod, _ target: RequestTarget) throws(Rejection) -> HTTPRoute { throw .notFound }
}

@Suite struct MountTests {
    private func mount(_ paths: [String]) -> Mount {
        Mount(EmptySite(), at: paths, owner: "a node", metrics: TransportMetrics())
    }

    @Test(
        "a path with a slash at its end stands for all paths that begin with it, any other for itself",
        arguments: [
            ("/a/", "/a/", true), ("/a/", "/a/b", true), ("/a/", "/a", false), ("/a/", "/ab", false),
            ("/a", "/a", true), ("/a", "/a/", false), ("/a", "/ab", false),
            ("/", "/anything", true), ("/a/", "/%61/b", false),
        ]
    )
    func serves(path: String, asked: String, isServed: Bool) {
        let mount = self.mount([path])
        #expect(Array(asked.utf8).withUnsafeBufferPointer { mount.serves($0) } == isServed)
    }

    @Test(
        "two nodes cannot serve the same path, whichever comes first",
        arguments: [
            ("/a/", "/a/", true), ("/a/", "/a/b/", true), ("/a/", "/a/b", true), ("/", "/a", true), ("/a", "/a", true),
            ("/a", "/ab", false), ("/a/", "/b/", false), ("/a", "/a/", false), ("/a/b", "/a/c", false),
        ]
    )
    func conflicts(one: String, other: String, isConflict: Bool) {
        let (one, other) = (self.mount(["/x", one]), self.mount([other, "/y/"]))
        #expect((one.conflict(with: other) != nil) == isConflict)
        #expect((other.conflict(with: one) != nil) == isConflict)
    }
}
