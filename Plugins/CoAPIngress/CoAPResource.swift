import NodeKit
import OTA

/// What a request is about: a path of ours, with the access token that is in it.
struct CoAPResource: Hashable, Sendable {
    /// Resources of a device.
    enum Kind: Hashable, Sendable {
        /// `/api/v1/{token}/attributes`
        case attributes
        /// `/api/v1/{token}/telemetry`
        case telemetry
        /// `/api/v1/{token}/rpc`
        case rpc
        /// `/api/v1/{token}/rpc/{id}`
        case rpcAnswer(id: Int64)
        /// `/api/v1/{token}/claim`
        case claim
        /// `/api/v1/{token}/firmware`, `/api/v1/{token}/software`
        case packageInfo(OtaPackageType)
        /// `/fw/{token}`, `/sw/{token}`, `/api/v1/{token}/firmware/chunk`, `/api/v1/{token}/software/chunk`
        case package(OtaPackageType)

        /// The methods that it has.
        var methods: [CoAPCode] {
            switch self {
            case .attributes, .rpc: [.get, .post]
            case .telemetry, .rpcAnswer, .claim: [.post]
            case .packageInfo, .package: [.get]
            }
        }

        /// What every message about it has in its metadata.
        fileprivate var metadata: Metadata {
            switch self {
            case .packageInfo(.firmware), .package(.firmware): Self.firmwareMetadata
            case .packageInfo(.software), .package(.software): Self.softwareMetadata
            case .attributes, .telemetry, .rpc, .rpcAnswer, .claim: [MessageKey.transport: "coap"]
            }
        }

        // Made once: nearly all requests are about packages, and most say nothing else.
        private static let firmwareMetadata = Self.metadata(of: .firmware)
        private static let softwareMetadata = Self.metadata(of: .software)

        private static func metadata(of type: OtaPackageType) -> Metadata {
            [MessageKey.transport: "coap", MessageKey.packageType: .string(type.rawValue)]
        }

        /// What a GET answers that it does not have: of ThingsBoard's features 4.00, as ThingsBoard does.
        fileprivate var unreadable: CoAPCode {
            switch self {
            case .telemetry, .rpcAnswer, .claim: .badRequest
            case .attributes, .rpc, .packageInfo, .package: .methodNotAllowed
            }
        }
    }

    /// Where a path leads.
    enum Route: Hashable, Sendable {
        case resource(CoAPResource)
        /// `/api/v1/provision`
        case provision
        /// `/.well-known/core`
        case discovery
        /// Nowhere, for this reason.
        case failure(CoAPCode, String)
    }

    var kind: Kind
    var accessToken: String

    /// Finds what a path leads to, and whether the method fits it.
    ///
    /// Names of features are compared without case, as ThingsBoard does.
    static func route(_ method: CoAPCode, _ path: [String]) -> Route {
        let route = Self.route(path)
        switch route {
        case .resource(let resource) where !resource.kind.methods.contains(method):
            return Self.withoutMethod(method == .get ? resource.kind.unreadable : .methodNotAllowed)
        case .provision where method != .post:
            return Self.withoutMethod(method == .get ? .badRequest : .methodNotAllowed)
        case .discovery where method != .get:
            return Self.withoutMethod(.methodNotAllowed)
        default:
            return route
        }
    }

    private static func withoutMethod(_ code: CoAPCode) -> Route {
        .failure(code, "this resource does not have this method")
    }

    private static func route(_ path: [String]) -> Route {
        switch path.first {
        case "fw": Self.packageRoute(.firmware, path)
        case "sw": Self.packageRoute(.software, path)
        case "api" where path.count >= 2 && path[1] == "v1": Self.deviceRoute(path)
        case ".well-known" where path == [".well-known", "core"]: .discovery
        default: .failure(.notFound, "there is no such resource")
        }
    }

    private static func packageRoute(_ type: OtaPackageType, _ path: [String]) -> Route {
        guard path.count == 2 else {
            return .failure(.unauthorized, "the path must be the prefix and the access token")
        }
        return .resource(CoAPResource(kind: .package(type), accessToken: path[1]))
    }

    private static func deviceRoute(_ path: [String]) -> Route {
        if path.count == 3, path[2].lowercased() == "provision" { return .provision }
        guard path.count >= 4 else { return .failure(.badRequest, "the path must be /api/v1/{token}/{feature}") }
        let kind: Kind
        switch (path[3].lowercased(), path.count) {
        case ("attributes", 4): kind = .attributes
        case ("telemetry", 4): kind = .telemetry
        case ("rpc", 4): kind = .rpc
        case ("claim", 4): kind = .claim
        case ("rpc", 5):
            guard let id = Self.number(path[4]) else {
                return .failure(.badRequest, "the identifier of a call must be a whole number")
            }
            kind = .rpcAnswer(id: id)
        case ("firmware", 4): kind = .packageInfo(.firmware)
        case ("software", 4): kind = .packageInfo(.software)
        case ("firmware", 5) where path[4].lowercased() == "chunk": kind = .package(.firmware)
        case ("software", 5) where path[4].lowercased() == "chunk": kind = .package(.software)
        default: return .failure(.badRequest, "there is no such feature")
        }
        return .resource(CoAPResource(kind: kind, accessToken: path[2]))
    }

