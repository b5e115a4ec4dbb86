import HTTPKit
import OTA
import Testing

@testable import HTTPIngress

@Suite struct RouteTests {
    @Test(
        "a path and its parameters say what a device asks for",
        arguments: [
            ("/api/v1/A1/attributes", .readAttributes(clientKeys: nil, sharedKeys: nil)),
            ("/api/v1/A1/attributes?clientKeys=a,b&sharedKeys=c", .readAttributes(clientKeys: "a,b", sharedKeys: "c")),
            ("/api/v1/A1/attributes?sharedKeys=a&sharedKeys=b", .readAttributes(clientKeys: nil, sharedKeys: "a,b")),
            ("/api/v1/A1/attributes?clientKeys=", .readAttributes(clientKeys: nil, sharedKeys: nil)),
            ("/api/v1/A1/attributes?clientKeys=%C3%BC+x%2Cy", .readAttributes(clientKeys: "ü x,y", sharedKeys: nil)),
            ("/api/v1/A1/attributes?&&x=1&clientKeys", .readAttributes(clientKeys: nil, sharedKeys: nil)),
            ("/api/v1/A1/attributes#x", .readAttributes(clientKeys: nil, sharedKeys: nil)),
            ("http://host:1/api/v1/A1/attributes", .readAttributes(clientKeys: nil, sharedKeys: nil)),
            ("/api/v1/A1/attributes/updates", .awaitAttributes(milliseconds: 60_000)),
            ("/api/v1/A1/attributes/updates?timeout=0", .awaitAttributes(milliseconds: 60_000)),
            ("/api/v1/A1/attributes/updates?timeout=300000", .awaitAttributes(milliseconds: 300_000)),
            ("/api/v1/A1/attributes/updates?timeout=300001", .awaitAttributes(milliseconds: 300_000)),
            ("/api/v1/A1/rpc?timeout=5", .awaitCall(milliseconds: 5)),
            (
                "/api/v1/A1/firmware?title=fw&version=1.0",
                .download(.init(type: .firmware, title: "fw", version: "1.0", chunk: 0, size: 0))
            ),
            (
                "/api/v1/A1/software?version=2%2B1&title=a+b&chunk=3&size=7",
                .download(.init(type: .software, title: "a b", version: "2+1", chunk: 3, size: 7))
            ),
            (
                "/api/v1/A1/firmware?title=t&version=v&chunk=2147483647&size=2147483647",
                .download(.init(type: .firmware, title: "t", version: "v", chunk: 2_147_483_647, size: 2_147_483_647))
            ),
            (
                "/api/v1/A1/firmware?title=t&version=v&chunk=&size=",
                .download(.init(type: .firmware, title: "t", version: "v", chunk: 0, size: 0))
            ),
        ] as [(String, DeviceCall)]
    )
    func understands(target: String, call: DeviceCall) throws {
        let route = try Route(method: .get, target: target)
        #expect(route.token == "A1")
        #expect(route.call == call)
    }

    @Test(
        "what is posted is told apart by its path",
        arguments: [
            ("/api/v1/A1/attributes", .writeAttributes), ("/api/v1/A1/telemetry", .writeTelemetry),
            ("/api/v1/A1/rpc", .callServer), ("/api/v1/A1/rpc/0", .answerCall(id: 0)),
            ("/api/v1/A1/rpc/2147483647", .answerCall(id: 2_147_483_647)), ("/api/v1/A1/claim", .claim),
            ("/api/v1/provision", .provision), ("/api/v1/provision?x=y", .provision),
            ("/api/v1/provision/telemetry", .writeTelemetry),
        ] as [(String, DeviceCall)]
    )
    func understandsPosts(target: String, call: DeviceCall) throws {
        #expect(try Route(method: .post, target: target).call == call)
    }

