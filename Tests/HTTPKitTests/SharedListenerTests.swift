import IngressKit
import NIOCore
import NodeKit
import NodeTesting
import Synchronization
import Testing
import Waiting

@testable import HTTPKit

/// Answers every request with a text, once it is let, or at once one with a query.
private struct TextSite: HTTPSite, HTTPResponder {
    var text: String
    var isLet: Latch?
    /// Opens with the first request.
    var isAsked = Latch()

    func route(_ method: RequestMethod, _ target: RequestTarget) throws(Rejection) -> HTTPRoute {
        HTTPRoute(target.query.isEmpty ? self : TextSite(text: self.text))
    }

    func begin(_ request: Request) -> HTTPAnswer {
        self.isAsked.open()
        return .suspended(
            Suspension {
                await self.isLet?.opened()
                return .json(.string(self.text))
            }
        )
    }
}

/// A node with a server and nothing else.
struct TextNode: IngressNode {
    static let descriptor = NodeDescriptor(
        type: "text",
        summary: "Answers with a text.",
        relations: [],
        attributes: HTTPServer.attributes
    )

    var server: HTTPServer
    let services: NodeServices

    init(configuration: Configuration, services: NodeServices) throws {
        self.server = try HTTPServer(configuration)
        self.services = services
    }

    func run(_ outlet: any Outlet) async throws {}
}

/// A node that runs.
private struct Running {
    var listeners: [Listener]
    private let task: Task<Void, any Error>

    /// Starts a node and waits until it is ready.
    init(
        _ site: any HTTPSite,
        at path: String,
        named name: String = "node",
        port: Int = 0,
        _ attributes: [String: String] = [:],
        stopping: TimeAmount = .minutes(5)
    ) async throws {
        let attributes = ["host": "127.0.0.1", "port": "\(port)"].merging(attributes) { $1 }
        var node = try TextNode.make(attributes, services: .testing(node: name))
        node.server.stopping = stopping
        let ready = OneShot<Result<[Listener], any Error>>()
        self.task = Task { [node] in
            do {
                try await node.server.run(site, at: [path], services: node.services) { ready.finish(.success($0)) }
            } catch {
                ready.finish(.failure(error))
                throw error
            }
        }
        self.listeners = try await ready.value().get()
    }

    var port: Int { self.listeners.first?.port ?? 0 }

    /// Stops the node and waits until it has returned.
    func stop() async throws {
        self.task.cancel()
        try await self.task.value
    }
}

