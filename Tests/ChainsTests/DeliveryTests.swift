import NodeKit
import Testing

/// What comes of a message that is meant for a device.
@Suite struct DeliveryTests {
    private static let later = Later(until: Timestamp(milliseconds: 9), code: "closed", reason: "it is closed")

    /// Does what a node's identifier says.
    private static func bench() -> Bench {
        Bench { node, message in
            switch node {
            case "fail": throw NodeError(.storageFull, "no room")
            case "wait", "wait-too":
                .later(
                    node == "wait"
                        ? Self.later : Later(until: Timestamp(milliseconds: 5), code: "sooner", reason: "sooner")
                )
            case "old": .route(message, to: .superseded)
            case "odd": .route(message, to: "NotFound")
            case "none": .end
            default: nil
            }
        }
    }

    private static func outcome(
        _ nodes: String,
        from start: String = "h",
        hasPrecedence: Bool = true
    ) async throws -> String {
        let bench = Self.bench()
        let chain = #"<t:source id="in" to="h"/>"# + nodes
        var outcome = ""
        try await withRuntime(chain, bench) { _ in
            var message = Message.test()
            if hasPrecedence { message.precedence = Precedence(key: "FIRMWARE", generation: 1) }
            outcome = await bench.send(start, message)
        }
        return outcome
    }

    private static func hold(_ targets: String...) -> String {
        #"<t:hold id="h">"# + targets.map { #"<link on="Success" to="\#($0)"/>"# }.joined() + "</t:hold>"
    }

    private static func work(_ ids: String...) -> String { ids.map { #"<t:work id="\#($0)"/>"# }.joined() }

    private static let push = #"<t:push id="push"/>"#

    @Test("a message comes to a node that delivers, or ends before, or is not of now", .bug(id: "Q5"))
    func single() async throws {
        #expect(try await Self.outcome(Self.hold("push") + Self.push) == "completed")
        #expect(try await Self.outcome(Self.hold("a") + Self.work("a")) == "ended at 'a' by 'Success'")
        #expect(try await Self.outcome(Self.hold("odd") + Self.work("odd")) == "ended at 'odd' by 'NotFound'")
        #expect(try await Self.outcome(Self.hold("none") + Self.work("none")) == "ended at 'none'")
        #expect(try await Self.outcome(Self.hold("old") + Self.work("old")) == "superseded")
        #expect(try await Self.outcome(Self.hold("fail") + Self.work("fail")) == "failed storage-full")
        #expect(try await Self.outcome(Self.hold("wait") + Self.work("wait")) == "later closed")
    }

    @Test("a relation that leads nowhere is no dead end behind a node that delivers", .bug(id: "Q5"))
    func behindDelivery() async throws {
        let chain = Self.hold("push") + #"<t:push id="push" to="odd"/>"# + Self.work("odd")
        #expect(try await Self.outcome(chain) == "completed")
    }

    @Test("a message that another queue takes in is safe there", .bug(id: "Q5"))
    func queued() async throws {
        let chain = Self.hold("a") + #"<t:work id="a" to="next"/><t:hold id="next" to="push"/>"# + Self.push
        #expect(try await Self.outcome(chain) == "completed")
    }

    @Test("a message without a precedence ends well wherever it ends", .bug(id: "Q5"), arguments: ["a", "odd", "none"])
    func others(node: String) async throws {
        #expect(try await Self.outcome(Self.hold(node) + Self.work(node), hasPrecedence: false) == "completed")
    }

    @Test(
        "of copies a failure counts first, then later, then a delivery, then what became of the message",
        .bug(id: "Q1"),
        arguments: [
            (["push", "a"], "completed"), (["a", "push"], "completed"), (["old", "push"], "completed"),
            (["old", "a"], "superseded"), (["a", "old"], "superseded"), (["odd", "a"], "ended at 'odd' by 'NotFound'"),
            (["wait", "push"], "later closed"), (["push", "wait"], "later closed"), (["wait", "old"], "later closed"),
            (["a", "wait"], "later closed"), (["wait", "wait-too"], "later sooner"),
            (["wait-too", "wait"], "later sooner"), (["wait", "fail"], "failed storage-full"),
            (["fail", "push"], "failed storage-full"), (["fail", "old"], "failed storage-full"),
        ]
    )
    func copies(targets: [String], expected: String) async throws {
        let nodes = targets.map { $0 == "push" ? Self.push : Self.work($0) }.joined()
        let links = targets.map { #"<link on="Success" to="\#($0)"/>"# }.joined()
        #expect(try await Self.outcome(#"<t:hold id="h">\#(links)</t:hold>"# + nodes) == expected)
    }

    @Test("where there is no queue, later is a failure that may be tried again", .bug(id: "Q1"))
    func unqueued() async throws {
        let chain = #"<t:hold id="h" to="a"/>"# + Self.work("a") + #"<t:source id="b" to="wait"/>"# + Self.work("wait")
        #expect(try await Self.outcome(chain, from: "b") == "failed unavailable")
    }
}
