import Logging
import NodeKit
import NodeTesting
import Testing

@testable import FlowNodes

@Suite struct RoutingNodesTests {
    @Test(arguments: [
        ("type", "POST_TELEMETRY_REQUEST"), ("deviceType", "default"), ("deviceName", "device-1"),
        ("transport", "coap"),
        ("size", "4"), ("fw_state", "UPDATED"), ("absent", "Other"), ("word", "Other"),
    ])
    func `switch leaves by the text of a variable`(variable: String, relation: String) async throws {
        let node = try SwitchNode.make(["on": variable])
        let metadata: Metadata = ["transport": "coap", "size": 4]
        let message = Message.of(.postTelemetryRequest, metadata, ["fw_state": "UPDATED", "word": "Failure"])
        #expect(try await node.process(message).only.relation.rawValue == relation)
    }

    @Test func `switch needs a variable`() {
        #expect(throws: NodeError.self) { try SwitchNode.make() }
        #expect(throws: NodeError.self) { try SwitchNode.make(["on": ""]) }
        #expect(SwitchNode.descriptor.hasOpenRelations)
    }

    @Test func `filter leaves by True or False`() async throws {
        let condition = ClosureCondition { $0.value(forVariable: "battery")?.integer ?? 0 > 30 }
        let node = try FilterNode.make(conditions: ["test": condition])
        #expect(try await node.process(.of(.postTelemetryRequest, [:], ["battery": 31])).only.relation == .true)
        #expect(try await node.process(.of(.postTelemetryRequest, [:], ["battery": 30])).only.relation == .false)
        #expect(try await node.process(.of()).only.relation == .false)
    }

    @Test func `filter fails if its condition does`() async throws {
        let node = try FilterNode.make(conditions: ["test": ClosureCondition { _ in throw NodeError("bad", "no") }])
        await #expect(throws: NodeError.self) { try await node.process(.of()) }
    }

    @Test func `hold says later, and why, as long as its condition holds`() async throws {
        let condition = ClosureCondition { $0.value(forVariable: "battery")?.integer ?? 0 < 30 }
        let node = try HoldNode.make(
            ["retry-seconds": "60", "code": "battery", "reason": "{deviceName} has {battery} %"],
            conditions: ["test": condition],
            services: .testing(now: { Timestamp(milliseconds: 5000) })
        )
        let held = try await node.process(.of(.postTelemetryRequest, [:], ["battery": 29]))
        let reason = "device-1 has 29 %"
        #expect(held.later == Later(until: Timestamp(milliseconds: 65_000), code: "battery", reason: reason))
        #expect(held.routes.isEmpty)
        let free = try await node.process(.of(.postTelemetryRequest, [:], ["battery": 30]))
        #expect(free.later == nil)
        #expect(free.only.relation == .success)
    }

    @Test func `reply accepts by default`() async throws {
        let (message, relation) = try await ReplyNode.make().process(.of()).only
        #expect(relation == .success)
        guard case .empty = message.reply else {
            Issue.record("the reply is \(String(describing: message.reply))")
            return
        }
    }

    @Test(
        arguments: [
            ("forbidden", "not in the maintenance window"), ("unavailable", nil), ("not-found", nil),
            ("too-many-requests", "later"),
        ] as [(String, String?)]
    )
    func `reply refuses with the code that it is given`(status: String, text: String?) async throws {
        var attributes = ["status": status]
        attributes["message"] = text
        let message = try await ReplyNode.make(attributes).process(.of()).only.message
        guard case .refused(let error) = message.reply else {
            Issue.record("the reply is \(String(describing: message.reply))")
            return
        }
        #expect(error.code.rawValue == status)
        #expect(error.message == text ?? "refused by the chain")
    }

