import NIOCore
import NodeKit
import NodeTesting
import OTA
import Testing

@testable import CoAPIngress

/// The rows of the tables of resources and codes that the other suites do not have.
@Suite("Resources over a real socket", .timeLimit(.minutes(5)))
struct ResourceNodeTests {
    @Test(
        "names of features are compared without case",
        arguments: [
            (CoAPCode.get, "/api/v1/T1/ATTRIBUTES", CoAPCode.content), (.post, "/api/v1/T1/Telemetry", .created),
            (.post, "/api/v1/T1/RPC/1", .created), (.post, "/api/v1/T1/Claim", .created),
            (.get, "/api/v1/T1/Firmware", .content), (.get, "/api/v1/T1/SOFTWARE/CHUNK", .content),
            (.post, "/api/v1/PROVISION", .created),
        ]
    )
    func features(method: CoAPCode, uri: String, code: CoAPCode) async throws {
        let answer: @Sendable (Message) async -> Outcome = { message in
            switch message.type {
            case .claimRequest: .completed(.empty)
            case .provisionRequest: .completed(.json(["status": "SUCCESS"]))
            default: chain()(message)
            }
        }
        try await TestNode.run(answer: answer) { node in
            let peer = try await node.peer()
            #expect(try await peer.ask(method, uri, method == .post ? "{}" : nil).code == code)
        }
    }

