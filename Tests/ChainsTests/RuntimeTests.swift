@testable import Chains
import Logging
import NIOCore
import NIOPosix
import NodeKit
import NodeTesting
import Synchronization
import Testing

/// Runs chains for a test and stops them after it.
func withRuntime(
    _ chain: String,
    _ bench: Bench,
    clock: any Clock<Duration> = ContinuousClock(),
    logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
    _ body: (ChainRuntime) async throws -> Void
) async throws {
    let runtime = ChainRuntime(
        types: try TestPlugin.types(),
        environment: [:],
        services: bench.services(clock: clock),
        logger: logger
    )
    let (ready, readied) = AsyncStream<Void>.makeStream()
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
            defer { readied.finish() }
            try await runtime.run([source(chain)]) { _ in readied.finish() }
        }
        for await _ in ready {}
        do {
            if bench.outlet("in") != nil { try await body(runtime) }
        } catch {
            group.cancelAll()
            throw error
        }
        group.cancelAll()
        try await group.waitForAll()
    }
}

/// A chain file with these nodes.
func source(_ nodes: String, name: String = "main", attributes: String = "") -> ChainSource {
    let text = """
        <chain xmlns="urn:windlass:chain:1" xmlns:t="urn:test" name="\(name)" \(attributes)>
        \(nodes)
        </chain>
        """
    return ChainSource(path: "\(name).xml", bytes: Array(text.utf8))
}

extension Outcome {
    /// The outcome in one word, for comparing.
    var brief: String {
        switch self {
        case .completed(nil): "completed"
        case .completed(.empty?): "empty"
        case .completed(.json(let value)?): "json \(value)"
        case .completed(.content?): "content"
        case .completed(.refused(let error)?): "refused \(error.code)"
        case .failed(let error): "failed \(error.code)"
        case .later(let later): "later \(later.code)"
        case .superseded: "superseded"
        case .ended(let place): "ended at \(place)"
        }
    }
}

@Suite struct RuntimeTests {
    private static let line = #"<t:source id="in" to="a"/><t:work id="a" to="b"/><t:work id="b"/>"#

    @Test("A message passes the nodes in the order of the links and ends well")
    func line() async throws {
        let bench = Bench()
        try await withRuntime(Self.line, bench) { _ in
            #expect(await bench.send() == "completed")
            #expect(bench.path == ["a", "b"])
        }
        #expect(bench.stopped == ["in"])
    }

    private static let fanOut = """
        <t:source id="in" to="a"/>
        <t:work id="a"><link on="Success" to="b"/><link on="Success" to="c"/><link on="NotFound" to="d"/></t:work>
        <t:work id="b" to="d"/><t:work id="c"/><t:work id="d"/>
        """

    @Test("A fan-out gives each branch a message of its own, one branch after another")
    func fanOut() async throws {
        let bench = Bench { node, message in
            var message = message
            message.metadata[node] = true
            return .route(message, to: .success)
        }
        try await withRuntime(Self.fanOut, bench) { _ in
            #expect(await bench.send() == "completed")
        }
        #expect(bench.path == ["a", "b", "d", "c"])
        #expect(bench.messages(at: "d").map(\.metadata.object.names) == [["a", "b"]])
        #expect(bench.messages(at: "c").map(\.metadata.object.names) == [["a"]])
    }

    @Test("A node may send several messages by several relations, which go in order")
    func severalRoutes() async throws {
        let bench = Bench { node, message in
            guard node == "a" else { return nil }
            return .routes([(.test("ONE"), "NotFound"), (.test("TWO"), .success), (.test("GONE"), "Nowhere")])
        }
        try await withRuntime(Self.fanOut, bench) { _ in
            #expect(await bench.send() == "completed")
        }
        #expect(bench.path == ["a", "d", "b", "d", "c"])
        #expect(bench.messages(at: "d").map(\.type) == ["ONE", "TWO"])
    }

    @Test("The first answer on any branch counts, and the nodes after it still work")
    func firstReply() async throws {
        let bench = Bench { node, message in
            node == "a" ? nil : .route(message.replying(.json(.string(node))), to: .success)
        }
        try await withRuntime(Self.fanOut, bench) { _ in
            #expect(await bench.send() == "json \"b\"")
        }
        #expect(bench.path == ["a", "b", "d", "c"])
    }