    @Test(
        arguments: [
            ("{}", "{}"), (" [1, 2.5, true, null, \"x\"] ", "[1,2.5,true,null,\"x\"]"), ("\"{size}\"", "4"),
            (
                #"{"name":"{deviceName}","size":"{size}","list":["{list}","{absent}"]}"#,
                #"{"name":"device-1","size":4,"list":[[1,{"a":null}],null]}"#
            ),
            (
                #"{"text":"{deviceName} has {size} of {absent}{list}"}"#,
                #"{"text":"device-1 has 4 of [1,{\"a\":null}]"}"#
            ),
            (#"{"{size}":"{{size}}"}"#, #"{"{size}":"{size}"}"#),
            (#"["{quote}","<{quote}>"]"#, #"["\",\"x\":\"","<\",\"x\":\">"]"#),
        ]
    )
    func `reply answers with JSON, variables filled in with their types`(json: String, answer: String) async throws {
        let node = try ReplyNode.make(["json": json])
        let metadata: Metadata = ["size": 4, "list": [1, ["a": nil]], "quote": #"","x":""#]
        let message = try await node.process(.of(.toServerRPCRequest, metadata)).only.message
        guard case .json(let value) = message.reply else {
            Issue.record("the reply is \(String(describing: message.reply))")
            return
        }
        #expect(value.description == answer)
    }

    @Test(
        arguments: [
            ["status": "teapot"], ["status": "ok", "message": "hello"], ["message": "hello"], ["json": "{"],
            ["json": "{name}"], ["json": "\"{\""], ["json": "\"}\""], ["json": "[\"{}\"]"],
            ["json": "1", "status": "conflict"], ["json": "1", "message": "hello"],
        ]
    )
    func `reply refuses attributes that make no sense`(attributes: [String: String]) {
        #expect(throws: NodeError.self) { try ReplyNode.make(attributes) }
    }
}

@Suite struct LogNodeTests {
    private func lines(
        _ attributes: [String: String],
        _ message: Message,
        showing level: Logger.Level = .trace
    ) async throws -> [RecordingLog.Line] {
        let log = RecordingLog(showing: level)
        var services = NodeServices.testing()
        services.logger = Logger(label: "test") { _ in log }
        let node = try LogNode.make(attributes, services: services)
        #expect(try await node.process(message).only.relation == .success)
        return log.lines
    }

    @Test func `writes type and device by default and not the data`() async throws {
        let lines = try await self.lines([:], .of(.postTelemetryRequest, [:], ["secret": "s3cret"]))
        #expect(lines.map(\.text) == ["POST_TELEMETRY_REQUEST of device-1"])
        #expect(lines.map(\.level) == [.info])
        #expect(lines.map(\.metadata) == [["device.name": "device-1"]])
    }

    @Test func `writes the data if asked`() async throws {
        let lines = try await self.lines(["with-data": "true"], .of(.postTelemetryRequest, [:], ["a": 1]))
        #expect(lines.map { $0.metadata["message.data"] } == ["{\"a\":1}"])
    }

    @Test(arguments: [
        ("plain", "plain"), ("", ""), ("{fw_state}: {fw_error}!", "FAILED: boom!"), ("a{absent}b", "ab"),
        ("{{{fw_state}}}", "{FAILED}"), ("{{}}", "{}"),
    ])
    func `fills in variables`(template: String, text: String) async throws {
        let message = Message.of(.postTelemetryRequest, [:], ["fw_state": "FAILED", "fw_error": "boom"])
        #expect(try await self.lines(["message": template], message).map(\.text) == [text])
    }

    @Test(arguments: ["{", "a{b", "{}", "}", "{a}}"])
    func `refuses a template whose braces do not match`(template: String) {
        #expect(throws: NodeError.self) { try LogNode.make(["message": template]) }
    }

    @Test func `a device cannot write a line of its own`() async throws {
        let message = Message.of(.postTelemetryRequest, [:], ["x": "a\nerror: \u{1B}[31mfake\u{2028}b"])
        let text = try #require(try await self.lines(["message": "{x}"], message).first?.text)
        #expect(text == "a\u{FFFD}error: \u{FFFD}[31mfake\u{FFFD}b")
    }

    @Test(arguments: [(256, 256), (257, 257)])
    func `writes long values in part`(length: Int, written: Int) async throws {
        let message = Message.of(.postTelemetryRequest, [:], ["x": .string(String(repeating: "x", count: length))])
        let text = try #require(try await self.lines(["message": "{x}"], message).first?.text)
        #expect(text.count == written)
        #expect(text.hasSuffix("…") == (length > LogTemplate.valueLengthMax))
    }

    @Test(arguments: [("debug", 0), ("info", 1), ("error", 1)])
    func `writes at its level`(level: String, count: Int) async throws {
        let lines = try await self.lines(["level": level], .of(), showing: .info)
        #expect(lines.map(\.level.rawValue) == Array(repeating: level, count: count))
    }
}
