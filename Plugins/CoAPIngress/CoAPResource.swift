import IngressKit
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

        /// What a device waits for that sends a request for it.
        func wish(_ method: CoAPCode) -> DeviceProtocol.Wish {
            switch self {
            case .attributes: method == .get ? .attributes : .acknowledgement
            case .rpc: .call
            case .telemetry, .rpcAnswer: .acknowledgement
            case .claim: .claim
            case .packageInfo: .packageInfo
            case .package: .package
            }
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
        default: .failure(.notFound, DeviceProtocol.unknownResource.message)
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
            guard let id = DeviceProtocol.number(path[4].utf8) else {
                return .failure(.badRequest, DeviceProtocol.notANumber(path[4], MessageKey.requestId).message)
            }
            kind = .rpcAnswer(id: id)
        case ("firmware", 4): kind = .packageInfo(.firmware)
        case ("software", 4): kind = .packageInfo(.software)
        case ("firmware", 5) where path[4].lowercased() == "chunk": kind = .package(.firmware)
        case ("software", 5) where path[4].lowercased() == "chunk": kind = .package(.software)
        default: return .failure(.badRequest, DeviceProtocol.unknownResource.message)
        }
        return .resource(CoAPResource(kind: kind, accessToken: path[2]))
    }
}

extension DeviceProtocol {
    /// The device API over CoAP.
    static let coap = DeviceProtocol(transport: "coap")
}

extension CoAPRequest {
    /// The message that a request for a resource is to the chain.
    ///
    /// - Throws: ``NodeError`` if an argument or the body is not what it must be.
    func message(to kind: CoAPResource.Kind, from device: Originator, at now: Timestamp) throws(NodeError) -> Message {
        let sender = DeviceProtocol.Sender(device, at: now)
        switch (kind, self.method) {
        case (.attributes, .get):
            return DeviceProtocol.coap.attributeRequest(
                clientKeys: self.list(MessageKey.clientKeys),
                sharedKeys: self.list(MessageKey.sharedKeys),
                from: sender
            )
        case (.attributes, _): return try DeviceProtocol.coap.attributes(self.payload, from: sender)
        case (.telemetry, _): return try DeviceProtocol.coap.telemetry(self.payload, from: sender)
        case (.rpc, _): return try DeviceProtocol.coap.serverCall(self.payload, from: sender)
        case (.rpcAnswer(let id), _): return try DeviceProtocol.coap.callAnswer(self.payload, id: id, from: sender)
        case (.claim, _): return try DeviceProtocol.coap.claim(self.payload, from: sender)
        case (.packageInfo(let type), _): return DeviceProtocol.coap.packageInfo(type, from: sender)
        case (.package(let type), _):
            return DeviceProtocol.coap.package(try self.packageRequest(type), from: sender)
        }
    }

    private func packageRequest(_ type: OtaPackageType) throws(NodeError) -> PackageRequest {
        // Blocks are mostly asked for without a query.
        guard !self.query.isEmpty else { return PackageRequest(type: type) }
        return try PackageRequest(
            reading: type,
            title: try self.argument(MessageKey.title),
            version: try self.argument(MessageKey.version),
            chunk: try self.argument(MessageKey.chunk),
            size: try self.argument(MessageKey.size),
            isNamed: false
        )
    }
}
