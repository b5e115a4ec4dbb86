import IngressKit
import OTA

/// What a device wants, by the topic that it publishes to.
///
/// | Topic | Meaning |
/// |---|---|
/// | `v1/devices/me/telemetry`, `v2/t`, `v2/t/j` | time series |
/// | `v1/devices/me/attributes`, `v2/a`, `v2/a/j` | client attributes |
/// | `v1/devices/me/attributes/request/{id}`, `v2/a/req/{id}`, `v2/a/req/j/{id}` | asks for attributes |
/// | `v1/devices/me/rpc/request/{id}`, `v2/r/req/{id}`, `v2/r/req/j/{id}` | calls the server |
/// | `v1/devices/me/rpc/response/{id}`, `v2/r/res/{id}`, `v2/r/res/j/{id}` | answers a call |
/// | `v2/fw/request/{id}/chunk/{n}`, `v2/sw/request/{id}/chunk/{n}` | asks for bytes of a package |
/// | `v1/devices/me/claim` | lets itself be claimed |
/// | `/provision/request` | wants to be made a device; only in a session for that |
///
/// The short forms that end in `/p`, or have `/p/` before the identifier, are protobuf and refused; so are those of a gateway.
///
/// Identifiers of requests are digits, at most ``DeviceProtocol/numberMax``. Answers go out on the topic of the same family as the request.
enum DeviceTopic: Hashable, Sendable {
    case telemetry
    case attributes
    case attributesRequest(id: Int64, family: Family)
    case rpcRequest(id: Int64, family: Family)
    case rpcResponse(id: Int64)
    /// Identifier and index of a chunk request are as written: a bad one gets an answer that says so.
    case chunkRequest(type: OtaPackageType, id: String, chunk: String)
    case claim
    case provision
    /// A message in protobuf, which is not spoken.
    case protobuf
    /// A message for devices behind a gateway, of which there are none.
    case gateway
    /// One of these topics, with a text in place of the identifier that is not a number.
    case badId(String)
    /// None of these.
    case unknown

    /// Whether the device reports something and expects no answer but an acknowledgement.
    var isReport: Bool {
        switch self {
        case .telemetry, .attributes, .rpcResponse, .claim: true
        case .attributesRequest, .rpcRequest, .chunkRequest, .provision, .protobuf, .gateway, .badId, .unknown: false
        }
    }

    /// The forms in which topics are written.
    enum Family: String, Sendable, CaseIterable {
        /// `v1/devices/me/…`.
        case v1 = ""
        /// `v2/…`, short.
        case v2 = "v2"
        /// `v2/…/j`, short and JSON by name.
        case v2JSON = "v2 JSON"

        /// Where attributes that changed are told.
        var attributes: String {
            switch self {
            case .v1: "v1/devices/me/attributes"
            case .v2: "v2/a"
            case .v2JSON: "v2/a/j"
            }
        }

        /// Where a request for attributes is answered.
        func attributesResponse(_ id: Int64) -> String {
            switch self {
            case .v1: "v1/devices/me/attributes/response/\(id)"
            case .v2: "v2/a/res/\(id)"
            case .v2JSON: "v2/a/res/j/\(id)"
            }
        }

        /// Where the server calls a device.
        func rpcRequest(_ id: Int) -> String {
            switch self {
            case .v1: "v1/devices/me/rpc/request/\(id)"
            case .v2: "v2/r/req/\(id)"
            case .v2JSON: "v2/r/req/j/\(id)"
            }
        }

        /// Where a call of the server is answered.
        func rpcResponse(_ id: Int64) -> String {
            switch self {
            case .v1: "v1/devices/me/rpc/response/\(id)"
            case .v2: "v2/r/res/\(id)"
            case .v2JSON: "v2/r/res/j/\(id)"
            }
        }
    }

    init(_ topic: String) {
        if let request = Self.chunkRequest(topic) {
            self = request
            return
        }
        switch topic {
        case "v1/devices/me/telemetry", "v2/t", "v2/t/j": self = .telemetry
        case "v1/devices/me/attributes", "v2/a", "v2/a/j": self = .attributes
        case "v1/devices/me/claim": self = .claim
        case Self.provisionRequest: self = .provision
        case "v2/t/p", "v2/a/p": self = .protobuf
        case _ where topic.hasPrefix("v1/gateway/"): self = .gateway
        default: self = Self.request(topic) ?? .unknown
        }
    }

    /// Where a client asks to be made a device.
    static let provisionRequest = "/provision/request"
    /// Where that is answered.
    static let provisionResponse = "/provision/response"

    private static func chunkRequest(_ topic: String) -> DeviceTopic? {
        let type: OtaPackageType
        if topic.hasPrefix("v2/fw/request/") {
            type = .firmware
        } else if topic.hasPrefix("v2/sw/request/") {
            type = .software
        } else {
            return nil
        }
        // Cut at offsets, which costs less than slices of slices.
        let bytes = topic.utf8.span
        var slash = "v2/fw/request/".utf8.count
        let id = slash
        while slash < bytes.count, bytes[slash] != UInt8(ascii: "/") { slash += 1 }
        let chunk = slash + Self.chunkLevel.count
        guard chunk <= bytes.count else { return .unknown }
        for index in Self.chunkLevel.indices where bytes[slash + index] != Self.chunkLevel[index] { return .unknown }
        for index in chunk..<bytes.count where bytes[index] == UInt8(ascii: "/") { return .unknown }
        return .chunkRequest(
            type: type,
            id: Self.text(bytes.extracting(id..<slash)),
            chunk: Self.text(bytes.extracting(chunk..<bytes.count))
        )
    }

    private static let chunkLevel = Array("/chunk/".utf8)

    private static func text(_ bytes: Span<UInt8>) -> String {
        bytes.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
    }

    private static func request(_ topic: String) -> DeviceTopic? {
        guard let slash = topic.utf8.lastIndex(of: UInt8(ascii: "/")) else { return nil }
        let text = topic[topic.utf8.index(after: slash)...]
        let id = DeviceProtocol.number(text.utf8)
        let make: (Int64) -> DeviceTopic
        switch topic[..<slash] {
        case "v1/devices/me/attributes/request": make = { .attributesRequest(id: $0, family: .v1) }
        case "v2/a/req": make = { .attributesRequest(id: $0, family: .v2) }
        case "v2/a/req/j": make = { .attributesRequest(id: $0, family: .v2JSON) }
        case "v1/devices/me/rpc/request": make = { .rpcRequest(id: $0, family: .v1) }
        case "v2/r/req": make = { .rpcRequest(id: $0, family: .v2) }
        case "v2/r/req/j": make = { .rpcRequest(id: $0, family: .v2JSON) }
        case "v1/devices/me/rpc/response", "v2/r/res", "v2/r/res/j": make = { .rpcResponse(id: $0) }
        case "v2/a/req/p", "v2/r/req/p", "v2/r/res/p": make = { _ in .protobuf }
        default: return nil
        }
        return id.map(make) ?? .badId(String(text))
    }
}