    @Test("An error without a link on Failure fails the message, also after an answer, and other branches still work")
    func failureWins() async throws {
        let bench = Bench { node, message in
            if node == "b" { return .route(message.replying(.empty), to: .success) }
            if node == "d" { throw NodeError(.storageFull, "no room") }
            return nil
        }
        try await withRuntime(Self.fanOut, bench) { runtime in
            #expect(await bench.send() == "failed storage-full")
            let failed = runtime.nodeCounters().filter { $0.failed > 0 }
            #expect(failed.map(\.node) == ["d"])
            #expect(failed.map(\.processed) == [1])
        }
        #expect(bench.path == ["a", "b", "d", "c"])
    }

    @Test("An error leaves by a link on Failure with its text and code in the metadata")
    func failureLink() async throws {
        struct Odd: Error {}
        let bench = Bench { node, message in
            guard node == "a" else { return nil }
            if message.type == "ODD" { throw Odd() }
            throw NodeError(.notFound, "nothing there")
        }
        let chain = """
            <t:source id="in" to="a"/><t:work id="a"><link on="Failure" to="b"/></t:work>
            <t:filter id="b" test="$errorCode = 'not-found' and $error = 'nothing there'">
              <link on="True" to="c"/><link on="False" to="d"/>
            </t:filter>
            <t:work id="c"/><t:work id="d"/>
            """
        try await withRuntime(chain, bench) { _ in
            #expect(await bench.send() == "completed")
            #expect(await bench.send("in", .test("ODD")) == "completed")
        }
        #expect(bench.path == ["a", "c", "a", "d"])
        #expect(bench.messages(at: "d").first?.metadata.string("errorCode") == "internal-error")
    }

    @Test("A node that returns Failure without a link fails the message, with the error that the metadata tells")
    func returnedFailure() async throws {
        let bench = Bench { _, message in .route(message, to: .failure) }
        try await withRuntime(Self.line, bench) { _ in
            #expect(await bench.send() == "failed internal-error")
            let message = Message.test("X", ["error": "full", "errorCode": "storage-full"])
            #expect(await bench.send("in", message) == "failed storage-full")
            let several = Bench { _, message in .routes([(message, .failure), (message, .success)]) }
            try await withRuntime(Self.line, several) { _ in
                #expect(await several.send() == "failed internal-error")
                #expect(several.path == ["a", "b"])
            }
        }
    }

    @Test("A relation without a link ends the message well, as does a node that sends nothing on")
    func endsWell() async throws {
        let bench = Bench { _, message in
            message.type == "END" ? .end : .route(message.replying(.empty), to: "NotFound")
        }
        try await withRuntime(Self.line, bench) { _ in
            #expect(await bench.send("in", .test("END")) == "completed")
            #expect(await bench.send() == "empty")
            #expect(await bench.send("in", .test(), by: "NotLinked") == "completed")
            #expect(await bench.send("in", .test(), by: .failure) == "failed internal-error")
        }
        #expect(bench.path == ["a", "a"])
    }

    @Test("A message of a switch goes by its own relation, or by Other, which does not take Failure")
    func openRelations() async throws {
        let bench = Bench()
        let chain = """
            <t:source id="in" to="s"/>
            <t:switch id="s"><link on="ONE" to="a"/><link on="Other" to="b"/></t:switch>
            <t:work id="a"/><t:work id="b"/>
            """
        try await withRuntime(chain, bench) { _ in
            #expect(await bench.send("in", .test("ONE")) == "completed")
            #expect(await bench.send("in", .test("TWO")) == "completed")
            #expect(await bench.send("in", .test("Failure")) == "failed internal-error")
        }
        #expect(bench.path == ["a", "b"])
    }