    @Test(
        "a path that leads nowhere is not found",
        arguments: [
            "/", "*", "", "?", "/api", "/api/v1", "/api/v1/A1", "/api/v1/A1/", "/api/v1//attributes",
            "/api/v1/A1/attributes/",
            "/api/v1/A1/attributes/updates/x", "/api/v1/A1/nothing", "/api/v1/A1/firmware/chunk",
            "/api/v2/A1/attributes",
            "//api/v1/A1/attributes", "/API/v1/A1/attributes", "http://host", "host:80", "/api/v1/A1%2Fattributes",
            "/api/v1/A1/telemetry/x", "/api/v1/A1/claim/x", "/api/v1/provision/",
        ]
    )
    func notFound(target: String) {
        #expect(throws: Rejection.notFound) { try Route(method: .get, target: target) }
    }

    @Test(
        "numbers and texts that are out of range are a bad request",
        arguments: [
            "chunk=-1", "chunk=x", "chunk=1.5", "chunk=+1", "chunk=%2B1", "chunk=2147483648",
            "chunk=9223372036854775807",
            "chunk=99999999999999999999999999", "chunk=1&chunk=2", "chunk=%", "chunk=%zz", "chunk=%ff", "chunk=%31%",
            "size=-1", "size=2147483648", "size=0x10", "title=twice", "chunk=1%00",
        ]
    )
    func badNumbers(parameter: String) {
        let error = #expect(throws: Rejection.self) {
            try Route(method: .get, target: "/api/v1/A1/firmware?title=t&version=v&\(parameter)")
        }
        guard case .badRequest? = error else { Issue.record("\(String(describing: error))"); return }
    }

    @Test("a title and a version are needed", arguments: ["", "?title=t", "?version=v", "?title=&version=v"])
    func missing(query: String) {
        let error = #expect(throws: Rejection.self) { try Route(method: .get, target: "/api/v1/A1/firmware\(query)") }
        guard case .badRequest(let text)? = error else { Issue.record("\(String(describing: error))"); return }
        #expect(text.hasSuffix("can't be empty!"))
    }

    @Test(
        "a token that could be taken for another path is a bad request",
        arguments: ["..", ".", "%2e%2e", "a%2Fb", "a%5Cb", "a%00", "%ff", "%", "%4", "a%0d%0ab", "%c0%af"]
    )
    func badTokens(token: String) {
        let error = #expect(throws: Rejection.self) { try Route(method: .get, target: "/api/v1/\(token)/attributes") }
        guard case .badRequest? = error else { Issue.record("\(String(describing: error))"); return }
    }

    @Test("a token has at most 255 bytes")
    func longToken() throws {
        let longest = String(repeating: "t", count: 255)
        #expect(try Route(method: .get, target: "/api/v1/\(longest)/attributes").token == longest)
        #expect(throws: Rejection.unauthorized) { try Route(method: .get, target: "/api/v1/\(longest)t/attributes") }
    }

    @Test(
        "a method that a path does not have names those it has",
        arguments: [
            (.post, "firmware", "GET, HEAD"), (.put, "attributes", "GET, HEAD, POST"), (.get, "telemetry", "POST"),
            (.put, "rpc", "GET, POST"), (.get, "rpc/1", "POST"), (.post, "attributes/updates", "GET"),
            (.head, "attributes/updates", "GET"), (.get, "claim", "POST"),
        ] as [(RequestMethod, String, String)]
    )
    func wrongMethod(method: RequestMethod, path: String, allow: String) {
        #expect(throws: Rejection.methodNotAllowed(allow: allow)) {
            try Route(method: method, target: "/api/v1/A1/\(path)")
        }
    }

    @Test("to become a device is asked for with POST, and without a token")
    func provision() throws {
        #expect(try Route(method: .post, target: "/api/v1/provision").token == nil)
        #expect(throws: Rejection.methodNotAllowed(allow: "POST")) {
            try Route(method: .get, target: "/api/v1/provision")
        }
    }

    @Test("an answer to a call needs a number of 31 bits", arguments: ["x", "-1", "2147483648", "", "1x"])
    func badCall(id: String) {
        #expect(throws: Rejection.self) { try Route(method: .post, target: "/api/v1/A1/rpc/\(id)") }
    }
}

extension Route {
    /// Reads a text.
    fileprivate init(method: RequestMethod, target: String) throws {
        self = try Array(target.utf8).withUnsafeBufferPointer { bytes in
            guard let target = RequestTarget(bytes) else { throw Rejection.notFound }
            return try Route(method: method, target: target)
        }
    }
}