    @Test(
        "U+0000 in a body, the path or an argument is 4.00 that names the field, and reaches no chain",
        .bug(id: "D1.3"),
        arguments: [
            (CoAPCode.post, "/api/v1/T1/telemetry", #"{"v":"a\u0000b"}"#, "v"),
            (.post, "/api/v1/T1\u{0}/telemetry", "{}", "Uri-Path"),
            (.get, "/api/v1/T1\u{0}a long segment of a path/attributes", nil, "Uri-Path"),
            (.get, "/api/v1/T1/attributes?sharedKeys=a\u{0}", nil, "sharedKeys"),
            (.get, "/fw/T1?title=a\u{0}b", nil, "title"), (.get, "/fw/T1?\u{0}", nil, "Uri-Query"),
        ] as [(CoAPCode, String, String?, String)]
    )
    func nullCharacter(method: CoAPCode, uri: String, body: String?, field: String) async throws {
        try await TestNode.run(answer: { _ in .completed(.empty) }) { node in
            let answer = try await node.peer().ask(method, uri, body)
            #expect(answer.code == .badRequest)
            #expect(String(buffer: answer.payload) == "'\(field)' must not have the character U+0000 in it")
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test("a path or argument that is not UTF-8 is 4.00, not another text", .bug(id: "D1.2"))
    func notUTF8() async throws {
        try await TestNode.run(answer: { _ in .completed(.empty) }) { node in
            let peer = try await node.peer()
            for (bytes, number) in [([0x54, 0xFF], .uriPath), ([0x61, 0x3D, 0xC3], .uriQuery)]
                as [([UInt8], CoAPOption.Number)]
            {
                var message = CoAPMessage.request(.post, "/api/v1", "{}", messageID: peer.messageID())
                message.add(CoAPOption(number, ByteBuffer(bytes: bytes)))
                #expect(try await peer.ask(message).code == .badRequest)
            }
            #expect(node.outlet.sent.isEmpty)
        }
    }

    @Test("bodies, answers and arguments are kept apart whose paths and names only look the same", .bug(id: "D1.2"))
    func equivalents() throws {
        #expect(CoAPRequest.Argument("sharedKeys=a") != CoAPRequest.Argument("shared\u{212A}eys=a"))
        #expect(CoAPRequest.Argument("a=caf\u{E9}") != CoAPRequest.Argument("a=cafe\u{301}"))
        #expect(RetainedBodies.Subject.answer(path: ["caf\u{E9}"]) != .answer(path: ["cafe\u{301}"]))
        let message = CoAPMessage.request(.get, "/api/v1/T1/attributes?shared\u{212A}eys=a&sharedKeys=b", messageID: 1)
        #expect(try CoAPRequest(message).list("sharedKeys") == "b")
    }

    @Test(
        "a claim goes to the chain, also without a body; 2.01 if something took it, else 4.04",
        arguments: [#"{"secretKey":"s","durationMs":60000}"#, "{}", nil]
    )
    func claim(body: String?) async throws {
        try await TestNode.run(answer: { _ in .completed(.empty) }) { node in
            let answer = try await node.peer().ask(.post, "/api/v1/T1/claim", body)
            #expect(answer.code == .created && answer.payload.readableBytes == 0)
            let message = try #require(node.outlet.sent.first?.message)
            #expect(message.type == .claimRequest && message.originator == TestDevices.first)
            let claim = try JSON(parsing: ByteBuffer(string: body ?? "{}"))
            #expect(message.data == .json(claim))
        }
        try await TestNode.run { node in
            let answer = try await node.peer().ask(.post, "/api/v1/T1/claim", body)
            #expect(answer.code == .notFound)
        }
    }

    @Test(
        "a device that asks for an identity is answered with what the chain says: 2.01 or 4.00, with the body in both",
        arguments: [
            (#"{"credentialsValue":"new","credentialsType":"ACCESS_TOKEN","status":"SUCCESS"}"#, CoAPCode.created),
            (#"{"errorMsg":"Provision data was not found!","status":"NOT_FOUND"}"#, .badRequest),
            (#"{"errorMsg":"Failed to provision device!","status":"FAILURE"}"#, .badRequest),
        ]
    )
    func provision(reply: String, code: CoAPCode) async throws {
        let json = try JSON(parsing: ByteBuffer(string: reply))
        try await TestNode.run(answer: { _ in .completed(.json(json)) }) { node in
            let body = #"{"deviceName":"d","provisionDeviceKey":"k","provisionDeviceSecret":"s"}"#
            let answer = try await node.peer().ask(.post, "/api/v1/provision", body)
            #expect(answer.code == code && answer.payload.text == reply)
            #expect(answer.option(.contentFormat)?.uint == 50)
            let message = try #require(node.outlet.sent.first?.message)
            #expect(message.type == .provisionRequest && message.originator == .unknown(name: "d"))
            let asked = try JSON(parsing: ByteBuffer(string: body))
            #expect(message.data == .json(asked))
            #expect(message.metadata.object == ["transport": "coap"])
        }
    }

    @Test(
        "a request for an identity that is no object, or that nothing answers, is refused",
        arguments: ["[]", "", "{"]
    )
    func badProvision(body: String) async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            #expect(try await peer.ask(.post, "/api/v1/provision", body).code == .badRequest)
            #expect(node.outlet.sent.isEmpty)
            #expect(try await peer.ask(.post, "/api/v1/provision", "{}").code == .notFound)
        }
    }

    @Test("a request for an identity may come in blocks")
    func provisionInBlocks() async throws {
        try await TestNode.run(answer: { _ in .completed(.json(["status": "SUCCESS"])) }) { node in
            let peer = try await node.peer()
            for (number, part) in [#"{"deviceName":"d"#, #"evice"}"#].enumerated() {
                let block = Block(number: UInt32(number), more: number == 0, exponent: 0)
                let answer = try await peer.ask(.post, "/api/v1/provision", part, options: [block.option(.block1)])
                #expect(answer.code == (number == 0 ? .continue : .created) && answer.block1 == block)
            }
            #expect(node.outlet.sent.first?.message.originator.name == "device")
        }
    }

    @Test(
        "JSON is declared as what the request's own body is, and as JSON if it says nothing",
        arguments: [nil, 0, 42, 50]
    )
    func contentFormat(format: UInt32?) async throws {
        try await TestNode.run(answer: chain()) { node in
            let options = format.map { [CoAPOption(.contentFormat, uint: $0)] } ?? []
            let peer = try await node.peer()
            let call = try await peer.ask(.post, "/api/v1/T1/rpc", #"{"method":"getTime"}"#, options: options)
            #expect(call.code == .content && call.option(.contentFormat)?.uint == format ?? 50)
            let read = try await peer.ask(.get, "/api/v1/T1/attributes", options: options)
            #expect(read.option(.contentFormat)?.uint == format ?? 50)
        }
    }

    @Test("attributes may change at any time, so their answers are not to be kept")
    func maxAge() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            #expect(try await peer.ask(.get, "/api/v1/T1/attributes").option(.maxAge)?.uint == 0)
            #expect(try await peer.ask(.get, "/api/v1/T1/attributes?sharedKeys=none").option(.maxAge)?.uint == 0)
        }
    }

    @Test("who has the answer already, by its entity tag, gets 2.03; nothing is read, and a block is a block")
    func valid() async throws {
        let content = TestContent(count: 5000)
        try await TestNode.run(answer: chain(content)) { node in
            let peer = try await node.peer()
            let etag = try #require(try await peer.ask(.get, "/fw/T1").option(.etag))
            let reads = content.reads.count
            let valid = try await peer.ask(.get, "/fw/T1", options: [etag])
            #expect(valid.code == .valid && valid.option(.etag) == etag && valid.payload.readableBytes == 0)
            #expect(content.reads.count == reads)
            let second = [etag, Block(number: 1, more: false, exponent: 6).option(.block2)]
            #expect(try await peer.ask(.get, "/fw/T1", options: second).payload.readableBytes == 1024)
            let attributes = try await peer.ask(.get, "/api/v1/T1/attributes")
            let known = try #require(attributes.option(.etag))
            #expect(try await peer.ask(.get, "/api/v1/T1/attributes", options: [known]).code == .valid)
        }
    }

    @Test("a device whose package changes while it downloads can make that an error with If-Match")
    func ifMatch() async throws {
        let answer: @Sendable (Message) async -> Outcome = { message in
            let tag = message.metadata.string("version") == "2" ? "bbbbbbbbbbbbbbbb" : "aaaaaaaaaaaaaaaa"
            return .completed(
                .content(ContentReply(content: TestContent(count: 3000), range: 0..<3000, entityTag: tag))
            )
        }
        try await TestNode.run(answer: answer) { node in
            let peer = try await node.peer()
            let etag = try #require(try await peer.ask(.get, "/fw/T1").option(.etag))
            let options = [
                CoAPOption(.ifMatch, etag.value), Block(number: 1, more: false, exponent: 6).option(.block2),
            ]
            #expect(try await peer.ask(.get, "/fw/T1", options: options).code == .content)
            #expect(try await peer.ask(.get, "/fw/T1?version=2", options: options).code == .preconditionFailed)
        }
    }

    @Test("what is asked for with Size2 says how long it is, also if it fits one block")
    func size2() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            let size2 = [CoAPOption(.size2, uint: 0)]
            #expect(try await peer.ask(.get, "/fw/T1?size=100&chunk=0", options: size2).option(.size2)?.uint == 100)
            #expect(try await peer.ask(.get, "/fw/T1?size=100&chunk=0").option(.size2) == nil)
        }
    }

    @Test("an answer to a call that is longer than a block is fetched with the call's own path, which calls only once")
    func longAnswer() async throws {
        let json: JSON = ["text": .string(String(repeating: "z", count: 3000))]
        try await TestNode.run(answer: { _ in .completed(.json(json)) }) { node in
            let peer = try await node.peer()
            var text = ""
            var tags: Set<ByteBuffer> = []
            for number in 0..<6 as Range<UInt32> {
                let options = [Block(number: number, more: false, exponent: 5).option(.block2)]
                let body = number == 0 ? #"{"method":"m"}"# : nil
                let answer = try await peer.ask(.post, "/api/v1/T1/rpc", body, options: options)
                #expect(answer.code == .content)
                text += answer.payload.text
                tags.insert(try #require(answer.option(.etag)).value)
            }
            #expect(text == json.description && tags.count == 1 && node.outlet.sent.count == 1)
            let other = try await node.peer()
            let late = [Block(number: 1, more: false, exponent: 5).option(.block2)]
            #expect(try await other.ask(.post, "/api/v1/T1/rpc", options: late).code == .requestEntityIncomplete)
        }
    }

    @Test("a client whose blocks are larger than ours learns so with its first one, and goes on with smaller ones")
    func negotiation() async throws {
        try await TestNode.run(["block-size-bytes": "256"]) { node in
            let peer = try await node.peer()
            func post(_ number: UInt32, more: Bool, exponent: UInt8, _ text: String) async throws -> CoAPMessage {
                let block = Block(number: number, more: more, exponent: exponent)
                return try await peer.ask(.post, "/api/v1/T1/telemetry", text, options: [block.option(.block1)])
            }
            let first = try await post(0, more: true, exponent: 6, "[" + String(repeating: " ", count: 1023))
            #expect(first.code == .continue && first.block1 == Block(number: 0, more: true, exponent: 4))
            let second = try await post(4, more: true, exponent: 4, String(repeating: " ", count: 256))
            #expect(second.block1 == Block(number: 4, more: true, exponent: 4))
            #expect(try await post(5, more: false, exponent: 4, "]").code == .created)
            #expect(node.outlet.sent.count == 1)
        }
    }

    @Test("a datagram that is too long gets the size of the blocks that would fit, and of the body that would")
    func tooLong() async throws {
        try await TestNode.run(["datagram-bytes-max": "1200"]) { node in
            let body = "[" + String(repeating: " ", count: 1300) + "]"
            let answer = try await node.peer().ask(.post, "/api/v1/T1/telemetry", body)
            #expect(answer.code == .requestEntityTooLarge)
            #expect(answer.block1 == Block(number: 0, more: false, exponent: 6))
            #expect(answer.option(.size1)?.uint == 65536)
        }
    }

    @Test("two bodies for one resource at the same time are told apart by their request tags")
    func requestTags() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            func post(_ number: UInt32, tag: String, _ text: String) async throws -> CoAPCode {
                let options = [
                    Block(number: number, more: number == 0, exponent: 0).option(.block1),
                    CoAPOption(.requestTag, text: tag),
                ]
                return try await peer.ask(.post, "/api/v1/T1/telemetry", text, options: options).code
            }
            #expect(try await post(0, tag: "a", #"{"first        ""#) == .continue)
            #expect(try await post(0, tag: "b", #"{"second       ""#) == .continue)
            #expect(try await post(1, tag: "c", ":0}") == .requestEntityIncomplete)
            #expect(try await post(1, tag: "a", ":1}") == .created)
            #expect(try await post(1, tag: "b", ":2}") == .created)
            #expect(node.outlet.sent.map(\.message.data) == [.json(["first        ": 1]), .json(["second       ": 2])])
        }
    }

    @Test("long tokens come back as they went")
    func longTokens() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            for length in [9, 13, 268, 269, 512, 513] {
                let token = CoAPMessage.Token(ByteBuffer(bytes: (0..<length).map { UInt8(truncatingIfNeeded: $0) }))
                var request = CoAPMessage.request(.get, "/api/v1/T1/attributes", messageID: peer.messageID())
                request.token = token
                let answer = try await peer.ask(request)
                #expect(answer.token == token && answer.code == (length > 512 ? .badRequest : .content))
            }
        }
    }

    @Test("an observer with a long token is told by it")
    func longTokenOfObserver() async throws {
        try await TestNode.run(answer: chain()) { node in
            let peer = try await node.peer()
            var request = CoAPMessage.request(.get, "/api/v1/T1/attributes", options: [CoAPOption(.observe, uint: 0)])
            request.token = CoAPMessage.Token(ByteBuffer(repeating: 0xAB, count: 300))
            #expect(try await peer.ask(request).sequence == 0)
            node.sessions.notify(TestDevices.first.id, .attributesUpdated(["a": 1]))
            let told = await peer.receive()
            #expect(told.token == request.token && told.sequence == 1)
        }
    }
}

