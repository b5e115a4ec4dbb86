import DeviceCases
import FoundationEssentials
import IngressKit
import NIOCore
import NodeKit
import OTA
import Testing

@Suite struct DeviceProtocolTests {
    private static let messages = DeviceProtocol(transport: "test")
    private static let sender = DeviceProtocol.Sender(
        Originator(id: UUID.random(), name: "d", type: "p"),
        at: Timestamp(milliseconds: 5),
        session: SessionNumber()
    )

    // MARK: Messages

    /// The message of a request, by the parts that every transport has of it.
    private static func message(_ request: DeviceCase.Request) throws(NodeError) -> Message {
        func buffer(_ body: String) -> ByteBuffer { ByteBuffer(string: body) }
        switch request {
        case .telemetry(let body): return try Self.messages.telemetry(buffer(body), from: Self.sender)
        case .attributes(let body): return try Self.messages.attributes(buffer(body), from: Self.sender)
        case .attributeRequest(let client, let shared):
            return Self.messages.attributeRequest(clientKeys: client, sharedKeys: shared, from: Self.sender)
        case .serverCall(let body): return try Self.messages.serverCall(buffer(body), from: Self.sender)
        case .callAnswer(let id, let body):
            let id = try DeviceProtocol.number(id, MessageKey.requestId)
            return try Self.messages.callAnswer(buffer(body), id: id, from: Self.sender)
        case .claim(let body): return try Self.messages.claim(buffer(body), from: Self.sender)
        case .provisioning(let body): return try Self.messages.provisioning(buffer(body), at: Self.sender.time)
        case .package(let type, let chunk, let size):
            let request = try PackageRequest(
                reading: type,
                title: nil,
                version: nil,
                chunk: chunk,
                size: size,
                isNamed: false
            )
            return Self.messages.package(request, from: Self.sender)
        }
    }

    @Test("the parts of a request become its message, or one fault with one sentence", arguments: DeviceCase.all)
    func table(row: DeviceCase) throws {
        do throws(NodeError) {
            let message = try Self.message(row.request)
            let expected = row.message
            #expect(expected?.matches(message, from: Self.sender.device, over: "test") == true, "\(message)")
            #expect(message.timestamp == Self.sender.time)
            #expect(message.session == (expected?.unknownName == nil ? Self.sender.session : nil))
        } catch {
            #expect(row.message == nil)
            guard case .fault(let code, let sentence) = row.answer else { throw error }
            #expect(error.code == code && error.message == sentence)
        }
    }

    @Test("U+0000 in a body is told apart from other faults, as transports may drop such a message")
    func nullCharacter() throws {
        let error = #expect(throws: NodeError.self) { try Self.message(.telemetry(#"{"a":"\u0000"}"#)) }
        #expect(error?.isNullCharacter == true)
        let other = #expect(throws: NodeError.self) { try Self.message(.telemetry("{")) }
        #expect(other?.isNullCharacter == false)
    }

