import NIOCore
import NodeKit
import OTA

/// Has a request carried out by the chain and makes its answer.
///
/// Runs in the task of the request, on the event loop of the socket, where it may use the handler.
struct CoAPResponder: Sendable {
    let authenticator: any DeviceAuthenticator
    let outlet: any Outlet
    let now: @Sendable () -> Timestamp
    let blockExponent: UInt8
    let bodyBytesMax: Int
    let observeMaxAge: UInt32

    /// What a request comes from, for short.
    private struct Source {
        var device: Originator
        var peer: SocketAddress
        var handler: NIOLoopBound<CoAPHandler>
    }

    /// Answers a request.
    func respond(
        to request: CoAPRequest,
        _ resource: CoAPResource,
        exchange: Exchanges.ID,
        handler: NIOLoopBound<CoAPHandler>
    ) async {
        var observer: Observers.ID?
        var response: CoAPResponse
        do {
            guard let device = try await self.authenticator.device(accessToken: resource.accessToken) else {
                throw NodeError(.unauthorized, "no device has this access token")
            }
            let source = Source(device: device, peer: exchange.key.peer, handler: handler)
            if request.method == .get {
                (response, observer) = try await self.get(request, resource.kind, source)
            } else {
                response = try await self.post(request, resource.kind, source)
            }
        } catch {
            response = CoAPResponse(NodeError(wrapping: error))
        }
        handler.value.respond(response, to: exchange, request.token, observer: observer)
    }

    // MARK: GET

    private func get(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ source: Source
    ) async throws -> (CoAPResponse, Observers.ID?) {
        guard let resource = kind.observable else { return (try await self.read(request, kind, source), nil) }
        switch request.observe {
        case .register:
            return try await self.register(request, kind, resource, source)
        case .deregister:
            source.handler.value.endObservation(from: source.peer, request.token)
            return (CoAPResponse(.deleted), nil)
        case nil:
            break
        }
        if let block = request.block2, block.number > 0,
            let body = source.handler.value.retainedBody(for: source.peer, source.device, resource)
        {
            // RFC 7959 §2.6: the rest of a notification is fetched with plain requests.
            return (CoAPResponse(json: body, for: request, exponentMax: self.blockExponent), nil)
        }
        source.handler.value.retain(nil, exponent: nil, for: source.peer, source.device.id, resource)
        guard resource == .attributes else {
            return (CoAPResponse(.badRequest, diagnostic: "calls can only be observed; add the Observe option"), nil)
        }
        return (try await self.read(request, kind, source), nil)
    }

    /// Asks the chain for something and cuts the asked block out of the answer.
    private func read(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ source: Source
    ) async throws -> CoAPResponse {
        let message = try request.message(to: kind, from: source.device, at: self.now())
        switch await self.outlet.send(message) {
        case .failed(let error), .completed(.refused(let error)):
            return CoAPResponse(error)
        case .completed(nil):
            return kind == .attributes ? Self.noAttributes : CoAPResponse(.notFound)
        case .completed(.empty):
            return CoAPResponse(.content)
        case .completed(.json(let json)):
            if json == [:] { return kind == .attributes ? Self.noAttributes : CoAPResponse(.notFound) }
            return CoAPResponse(json: json.bytes, for: request, exponentMax: self.blockExponent)
        case .completed(.content(let content)):
            return try await .reading(content, for: request, exponentMax: self.blockExponent)
        }
    }

    /// ThingsBoard answers 4.04 if there is no attribute; the empty object is for clients that read the body all the same.
    private static var noAttributes: CoAPResponse {
        CoAPResponse(
            .notFound,
            options: [CoAPOption(.contentFormat, uint: ContentFormat.json)],
            payload: ByteBuffer(string: "{}")
        )
    }

    // MARK: Observe

