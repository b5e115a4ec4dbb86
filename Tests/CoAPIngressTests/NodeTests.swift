import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import CoAPIngress

@Suite("A device over CoAP", .timeLimit(.minutes(5)))
struct NodeTests {
    @Test("telemetry goes to the chain as it is and is answered with 2.01")
    func telemetry() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            let request = CoAPMessage.request(.post, "/api/v1/T1/telemetry", #"{"temperature":21.5}"#, messageID: 77)
            let answer = try await peer.ask(request)
            #expect(answer == CoAPMessage(.acknowledgement, .created, messageID: 77, token: request.token))
            let message = try #require(node.outlet.sent.first?.message)
            #expect(message.type == .postTelemetryRequest)
            #expect(message.originator == TestDevices.first)
            #expect(message.data == .json(["temperature": 21.5]))
            #expect(message.metadata.object == ["transport": "coap"])
        }
    }

    @Test(
        "posts become the messages of the chain",
        arguments: [
            ("/api/v1/T2/attributes", #"{"a":1}"#, MessageType.postAttributesRequest, JSON.Object(), ["a": 1] as JSON),
            ("/api/v1/T2/telemetry", "[]", MessageType.postTelemetryRequest, JSON.Object(), [] as JSON),
            ("/api/v1/T2/Telemetry", "{}", MessageType.postTelemetryRequest, JSON.Object(), [:] as JSON),
            (
                "/api/v1/T2/rpc/5", #"{"r":1}"#, MessageType.toServerRPCResponse, ["requestId": 5] as JSON.Object,
                ["r": 1] as JSON
            ),
        ]
    )
    func posts(uri: String, body: String, type: MessageType, metadata: JSON.Object, data: JSON) async throws {
        try await TestNode.run { node in
            let answer = try await node.peer().ask(.post, uri, body)
            #expect(answer.code == .created && answer.payload.readableBytes == 0)
            let message = try #require(node.outlet.sent.first?.message)
            #expect(message.type == type && message.originator == TestDevices.second)
            #expect(message.data == .json(data))
            for member in metadata.members { #expect(message.metadata[member.name] == member.value) }
        }
    }

    @Test("a call of the device is answered with what the chain says, or 4.04")
    func clientCall() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            let answer = try await peer.ask(.post, "/api/v1/T1/rpc", #"{"method":"getTime","params":{"zone":"UTC"}}"#)
            #expect(answer.code == .content && answer.payload.text == #"{"time":1}"#)
            let message = try #require(node.outlet.sent.first?.message)
            #expect(message.type == .toServerRPCRequest && message.data == .json(["zone": "UTC"]))
            #expect(message.metadata.string("method") == "getTime")
            #expect(try await peer.ask(.post, "/api/v1/T1/rpc", #"{"method":"other"}"#).code == .notFound)
        }
    }

    @Test("attributes are read as asked; no result is 4.04 with an empty object")
    func attributes() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            let answer = try await peer.ask(.get, "/api/v1/T1/attributes?clientKeys=a,b&sharedKeys=c&sharedKeys=d")
            #expect(answer.code == .content)
            #expect(answer.payload.text == #"{"client":{"a":1},"shared":{"fw_title":"T"}}"#)
            #expect(answer.option(.contentFormat)?.uint == 50)
            let metadata = try #require(node.outlet.sent.first?.message.metadata)
            #expect(metadata.string("clientKeys") == "a,b" && metadata.string("sharedKeys") == "c,d")
            let none = try await peer.ask(.get, "/api/v1/T1/attributes?sharedKeys=none")
            #expect(none.code == .notFound && none.payload.text == "{}")
            _ = try await peer.ask(.get, "/api/v1/T1/attributes")
            let all = try #require(node.outlet.sent.last?.message.metadata)
            #expect(all["clientKeys"] == nil && all["sharedKeys"] == nil)
        }
    }

    @Test(
        "what cannot be answered says why",
        arguments: [
            (CoAPCode.get, "/api/v1/bad/attributes", CoAPCode.unauthorized),
            (.post, "/api/v1/bad/telemetry", .unauthorized),
            (.get, "/fw/bad", .unauthorized),
            (.get, "/fw", .unauthorized),
            (.get, "/fw/T1/more", .unauthorized),
            (.get, "/sw/T1/", .unauthorized),
            (.get, "/", .notFound),
            (.get, "/nothing", .notFound),
            (.get, "/api/v2/T1/attributes", .notFound),
            (.get, "/.well-known", .notFound),
            (.get, "/api/v1", .badRequest),
            (.get, "/api/v1/T1", .badRequest),
            (.post, "/api/v1/T1/nothing", .badRequest),
            (.get, "/api/v1/T1/firmware/other", .badRequest),
            (.post, "/api/v1/T1/rpc/x", .badRequest),
            (.get, "/api/v1/T1/telemetry", .badRequest),
            (.get, "/api/v1/T1/rpc/1", .badRequest),
            (.get, "/api/v1/T1/claim", .badRequest),
            (.get, "/api/v1/provision", .badRequest),
            (.put, "/api/v1/provision", .methodNotAllowed),
            (.put, "/api/v1/T1/claim", .methodNotAllowed),
            (.post, "/api/v1/T1/claim", .notFound),
            (.put, "/api/v1/T1/attributes", .methodNotAllowed),
            (.delete, "/api/v1/T1/attributes", .methodNotAllowed),
            (.post, "/fw/T1", .methodNotAllowed),
            (.put, "/sw/T1", .methodNotAllowed),
            (.post, "/api/v1/T1/firmware", .methodNotAllowed),
            (.post, "/api/v1/T1/software/chunk", .methodNotAllowed),
            (.post, "/.well-known/core", .methodNotAllowed),
            (CoAPCode(0, 5), "/fw/T1", .methodNotAllowed),
            (.get, "/api/v1/T1/rpc", .badRequest),
            (.get, "/fw/T2", .notFound),
            (.get, "/fw/T1?title=other", .badRequest),
            (.post, "/api/v1/T1/telemetry", .badRequest),
        ]
    )
    func failures(method: CoAPCode, uri: String, code: CoAPCode) async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            #expect(try await peer.ask(method, uri).code == code)
        }
    }

    @Test(
        "a body that is not what it must be is 4.00 with a text, and nothing reaches the chain",
        arguments: [
            ("telemetry", "{"), ("telemetry", "1"), ("telemetry", #""text""#), ("attributes", "[]"),
            ("attributes", "x"),
            ("rpc", "{}"), ("rpc", #"{"method":1}"#), ("rpc/1", "{"),
            ("telemetry", String(repeating: "[", count: 1000)),
        ]
    )
    func badBodies(feature: String, body: String) async throws {
        try await TestNode.run { node in
            let answer = try await node.peer().ask(.post, "/api/v1/T1/\(feature)", body)
            #expect(answer.code == .badRequest)
            #expect((1...256).contains(answer.payload.readableBytes))
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test(
        "a body may be declared as text, bytes or JSON, and as nothing else",
        arguments: [0, 42, 50, 60, 41] as [UInt32]
    )
    func contentFormats(format: UInt32) async throws {
        try await TestNode.run { node in
            let options = [CoAPOption(.contentFormat, uint: format)]
            let answer = try await node.peer().ask(.post, "/api/v1/T1/telemetry", "{}", options: options)
            #expect(answer.code == ([0, 42, 50].contains(format) ? .created : .unsupportedContentFormat))
        }
    }

    @Test("an answer comes in the format that is asked for, or not at all")
    func accept() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            for (uri, format) in [("/api/v1/T1/attributes", UInt32(50)), ("/fw/T1", 42)] {
                for accept in [UInt32(50), 42, 60] {
                    let answer = try await peer.ask(.get, uri, options: [CoAPOption(.accept, uint: accept)])
                    #expect(answer.code == (accept == format ? .content : .notAcceptable))
                }
            }
        }
    }

    @Test(
        "errors of the chain become the codes of CoAP",
        arguments: [
            (NodeError.Code.badRequest, CoAPCode.badRequest), (.unauthorized, .unauthorized), (.forbidden, .forbidden),
            (.notFound, .notFound), (.conflict, .conflict), (.tooLarge, .requestEntityTooLarge),
            (.tooManyRequests, .tooManyRequests), (.storageFull, .internalServerError),
            (.unavailable, .serviceUnavailable),
            (.timedOut, .gatewayTimeout), (.internalError, .internalServerError), ("of-a-plugin", .internalServerError),
        ]
    )
    func errors(error: NodeError.Code, code: CoAPCode) async throws {
        for outcome in [Outcome.failed(NodeError(error, "why")), .completed(.refused(NodeError(error, "why")))] {
            try await TestNode.run(answer: { _ in outcome }) { node in
                let peer = try await node.peer()
                #expect(try await peer.ask(.post, "/api/v1/T1/telemetry", "{}").code == code)
                #expect(try await peer.ask(.get, "/api/v1/T1/attributes").code == code)
                #expect(try await peer.ask(.get, "/fw/T1").code == code)
                let observe = try await peer.ask(
                    .get,
                    "/api/v1/T1/attributes",
                    options: [CoAPOption(.observe, uint: 0)]
                )
                #expect(observe.code == code && observe.sequence == nil)
            }
        }
    }

    @Test("what went wrong inside is not told, and a long text is cut")
    func diagnostics() async throws {
        let inside = Outcome.failed(NodeError(.internalError, "secret"))
        try await TestNode.run(answer: { _ in inside }) { node in
            let peer = try await node.peer()
            #expect(try await peer.ask(.get, "/fw/T1").payload.text == "Internal Server Error")
        }
        let long = Outcome.failed(NodeError(.badRequest, String(repeating: "ä", count: 200)))
        try await TestNode.run(answer: { _ in long }) { node in
            let answer = try await node.peer().ask(.get, "/fw/T1")
            #expect(answer.payload.text == String(repeating: "ä", count: 128))
        }
    }

    @Test("the resources can be discovered")
    func discovery() async throws {
        try await TestNode.run { node in
            let answer = try await node.peer().ask(.get, "/.well-known/core")
            #expect(answer.code == .content && answer.option(.contentFormat)?.uint == 40)
            #expect(answer.payload.text.contains("</fw>"))
        }
    }

    @Test("IPv6 serves like IPv4, and one socket serves both", arguments: ["127.0.0.1", "0.0.0.0", "::1", "::"])
    func ipv6(host: String) async throws {
        try await TestNode.run(["host": host], answer: chain()) { node in
            #expect(node.listener.host == host && node.listener.scheme == "coap" && node.listener.port > 0)
            // Without an address, the system takes its own.
            for from in host == "::" ? ["::1", "127.0.0.1"] : host == "0.0.0.0" ? ["127.0.0.1"] : [host] {
                let peer = try await TestPeer(Listener(scheme: "coap", host: from, port: node.listener.port))
                #expect(try await peer.ask(.post, "/api/v1/T1/telemetry", "{}").code == .created)
            }
        }
    }

    @Test("an unknown critical option is 4.02 if confirmable, a reset if not; an unknown elective one does not matter")
    func options() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            let critical = [CoAPOption(.init(rawValue: 9))]
            let answer = try await peer.ask(.post, "/api/v1/T1/telemetry", "{}", options: critical)
            #expect(answer.code == .badOption && answer.kind == .acknowledgement)
            let reset = try await peer.ask(.post, "/api/v1/T1/telemetry", "{}", .nonConfirmable, options: critical)
            #expect(reset.kind == .reset && reset.code == .empty)
            #expect(node.outlet.sent.isEmpty)
            let elective = [CoAPOption(.init(rawValue: 2048))]
            #expect(try await peer.ask(.post, "/api/v1/T1/telemetry", "{}", options: elective).code == .created)
            let proxy = [CoAPOption(.proxyURI, text: "coap://a/")]
            #expect(try await peer.ask(.get, "/fw/T1", options: proxy).code == .proxyingNotSupported)
        }
    }

    @Test("a datagram may be as long as the limit; a longer request is 4.13, or a reset if it makes no sense")
    func datagramSize() async throws {
        try await TestNode.run(["datagram-bytes-max": "1200"]) { node in
            let peer = try await node.peer()
            let overhead = CoAPMessage.request(.post, "/api/v1/T1/telemetry", "x").datagram.readableBytes - 1
            for (length, code) in [
                (1200, CoAPCode.created), (1201, .requestEntityTooLarge), (8000, .requestEntityTooLarge),
            ] {
                let body = "[" + String(repeating: " ", count: length - overhead - 2) + "]"
                let answer = try await peer.ask(.post, "/api/v1/T1/telemetry", body)
                #expect(answer.code == code)
            }
            #expect(node.outlet.sent.count == 1)
        }
    }

    @Test("requests that are under way when the node stops are all answered; the port is free afterwards")
    func shutdown() async throws {
        let gate = Gate()
        let domain = try await TestDevices.domain()
        let outlet = TestOutlet { _ in
            await gate.pass()
            return .completed(nil)
        }
        let services = domain.live()
        let node = try CoAPIngressNode.make(TestNode.patience, services: services)
        let running = Task { try await node.run(outlet) }
        let listener = try #require(await outlet.listeners().first)
        let peer = try await TestPeer(listener)
        for messageID in 1...16 as ClosedRange<UInt16> {
            try await peer.send(CoAPMessage.request(.post, "/api/v1/T1/telemetry", "{}", messageID: messageID))
        }
        await gate.arrived(16)
        running.cancel()
        gate.open()
        for _ in 1...16 { #expect(await peer.receive().code == .created) }
        try await running.value

        let again = TestOutlet()
        let second = try CoAPIngressNode.make(["port": "\(listener.port)", "host": "127.0.0.1"], services: services)
        let runningAgain = Task { try await second.run(again) }
        #expect(await again.listeners() == [listener])
        let third = try CoAPIngressNode.make(["port": "\(listener.port)", "host": "127.0.0.1"], services: services)
        let error = await #expect(throws: NodeError.self) { try await third.run(TestOutlet()) }
        #expect(error?.code == .unavailable)
        runningAgain.cancel()
        try await runningAgain.value
    }

    @Test("a socket that the system closes is opened again on the same port, and observers stay")
    func reopening() async throws {
        let domain = try await TestDevices.domain()
        let sessions = domain.sessions
        let outlet = TestOutlet { _ in .completed(.json(["shared": ["a": 1]])) }
        let services = domain.live()
        let node = try CoAPIngressNode.make(TestNode.patience, services: services)
        let eventLoop = services.eventLoopGroup.next()
        let handler = try await node.makeHandler(outlet, on: eventLoop)
        let running = Task { try await node.serve(outlet, by: handler, on: eventLoop) }
        let peer = try await TestPeer(try #require(await outlet.listeners().first))
        let observe = [CoAPOption(.observe, uint: 0)]
        #expect(try await peer.ask(.get, "/api/v1/T1/attributes", options: observe).sequence == 0)
        let closed = eventLoop.flatSubmit { handler.value.context?.close() ?? eventLoop.makeSucceededVoidFuture() }
        try await closed.get()
        while try await eventLoop.submit({ handler.value.context?.channel.isActive != true }).get() {
            await Task.yield()
        }
        #expect(try await peer.hasNothing())
        #expect(sessions.notify(TestDevices.first.id, .attributesUpdated(["a": 2])) == 1)
        #expect(await peer.receive().payload.text == #"{"a":2}"#)
        running.cancel()
        try await running.value
        #expect(sessions.notify(TestDevices.first.id, .attributesUpdated(["a": 3])) == 0)
    }

    @Test("a block size that CoAP does not have is refused", arguments: ["17", "1000", "16", "1024"])
    func blockSizes(size: String) throws {
        let services = try TestDomain().live()
        if ["16", "1024"].contains(size) {
            _ = try CoAPIngressNode.make(["block-size-bytes": size], services: services)
        } else {
            #expect(throws: NodeError.self) { try CoAPIngressNode.make(["block-size-bytes": size], services: services) }
        }
    }
}