    @Test(
        "a body asks for attributes as query values do",
        arguments: ["", "{}", #"{"clientKeys":"","sharedKeys":""}"#]
    )
    func allAttributes(body: String) throws {
        let message = try Self.messages.attributeRequest(ByteBuffer(string: body), from: Self.sender)
        #expect(message.type == .getAttributesRequest)
        #expect(message.metadata.object == ["transport": "test"])
    }

    @Test(
        "a body that asks for attributes has lists of names in strings",
        arguments: [
            ("[]", "a request for attributes must be a JSON object"),
            (#"{"clientKeys":1}"#, "'clientKeys' must be names joined by commas, in one string"),
            (#"{"sharedKeys":["a"]}"#, "'sharedKeys' must be names joined by commas, in one string"),
            (#"{"sharedKeys":null}"#, "'sharedKeys' must be names joined by commas, in one string"),
        ]
    )
    func badAttributeRequest(body: String, sentence: String) {
        let error = #expect(throws: NodeError.self) {
            try Self.messages.attributeRequest(ByteBuffer(string: body), from: Self.sender)
        }
        #expect(error?.code == .badRequest && error?.message == sentence)
    }

    @Test("a call has the identifier that its transport knows")
    func callIdentifier() throws {
        let message = try Self.messages.serverCall(ByteBuffer(string: #"{"method":"m"}"#), id: 7, from: Self.sender)
        #expect(message.metadata.object == ["transport": "test", "method": "m", "requestId": 7])
    }

    @Test("a session that begins or ends is a message with an empty object")
    func sessionEvents() {
        let message = Self.messages.sessionEvent(.connectEvent, from: Self.sender)
        #expect(message.type == .connectEvent && message.data == .json([:]))
        #expect(message.session == Self.sender.session)
    }

    // MARK: Packages

    @Test("a request for a package says what the device named")
    func package() {
        let request = PackageRequest(type: .firmware, title: "t", version: "v", chunk: 1, size: 2)
        #expect(
            Self.messages.package(request, from: Self.sender).metadata.object == [
                "transport": "test", "packageType": "FIRMWARE", "title": "t", "version": "v", "chunk": 1, "size": 2,
            ]
        )
        let info = Self.messages.packageInfo(.software, from: Self.sender)
        #expect(info.type == .packageInfoRequest)
        #expect(info.metadata.object == ["transport": "test", "packageType": "SOFTWARE"])
        let id = OtaPackageId.random()
        #expect(
            Self.messages.package(id, of: .firmware, from: Self.sender).metadata.object == [
                "transport": "test", "packageType": "FIRMWARE", "chunk": 0, "size": 0,
                "packageId": .string(id.description),
            ]
        )
    }

    @Test("a title and a version are required where the transport says so", arguments: [nil, ""])
    func required(text: String?) throws {
        func read(title: String?, version: String?, isNamed: Bool) throws(NodeError) -> PackageRequest {
            try PackageRequest(
                reading: .firmware,
                title: title,
                version: version,
                chunk: nil,
                size: nil,
                isNamed: isNamed
            )
        }
        let title = #expect(throws: NodeError.self) { try read(title: text, version: "v", isNamed: true) }
        #expect(title?.message == "Parameter 'title' can't be empty!")
        let version = #expect(throws: NodeError.self) { try read(title: "t", version: text, isNamed: true) }
        #expect(version?.message == "Parameter 'version' can't be empty!")
        let any = PackageRequest(type: .firmware, title: text, version: text)
        #expect(try read(title: text, version: text, isNamed: false) == any)
    }

    @Test("the messages of a download say what was set last, and none changes with the next")
    func download() {
        var download = PackageDownload(of: .firmware, over: Self.messages)
        let first = download.message(chunk: 0, from: Self.sender)
        let id = OtaPackageId.random()
        download.packageId = id
        download.size = 16
        let second = download.message(chunk: 1, from: Self.sender)
        download.packageId = nil
        let third = download.message(chunk: 2, from: Self.sender)
        let base: JSON.Object = ["transport": "test", "packageType": "FIRMWARE"]
        func metadata(_ chunk: JSON, _ size: JSON, _ id: JSON?) -> JSON.Object {
            var all = base
            all["chunk"] = chunk
            all["size"] = size
            all["packageId"] = id
            return all
        }
        #expect(first.metadata.object == metadata(0, 0, nil))
        #expect(second.metadata.object == metadata(1, 16, .string(id.description)))
        #expect(third.metadata.object == metadata(2, 16, nil))
        #expect(third.type == .packageChunkRequest && third.session == Self.sender.session)
        #expect(third.originator == Self.sender.device && third.timestamp == Self.sender.time)
    }

    // MARK: Numbers

    @Test(
        "a number has digits only, and 31 bits",
        arguments: [
            "", "-1", "x", "1x", "2147483648", "+1", "1.0", " 1", "٣", "99999999999999999999",
            "1" + String(repeating: "\u{301}", count: 9999),
        ]
    )
    func badNumber(text: String) {
        #expect(DeviceProtocol.number(text.utf8) == nil)
        let error = #expect(throws: NodeError.self) { try DeviceProtocol.number(text, "chunk") }
        #expect(error?.code == .badRequest)
        #expect(error?.message.hasPrefix("'chunk' must be a whole number from 0 to 2147483647, not '") == true)
        #expect((error?.message.unicodeScalars.count ?? 0) < 200)
    }

    @Test(
        "a number that may be absent is 0 then",
        arguments: [(nil, 0), ("", 0), ("0", 0), ("2147483647", 2_147_483_647)]
    )
    func number(text: String?, number: Int64) throws {
        #expect(try DeviceProtocol.numberIfAny(text, "size") == number)
    }

    @Test(
        "the size of a chunk is read in every form that clients send",
        arguments: [
            ("", nil), ("1024", 1024), ("\"1024\"", 1024), (" 1024\n", 1024), ("0016", 16), ("0", 0),
            ("{\"chunkSize\":1024}", 1024), ("{\"chunkSize\":\"16\"}", 16), ("4096", 4096),
        ] as [(String, Int64?)]
    )
    func size(payload: String, size: Int64?) throws {
        #expect(try DeviceProtocol.chunkSize(ByteBuffer(string: payload), max: 4096) == size)
    }

    @Test(
        "a size that is none, or over the limit, is refused",
        arguments: [
            ("-1", NodeError.Code.badRequest), ("x", .badRequest), ("1.5", .badRequest), ("{}", .badRequest),
            ("[1]", .badRequest),
            ("{\"chunkSize\":null}", .badRequest), ("\"\"", .badRequest), ("4097", .tooLarge),
            ("99999999999999999999", .tooLarge), ("-99999999999999999999", .badRequest),
            ("9223372036854775807", .tooLarge), (String(repeating: " ", count: 256) + "1", .badRequest),
        ]
    )
    func badSize(payload: String, code: NodeError.Code) {
        let error = #expect(throws: NodeError.self) {
            try DeviceProtocol.chunkSize(ByteBuffer(string: payload), max: 4096)
        }
        #expect(error?.code == code)
        #expect((error?.message.utf8.count ?? 0) < 200)
    }

    @Test("a size is read from as many bytes as allowed")
    func longestSize() throws {
        let payload = String(repeating: " ", count: 255) + "1"
        #expect(try DeviceProtocol.chunkSize(ByteBuffer(string: payload), max: 1) == 1)
    }

    // MARK: Answers

    private static let bytes = Outcome.completed(.content(ContentReply(content: NoBytes(), range: 0..<0)))

    @Test("bytes answer a request for a package, and may come with an acknowledgement; nothing else takes them")
    func content() throws {
        #expect(try DeviceProtocol.content(Self.bytes).range.isEmpty)
        guard case .content = try DeviceProtocol.answer(Self.bytes, to: .acknowledgement) else {
            Issue.record("no content")
            return
        }
        for wish in [DeviceProtocol.Wish.attributes, .call, .claim, .identity, .packageInfo] {
            let error = #expect(throws: NodeError.self) { try DeviceProtocol.answer(Self.bytes, to: wish) }
            #expect(error?.code == .internalError)
        }
    }

    @Test("nothing is enough for a report; attributes are none then; all else is not there")
    func nothing() throws {
        #expect(try DeviceProtocol.json(.completed(nil), to: .acknowledgement) == [:])
        #expect(try DeviceProtocol.json(.completed(nil), to: .attributes) == [:])
        for wish in [DeviceProtocol.Wish.call, .claim, .identity, .packageInfo, .package] {
            let error = #expect(throws: NodeError.self) { try DeviceProtocol.answer(.completed(nil), to: wish) }
            #expect(error?.code == .notFound)
        }
    }

    @Test(
        "what the chain refuses or fails with is thrown as it is, whatever the device waits for",
        arguments: [
            DeviceProtocol.Wish.acknowledgement, .attributes, .call, .claim, .identity, .packageInfo, .package,
        ]
    )
    func failures(wish: DeviceProtocol.Wish) {
        for outcome in [Outcome.failed(NodeError(.conflict, "no")), .completed(.refused(NodeError(.conflict, "no")))] {
            let error = #expect(throws: NodeError.self) { try DeviceProtocol.answer(outcome, to: wish) }
            #expect(error?.code == .conflict && error?.message == "no")
        }
    }

    @Test(
        "a device reads the sentences of what is its own doing or passes, not those of the host's faults",
        arguments: [
            (NodeError.Code.badRequest, NodeError.Code.badRequest, "s"), (.unauthorized, .unauthorized, "s"),
            (.forbidden, .forbidden, "s"), (.notFound, .notFound, "s"), (.conflict, .conflict, "s"),
            (.tooLarge, .tooLarge, "s"), (.tooManyRequests, .tooManyRequests, "s"), (.unavailable, .unavailable, "s"),
            (.timedOut, .timedOut, "s"), (.storageFull, .storageFull, "there is no room to store it"),
            (.internalError, .internalError, "Internal Server Error"),
            ("of-its-own", .internalError, "Internal Server Error"),
        ]
    )
    func told(code: NodeError.Code, told: NodeError.Code, sentence: String) {
        let error = DeviceProtocol.told(NodeError(code, "s"))
        #expect(error.code == told && error.message == sentence)
    }

    @Test("news of a device are JSON, with the identifier of a call where no other place has it")
    func news() {
        #expect(DeviceProtocol.attributesDeleted(["a", "b"]) == ["deleted": ["a", "b"]])
        #expect(DeviceProtocol.call(id: 3, method: "m", params: [1]) == ["id": 3, "method": "m", "params": [1]])
        #expect(DeviceProtocol.call(id: nil, method: "m", params: nil) == ["method": "m", "params": nil])
    }

    private struct NoBytes: Content {
        var size: Int64 { 0 }

        func read(_ range: Range<Int64>) async throws -> ByteBuffer { ByteBuffer() }
    }
}