@Suite("What can be discovered", .timeLimit(.minutes(5)))
struct DiscoveryTests {
    @Test("all resources are listed, with what is true of them")
    func all() async throws {
        try await TestNode.run { node in
            let answer = try await node.peer().ask(.get, "/.well-known/core")
            #expect(answer.code == .content && answer.option(.contentFormat)?.uint == 40)
            let links = answer.payload.text.split(separator: ",<").map { $0.hasPrefix("<") ? $0.dropFirst() : $0 }
            #expect(links.map { $0.prefix { $0 != ">" } } == Discovery.links.map { $0.path[...] })
            #expect(answer.payload.text.contains(#"</fw>;rt="ota.firmware";if="thingsboard.device""#))
        }
    }

    @Test(
        "links are found by what they say",
        arguments: [
            ("rt=ota.firmware", ["/fw"]), ("rt=ota.rpc", ["/api/v1"]),
            ("rt=ota.*", ["/api/v1", "/api/v1/provision", "/fw", "/sw"]),
            ("href=/api/*", ["/api/v1", "/api/v1/provision"]), ("href=/fw", ["/fw"]), ("href=/f", []),
            ("ct=42", ["/fw", "/sw"]),
            ("ct=40", ["/.well-known/core"]), ("obs", ["/api/v1"]), ("if=thingsboard.device&ct=42&rt=ota.s*", ["/sw"]),
            ("sz=1", []), ("rt=nothing", []), ("href=*", Discovery.links.map(\.path)),
        ]
    )
    func filters(query: String, paths: [String]) async throws {
        try await TestNode.run { node in
            let answer = try await node.peer().ask(.get, "/.well-known/core?\(query)")
            #expect(answer.code == .content)
            let found = Discovery.links.filter { paths.contains($0.path) }.map(\.text).joined(separator: ",")
            #expect(answer.payload.text == found)
        }
    }

