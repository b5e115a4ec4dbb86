import NIOCore
import NodeKit

extension DeviceCase {
    /// The table.
    public static let all = Self.reports + Self.attributeRequests + Self.calls + Self.others + Self.packages + Self.told

    private static let missing = "Required request body is missing"
    private static let cutOff = "the body is not valid JSON at byte 5: the text ends where a value should be"

    private static func null(_ field: String) -> String { "'\(field)' must not have the character U+0000 in it" }

    private static func number(_ name: String, not text: String) -> String {
        "'\(name)' must be a whole number from 0 to 2147483647, not '\(text)'"
    }

    // MARK: What devices send

    private static let reports: [DeviceCase] = {
        let telemetry = MessageType.postTelemetryRequest
        let shape = "telemetry must be a JSON object or an array of objects"
        let moment = "'ts' must be an integer of milliseconds and 'values' an object"
        let object = "attributes must be a JSON object"
        return [
            .passes(.telemetry(#"{"a":1}"#), telemetry, [:], .json(["a": 1])),
            .passes(.telemetry(#"{"a":null}"#), telemetry, [:], .json(["a": nil])),
            .passes(.telemetry("{}"), telemetry, [:], .json([:])),
            .passes(.telemetry("[]"), telemetry, [:], .json([])),
            .passes(.telemetry(#"{"ts":5}"#), telemetry, [:], .json(["ts": 5])),
            .passes(
                .telemetry(#"[{"a":1},{"ts":5,"values":{"a":2}}]"#),
                telemetry,
                [:],
                .json([["a": 1], ["ts": 5, "values": ["a": 2]]])
            ),
            .refused(.telemetry(""), Self.missing),
            .refused(.telemetry(#"{"a":"#), Self.cutOff),
            .refused(.telemetry("1"), shape),
            .refused(.telemetry(#""a""#), shape),
            .refused(.telemetry("null"), shape),
            .refused(.telemetry("[1]"), shape),
            .refused(.telemetry(#"[{"a":1},[]]"#), shape),
            .refused(.telemetry(#"{"ts":"x","values":{}}"#), moment),
            .refused(.telemetry(#"[{"ts":1,"values":[]}]"#), moment),
            .refused(.telemetry(#"{"v":"a\u0000b"}"#), Self.null("v")),
            .passes(.attributes(#"{"a":1}"#), .postAttributesRequest, [:], .json(["a": 1])),
            .passes(.attributes("{}"), .postAttributesRequest, [:], .json([:])),
            .refused(.attributes(""), Self.missing),
            .refused(.attributes(#"{"a":"#), Self.cutOff),
            .refused(.attributes("[]"), object),
            .refused(.attributes("1"), object),
            .refused(.attributes(#"{"a":{"b":["\u0000"]}}"#), Self.null("a.b[0]")),
        ]
    }()

    private static let attributeRequests: [DeviceCase] = {
        func asks(_ client: String?, _ shared: String?, _ metadata: JSON.Object) -> DeviceCase {
            let found: JSON = ["shared": ["c": 1]]
            return .passes(
                .attributeRequest(clientKeys: client, sharedKeys: shared),
                .getAttributesRequest,
                metadata,
                outcome: .completed(.json(found)),
                answer: .json(found)
            )
        }
        return [
            asks("a,b", "c", ["clientKeys": "a,b", "sharedKeys": "c"]),
            asks("a", nil, ["clientKeys": "a"]),
            asks(nil, "ü x", ["sharedKeys": "ü x"]),
            asks(nil, nil, [:]),
            // No names are no list.
            asks("", "", [:]),
            asks("", "c", ["sharedKeys": "c"]),
        ]
    }()

    private static let calls: [DeviceCase] = {
        let shape = "a call must be a JSON object with the string 'method'"
        func calls(_ body: String, _ method: String, _ params: JSON) -> DeviceCase {
            .passes(
                .serverCall(body),
                .toServerRPCRequest,
                ["method": .string(method), "requestId": 0],
                .json(params),
                outcome: .completed(.json(["ok": true])),
                answer: .json(["ok": true])
            )
        }
        func answers(_ id: Int64, _ body: String, _ data: JSON) -> DeviceCase {
            .passes(.callAnswer(id: String(id), body), .toServerRPCResponse, ["requestId": .integer(id)], .json(data))
        }
        return [
            calls(#"{"method":"m","params":{"a":1}}"#, "m", ["a": 1]),
            calls(#"{"method":"m","params":[1]}"#, "m", [1]),
            calls(#"{"method":"m","params":{}}"#, "m", [:]),
            calls(#"{"method":"m","params":null}"#, "m", nil),
            // As in ThingsBoard: parameters that are absent are null, and a method may have any name.
            calls(#"{"method":"m"}"#, "m", nil),
            calls(#"{"method":""}"#, "", nil),
            // Where the identifier is not part of the path or topic, the body has none either.
            calls(#"{"method":"m","id":7}"#, "m", nil),
            .refused(.serverCall(""), Self.missing),
            .refused(.serverCall(#"{"a":"#), Self.cutOff),
            .refused(.serverCall("[]"), shape),
            .refused(.serverCall("{}"), shape),
            .refused(.serverCall(#"{"params":1}"#), shape),
            .refused(.serverCall(#"{"method":1}"#), shape),
            .refused(.serverCall(#"{"method":null}"#), shape),
            .refused(.serverCall(#"{"method":"\u0000"}"#), Self.null("method")),
            answers(12, #"{"ok":true}"#, ["ok": true]),
            answers(0, "1", 1),
            answers(2_147_483_647, "null", nil),
            // A device that has nothing to say.
            answers(1, "", nil),
            .refused(.callAnswer(id: "1", #"{"a":"#), Self.cutOff),
            .refused(.callAnswer(id: "1", #"{"\u0000":1}"#), Self.null(#"\u0000"#)),
            .refused(.callAnswer(id: "x", "1"), Self.number("requestId", not: "x")),
            .refused(.callAnswer(id: "-1", "1"), Self.number("requestId", not: "-1")),
            .refused(.callAnswer(id: "2147483648", "1"), Self.number("requestId", not: "2147483648")),
            .refused(.callAnswer(id: "1.0", "1"), Self.number("requestId", not: "1.0")),
        ]
    }()

    private static let others: [DeviceCase] = {
        let claim: JSON = ["secretKey": "s", "durationMs": 60_000]
        func wants(_ body: String, _ name: String, _ data: JSON) -> DeviceCase {
            .passes(
                .provisioning(body),
                .provisionRequest,
                [:],
                .json(data),
                unknownName: name,
                outcome: .completed(.json(["status": "SUCCESS"])),
                answer: .json(["status": "SUCCESS"])
            )
        }
        return [
            .passes(.claim(#"{"secretKey":"s","durationMs":60000}"#), .claimRequest, [:], .json(claim)),
            .passes(.claim("{}"), .claimRequest, [:], .json([:])),
            .passes(.claim(""), .claimRequest, [:], .json([:])),
            .refused(.claim(#"{"a":"#), Self.cutOff),
            .refused(.claim("[]"), "a claim must be a JSON object"),
            .refused(.claim("null"), "a claim must be a JSON object"),
            .refused(.claim(#"{"secretKey":"\u0000"}"#), Self.null("secretKey")),
            wants(#"{"deviceName":"d","gateway":true}"#, "d", ["deviceName": "d", "gateway": true]),
            wants("{}", "", [:]),
            wants(#"{"deviceName":null}"#, "", ["deviceName": nil]),
            wants(#"{"deviceName":7}"#, "7", ["deviceName": 7]),
            wants(#"{"deviceName":["d"]}"#, "", ["deviceName": ["d"]]),
            .refused(.provisioning(""), Self.missing),
            .refused(.provisioning(#"{"a":"#), Self.cutOff),
            .refused(.provisioning("[]"), "a provisioning request must be a JSON object"),
            .refused(.provisioning(#"{"deviceName":"\u0000"}"#), Self.null("deviceName")),
        ]
    }()

    private static let packages: [DeviceCase] = {
        func asks(_ chunk: Int64, _ size: String, _ bytes: Int64) -> DeviceCase {
            .passes(
                .package(.software, chunk: String(chunk), size: size),
                "PACKAGE_CHUNK_REQUEST",
                ["packageType": "SOFTWARE", "chunk": .integer(chunk), "size": .integer(bytes)],
                outcome: .failed(NodeError(.unavailable, "not now")),
                answer: .fault(.unavailable, "not now")
            )
        }
        return [
            asks(0, "0", 0),
            asks(3, "4096", 4096),
            asks(2_147_483_647, "1", 1),
            asks(1, "0016", 16),
            asks(0, "", 0),
        ]
            + ["x", "-1", "1.5", "2147483648", "99999999999999999999"].map {
                .refused(.package(.firmware, chunk: $0, size: "1"), Self.number("chunk", not: $0))
            }
            + ["x", "-1", "1.5"].map {
                .refused(.package(.firmware, chunk: "0", size: $0), Self.number("size", not: $0))
            }
    }()

    // MARK: What devices get

    private static let told: [DeviceCase] = {
        let telemetry = Self.passes(.telemetry("{}"), .postTelemetryRequest, [:], .json([:]))
        let attributes = Self.passes(.attributeRequest(clientKeys: nil, sharedKeys: nil), .getAttributesRequest)
        let call = Self.passes(
            .serverCall(#"{"method":"m"}"#),
            .toServerRPCRequest,
            ["method": "m", "requestId": 0],
            .json(nil)
        )
        let claim = Self.passes(.claim(""), .claimRequest, [:], .json([:]))
        let identity = Self.passes(.provisioning("{}"), .provisionRequest, [:], .json([:]), unknownName: "")
        let package = Self.passes(
            .package(.firmware, chunk: "0", size: ""),
            "PACKAGE_CHUNK_REQUEST",
            ["packageType": "FIRMWARE", "chunk": 0, "size": 0]
        )
        let bytes = Outcome.completed(.content(ContentReply(content: NoContent(), range: 0..<0)))
        func missing(_ what: String) -> Answer { .fault(.notFound, "no node of the chain \(what)") }
        func fails(_ code: NodeError.Code, as told: NodeError.Code, _ sentence: String) -> [DeviceCase] {
            let error = NodeError(code, "why")
            return [
                telemetry.answered(.failed(error), .fault(told, sentence)),
                telemetry.answered(.completed(.refused(error)), .fault(told, sentence)),
                call.answered(.failed(error), .fault(told, sentence)),
            ]
        }
        return [
            telemetry.answered(.completed(nil), .empty),
            attributes.answered(.completed(nil), .json([:])),
            attributes.answered(.completed(.empty), .json([:])),
            attributes.answered(bytes, .fault(.internalError, "Internal Server Error")),
            call.answered(.completed(nil), missing("answers this method")),
            call.answered(bytes, .fault(.internalError, "Internal Server Error")),
            claim.answered(.completed(nil), missing("takes claims")),
            identity.answered(.completed(nil), missing("provisions devices")),
            identity.answered(.completed(.empty), missing("provisions devices")),
            package.answered(.completed(nil), missing("has a package for this device")),
            package.answered(.completed(.json(["a": 1])), missing("has a package for this device")),
        ]
            + fails(.badRequest, as: .badRequest, "why") + fails(.conflict, as: .conflict, "why")
            + fails(.unavailable, as: .unavailable, "why")
            // What is inside the host is for its log.
            + fails(.storageFull, as: .storageFull, "there is no room to store it")
            + fails(.internalError, as: .internalError, "Internal Server Error")
            + fails("of-its-own", as: .internalError, "Internal Server Error")
    }()

    /// No bytes.
    private struct NoContent: Content {
        var size: Int64 { 0 }

        func read(_ range: Range<Int64>) async throws -> ByteBuffer { ByteBuffer() }
    }
}