@Suite(.timeLimit(.minutes(5))) struct SharedListenerTests {
    /// Sends a request on a connection.
    private func get(_ path: String, on client: RawHTTPClient) async throws -> RawHTTPResponse {
        try await client.send("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n")
        return try await client.response()
    }

    /// Sends a request on a connection of its own.
    private func get(_ path: String, port: Int) async throws -> RawHTTPResponse {
        let client = try await RawHTTPClient.connect(port: port)
        let response = try await self.get(path, on: client)
        try await client.close()
        return response
    }

    @Test("two nodes share a listener by its address, each with its paths, also on connections from before")
    func sharing() async throws {
        let one = try await Running(TextSite(text: "one"), at: "/one/")
        let before = try await RawHTTPClient.connect(port: one.port)
        #expect(try await self.get("/two/x", on: before).status == 404)
        let two = try await Running(TextSite(text: "two"), at: "/two/", port: one.port)
        #expect(two.listeners == one.listeners)
        #expect(try await self.get("/one/x", on: before).text == #""one""#)
        #expect(try await self.get("/two/x", on: before).text == #""two""#)
        #expect(try await self.get("/two/x", port: one.port).text == #""two""#)
        #expect(try await self.get("/three", port: one.port).status == 404)
        // The one that has opened it leaves, and the other is served on.
        try await one.stop()
        #expect(try await self.get("/one/x", on: before).status == 404)
        #expect(try await self.get("/two/x", on: before).text == #""two""#)
        try await two.stop()
        #expect(await before.rest() == "")
        // The port is free again.
        let three = try await Running(TextSite(text: "three"), at: "/one/", port: one.port)
        #expect(try await self.get("/one/x", port: one.port).text == #""three""#)
        try await three.stop()
    }

    @Test("a node whose path is taken does not start, and says by which node")
    func conflict() async throws {
        let one = try await Running(TextSite(text: "one"), at: "/a/", named: "first")
        let error = await #expect(throws: NodeError.self) {
            _ = try await Running(TextSite(text: "two"), at: "/a/b", named: "second", port: one.port)
        }
        #expect(error?.code == "route-conflict")
        #expect(
            error?.message
                == "'/a/b' on '127.0.0.1:\(one.port)' is taken: node 'first' of chain 'test' serves '/a/'; choose another path or port"
        )
        #expect(try await self.get("/a/b", port: one.port).text == #""one""#)
        try await one.stop()
    }

    @Test("nodes with other settings do not share a listener")
    func settings() async throws {
        let one = try await Running(TextSite(text: "one"), at: "/a/", named: "first")
        let error = await #expect(throws: NodeError.self) {
            _ = try await Running(TextSite(text: "two"), at: "/b/", port: one.port, ["connections-max": "5"])
        }
        #expect(error?.code == "listener-settings")
        #expect(error?.message.hasPrefix("'connections-max' is 5, but 60000 for node 'first' of chain 'test'") == true)
        try await one.stop()
    }

    @Test("a node that leaves a listener answers what is under way, and ends only the connections of that")
    func leaving() async throws {
        let isLet = Latch()
        let site = TextSite(text: "one", isLet: isLet)
        let one = try await Running(site, at: "/one/")
        let two = try await Running(TextSite(text: "two"), at: "/two/", port: one.port)
        let other = try await RawHTTPClient.connect(port: one.port)
        #expect(try await self.get("/two/x", on: other).text == #""two""#)
        let busy = try await RawHTTPClient.connect(port: one.port)
        try await busy.send("GET /one/x HTTP/1.1\r\nHost: h\r\n\r\n")
        await site.isAsked.opened()
        async let stopped: Void = one.stop()
        // Answered only once the route is gone.
        while try await self.get("/one/x?now", port: one.port).text == #""one""# {}
        isLet.open()
        let answer = try await busy.response()
        #expect(answer["Connection"] == "close")
        #expect(answer.text == #""one""#)
        #expect(await busy.rest() == "")
        try await stopped
        #expect(try await self.get("/two/x", on: other).text == #""two""#)
        try await two.stop()
    }

    @Test("a node that leaves does not wait longer than it may")
    func stopping() async throws {
        let site = TextSite(text: "one", isLet: Latch())
        let one = try await Running(site, at: "/one/", stopping: .milliseconds(50))
        let two = try await Running(TextSite(text: "two"), at: "/two/", port: one.port)
        let busy = try await RawHTTPClient.connect(port: one.port)
        try await busy.send("GET /one/x HTTP/1.1\r\nHost: h\r\n\r\n")
        await site.isAsked.opened()
        try await one.stop()
        #expect(await busy.rest() == "")
        #expect(try await self.get("/two/x", port: two.port).text == #""two""#)
        site.isLet?.open()
        try await two.stop()
    }

    @Test("nodes that start at the same time share what the first of them opens")
    func together() async throws {
        let one = try await Running(TextSite(text: "0"), at: "/0/")
        let port = one.port
        try await one.stop()
        try await withThrowingTaskGroup(of: Running.self) { group in
            for index in 1...8 {
                group.addTask { try await Running(TextSite(text: "\(index)"), at: "/\(index)/", port: port) }
            }
            var nodes: [Running] = []
            for try await node in group { nodes.append(node) }
            for index in 1...8 { #expect(try await self.get("/\(index)/", port: port).text == "\"\(index)\"") }
            for node in nodes { try await node.stop() }
        }
    }
}