    @Test("A message that passes as many nodes as the ceiling allows ends well, and with one more it fails")
    func hopLimit() async throws {
        let bench = Bench { _, message in
            var message = message
            let left = message.metadata.integer("left") ?? 0
            message.metadata["left"] = .integer(left - 1)
            return .route(message, to: left > 1 ? .success : "NotFound")
        }
        let chain = #"<t:source id="in" to="a"/><t:work id="a" to="b"/><t:work id="b" to="a"/>"#
        try await withRuntime(chain, bench) { runtime in
            #expect(await bench.send("in", .test("X", ["left": 1000])) == "completed")
            #expect(await bench.send("in", .test("X", ["left": 1001])) == "failed hop-limit")
            try await runtime.reload([source(chain, attributes: #"hops-max="2""#)])
            #expect(await bench.send("in", .test("X", ["left": 2])) == "completed")
            #expect(await bench.send("in", .test("X", ["left": 3])) == "failed hop-limit")
        }
    }

    @Test("Every link and node is counted, and a reload goes on counting")
    func counters() async throws {
        let bench = Bench { node, _ in
            if node == "c" { throw NodeError("x", "x") }
            return nil
        }
        try await withRuntime(Self.fanOut, bench) { runtime in
            _ = await bench.send()
            try await runtime.reload([source(Self.fanOut + #"<t:source id="more" to="d"/>"#)])
            _ = await bench.send()
            _ = await bench.send("more")
            let links = runtime.linkCounters().map { "\($0.chain)/\($0.from) \($0.relation) \($0.to) \($0.messages)" }
            #expect(
                links == [
                    "main/in Success a 2", "main/a Success b 2", "main/a Success c 2", "main/a NotFound d 0",
                    "main/b Success d 2", "main/more Success d 1",
                ]
            )
            let nodes = runtime.nodeCounters().map { "\($0.node) \($0.processed) \($0.failed)" }
            #expect(nodes == ["in 0 0", "a 2 0", "b 2 0", "c 2 2", "d 3 0", "more 0 0"])
        }
    }

    @Test("A node that holds messages starts them again later")
    func holding() async throws {
        let bench = Bench()
        let chain = #"<t:source id="in" to="h"/><t:hold id="h" to="a"/><t:work id="a"/>"#
        try await withRuntime(chain, bench) { _ in
            #expect(await bench.send() == "completed")
            #expect(bench.path == ["h"])
            #expect(await bench.send("h") == "completed")
        }
        #expect(bench.path == ["h", "a"])
    }

    @Test("Nodes run on the executor of the task that sends")
    func executor() async throws {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let executor = EventLoopTaskExecutor(loop)
        let onLoop = Counter()
        let bench = Bench { _, _ in
            if loop.inEventLoop { onLoop.increment() }
            return nil
        }
        try await withRuntime(Self.line, bench) { _ in
            let outcome = await Task(executorPreference: executor) {
                #expect(loop.inEventLoop)
                return await bench.send()
            }.value
            #expect(outcome == "completed")
        }
        #expect(onLoop.value == 2)
    }

    @Test("The listeners are told once all ingress nodes are ready, those that hold messages first")
    func listeners() async throws {
        let bench = Bench()
        let chain =
            #"<t:source id="in" port="1" to="h"/><t:hold id="h" to="a"/><t:work id="a"/><t:source id="b" port="2" to="a"/>"#
        try await withRuntime(chain, bench) { runtime in
            #expect(runtime.listeners.map(\.port) == [1, 2])
        }
        #expect(Set(bench.stopped) == ["in", "h", "b"])
    }

    @Test("A host whose chains have faults does not start")
    func refused() async throws {
        let bench = Bench()
        await #expect(throws: ChainFaults.self) {
            try await withRuntime(#"<t:source id="in" to="x"/>"#, bench) { _ in }
        }
        #expect(bench.made("in") == 0)
    }

    @Test("A node that cannot be made is a fault in its place, with the node's own code")
    func initializerError() async throws {
        let bench = Bench()
        let faults = await #expect(throws: ChainFaults.self) {
            try await withRuntime(#"<t:source id="in" to="a"/><t:work id="a" note="refuse"/>"#, bench) { _ in }
        }
        #expect(faults?.description == "main.xml:2:27: error: node 'a': the note is refused [bad-note]")
    }

    @Test("An ingress node that cannot start ends the host with its error, and the others are stopped")
    func startError() async throws {
        let bench = Bench.refusing({ node, _ in node == "b" ? NodeError("address-in-use", "taken") : nil })
        let error = await #expect(throws: NodeError.self) {
            try await withRuntime(#"<t:source id="in" to="a"/><t:source id="b" to="a"/><t:work id="a"/>"#, bench) { _ in
            }
        }
        #expect(error?.code == "address-in-use")
        #expect(bench.stopped == ["in"])
    }
}