    @Test("the list comes in blocks, in its own format only")
    func blocks() async throws {
        try await TestNode.run { node in
            let peer = try await node.peer()
            var text = ""
            var number: UInt32 = 0
            while true {
                let block = Block(number: number, more: false, exponent: 1)
                let answer = try await peer.ask(.get, "/.well-known/core", options: [block.option(.block2)])
                text += answer.payload.text
                number += 1
                if answer.block2?.more != true { break }
            }
            #expect(text == Discovery.links.map(\.text).joined(separator: ",") && number > 5)
            let json = [CoAPOption(.accept, uint: 50)]
            #expect(try await peer.ask(.get, "/.well-known/core", options: json).code == .notAcceptable)
            let links = [CoAPOption(.accept, uint: 40)]
            #expect(try await peer.ask(.get, "/.well-known/core", options: links).code == .content)
        }
    }

    @Test(
        "a device whose profile is for another transport gets 5.00 with a sentence",
        arguments: [
            ("DEFAULT", CoAPCode.content), ("COAP", .content), ("MQTT", .internalServerError),
            ("LWM2M", .internalServerError), ("SNMP", .internalServerError),
        ]
    )
    func profileTransport(kind: String, code: CoAPCode) async throws {
        try await TestNode.run(answer: chain()) { node in
            let answer = try await node.peer().ask(.get, "/api/v1/\(kind)/attributes")
            #expect(answer.code == code)
            guard code == .internalServerError else { return }
            #expect(
                answer.payload.text == "the device's profile has the transport type \(kind), not COAP or DEFAULT"
            )
            #expect(node.outlet.sent.isEmpty)
        }
    }
}