    /// The greatest chunk index, chunk size and call identifier: they are 32-bit integers in ThingsBoard, and the product
    /// of two fits 64 bits.
    static let numberMax = Int64(Int32.max)

    /// Reads a number of digits only, at most ``numberMax``; `nil` if it is anything else.
    static func number(_ text: String) -> Int64? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let value = Int64(text), value <= Self.numberMax
        else { return nil }
        return value
    }
}

extension CoAPRequest {
    /// The message that a request for a resource is to the chain.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if an argument or the body is not what it must be.
    func message(to kind: CoAPResource.Kind, from device: Originator, at now: Timestamp) throws(NodeError) -> Message {
        var message = Message(
            originator: device,
            type: .postTelemetryRequest,
            metadata: kind.metadata,
            timestamp: now
        )
        switch (kind, self.method) {
        case (.attributes, .get):
            message.type = .getAttributesRequest
            message.metadata[MessageKey.clientKeys] = self.list(MessageKey.clientKeys).map(JSON.string)
            message.metadata[MessageKey.sharedKeys] = self.list(MessageKey.sharedKeys).map(JSON.string)
        case (.attributes, _):
            message.type = .postAttributesRequest
            guard case .object(let attributes) = try self.json() else {
                throw NodeError(.badRequest, "attributes must be a JSON object")
            }
            message.data = .json(.object(attributes))
        case (.telemetry, _):
            let telemetry = try self.json()
            guard telemetry.object != nil || telemetry.array != nil else {
                throw NodeError(.badRequest, "telemetry must be a JSON object or an array of objects")
            }
            message.data = .json(telemetry)
        case (.rpc, _):
            let call = try self.json()
            guard case .string(let method) = call["method"] else {
                throw NodeError(.badRequest, "a call must be a JSON object with the text 'method'")
            }
            message.type = .toServerRPCRequest
            message.metadata[MessageKey.method] = .string(method)
            message.metadata[MessageKey.requestId] = .integer(call["id"]?.integer ?? 0)
            message.data = .json(call["params"] ?? .null)
        case (.rpcAnswer(let id), _):
            message.type = .toServerRPCResponse
            message.metadata[MessageKey.requestId] = .integer(id)
            message.data = self.payload.readableBytes == 0 ? .none : .json(try self.json())
        case (.claim, _):
            message.type = .claimRequest
            // ThingsBoard takes a claim without a body: all of its members have defaults.
            let claim = self.payload.readableBytes == 0 ? [:] : try self.json()
            guard claim.object != nil else { throw NodeError(.badRequest, "a claim must be a JSON object") }
            message.data = .json(claim)
        case (.packageInfo, _):
            message.type = .packageInfoRequest
        case (.package, _):
            message.type = .packageChunkRequest
            // Blocks are mostly asked for without a query.
            guard !self.query.isEmpty else { break }
            message.metadata[MessageKey.title] = self.argument(MessageKey.title).map(JSON.string)
            message.metadata[MessageKey.version] = self.argument(MessageKey.version).map(JSON.string)
            message.metadata[MessageKey.size] = try self.number(MessageKey.size).map(JSON.integer)
            message.metadata[MessageKey.chunk] = try self.number(MessageKey.chunk).map(JSON.integer)
        }
        return message
    }

    /// The message that a device asks with for an identity.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the body is no JSON object.
    func provisionMessage(at now: Timestamp) throws(NodeError) -> Message {
        let body = try self.json()
        guard body.object != nil else {
            throw NodeError(.badRequest, "a request for an identity must be a JSON object")
        }
        return Message(
            originator: .unknown(name: body["deviceName"]?.text ?? ""),
            type: .provisionRequest,
            metadata: [MessageKey.transport: "coap"],
            data: .json(body),
            timestamp: now
        )
    }

    /// The body as JSON, whatever text-like format it is declared as.
    private func json() throws(NodeError) -> JSON {
        do {
            return try JSON(parsing: self.payload)
        } catch {
            throw NodeError(unreadable: "the body", error)
        }
    }

    private func number(_ name: String) throws(NodeError) -> Int64? {
        guard let text = self.argument(name) else { return nil }
        guard let number = CoAPResource.number(text) else {
            throw NodeError(.badRequest, "'\(name)' must be a whole number from 0 to \(CoAPResource.numberMax)")
        }
        return number
    }
}