    private func register(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ resource: Observers.Resource,
        _ source: Source
    ) async throws -> (CoAPResponse, Observers.ID?) {
        guard request.accept == nil || request.accept == ContentFormat.json else {
            return (CoAPResponse(.notAcceptable, diagnostic: "this resource is JSON (content format 50)"), nil)
        }
        // Registered first, so that no change between the present state and the first notification is lost.
        guard let id = source.handler.value.observe(request, resource, of: source.device, from: source.peer) else {
            guard resource == .attributes else {
                return (CoAPResponse(.serviceUnavailable, diagnostic: "there are too many observers"), nil)
            }
            // RFC 7641 §4.1: who cannot be added to the list gets the state, without the Observe option.
            return (try await self.read(request, kind, source), nil)
        }
        var response = CoAPResponse(.valid)
        if resource == .attributes {
            var whole = request
            whole.query = []
            let message = try whole.message(to: kind, from: source.device, at: self.now())
            switch await self.outlet.send(message) {
            case .completed(.json(let json)):
                let body = (json["shared"] ?? [:]).bytes
                response = CoAPResponse(json: body, for: request, exponentMax: self.blockExponent)
                source.handler.value.retain(
                    body,
                    exponent: request.block2?.exponent,
                    for: source.peer,
                    source.device.id,
                    resource
                )
            case .completed(.empty):
                response = CoAPResponse(json: ByteBuffer(string: "{}"), for: request, exponentMax: self.blockExponent)
            case .completed(nil), .completed(.content):
                response = Self.noAttributes
            case .failed(let error), .completed(.refused(let error)):
                response = CoAPResponse(error)
            }
        }
        guard response.code.isSuccess else {
            source.handler.value.endObserver(id)
            return (response, nil)
        }
        guard let sequence = source.handler.value.firstSequence(id) else { return (response, nil) }
        response.observing(sequence, maxAge: self.observeMaxAge)
        return (response, id)
    }

    // MARK: POST

    private func post(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ source: Source
    ) async throws -> CoAPResponse {
        if let format = request.contentFormat, !ContentFormat.jsonLike.contains(format) {
            return CoAPResponse(.unsupportedContentFormat, diagnostic: "the body must be JSON (content format 50)")
        }
        var request = request
        if let block = request.block1 {
            switch source.handler.value.assemble(request, block, from: source.peer) {
            case .complete(let body):
                request.payload = body
            case .more:
                return CoAPResponse(.continue, options: [block.option(.block1)])
            case .incomplete:
                return CoAPResponse(
                    .requestEntityIncomplete,
                    diagnostic: "this block does not follow the last; begin anew"
                )
            case .badLength:
                return CoAPResponse(.badRequest, diagnostic: "this block is not as long as its option says")
            case .tooLarge:
                return self.tooLarge
            case .noRoom:
                return CoAPResponse(
                    .serviceUnavailable,
                    options: [CoAPOption(.maxAge, uint: CoAPHandler.busyMaxAge)]
                )
            }
        }
        guard request.payload.readableBytes <= self.bodyBytesMax else { return self.tooLarge }
        var response = try await self.carryOut(request, kind, source)
        if let block = request.block1 { response.add(block.option(.block1)) }
        return response
    }

    /// RFC 7959 §2.9.3: says how large a body may be.
    private var tooLarge: CoAPResponse {
        CoAPResponse(
            .requestEntityTooLarge,
            options: [CoAPOption(.size1, uint: UInt32(clamping: self.bodyBytesMax))]
        )
    }

    private func carryOut(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ source: Source
    ) async throws -> CoAPResponse {
        let message = try request.message(to: kind, from: source.device, at: self.now())
        let outcome = await self.outlet.send(message)
        switch (kind, outcome) {
        case (_, .failed(let error)), (_, .completed(.refused(let error))):
            return CoAPResponse(error)
        case (.rpc, .completed(nil)):
            return CoAPResponse(.notFound, diagnostic: "nothing answers this call")
        case (.rpc, .completed(.empty)):
            return CoAPResponse(.changed)
        case (_, .completed(.json(let json))):
            return CoAPResponse(
                kind == .rpc ? .content : .created,
                json: json.bytes,
                for: request,
                exponentMax: self.blockExponent
            )
        case (_, .completed(.content(let content))):
            return try await .reading(content, for: request, exponentMax: self.blockExponent)
        case (_, .completed(nil)), (_, .completed(.empty)):
            return CoAPResponse(.created)
        }
    }
}

extension CoAPResource.Kind {
    /// What an observer of it observes, if it can be observed.
    fileprivate var observable: Observers.Resource? {
        switch self {
        case .attributes: .attributes
        case .rpc: .rpc
        default: nil
        }
    }
}
