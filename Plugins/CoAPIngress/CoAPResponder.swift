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
    struct Source {
        var device: Originator
        var asked: CoAPHandler.Asked
        var handler: NIOLoopBound<CoAPHandler>

        var peer: Endpoint { self.asked.id.key.peer }
    }

    /// Answers a request.
    func respond(
        to request: CoAPRequest,
        _ resource: CoAPResource,
        _ asked: CoAPHandler.Asked,
        handler: NIOLoopBound<CoAPHandler>
    ) async {
        var observer: Observers.ID?
        var response: CoAPResponse
        do {
            let known = self.authenticator.known(accessToken: resource.accessToken)
            var found = known?.device
            if found == nil { found = try await self.authenticator.device(accessToken: resource.accessToken) }
            guard let device = found else {
                handler.value.failed(asked)
                let refusal = CoAPResponse(.unauthorized, diagnostic: "no device has this access token")
                return handler.value.respond(refusal, to: asked, isRefusal: true)
            }
            guard handler.value.authenticated(device, asked) else {
                let refusal = CoAPResponse.later(.tooManyRequests, seconds: CoAPHandler.rateMaxAge)
                return handler.value.respond(refusal, to: asked, isRefusal: true)
            }
            var transport = known?.transport
            if transport == nil { transport = try await self.authenticator.transport(of: device) }
            if let fault = transport?.fault(for: .coap) {
                let refusal = CoAPResponse(.internalServerError, diagnostic: fault)
                return handler.value.respond(refusal, to: asked, isRefusal: true)
            }
            let source = Source(device: device, asked: asked, handler: handler)
            if request.method == .get {
                (response, observer) = try await self.get(request, resource.kind, source)
            } else {
                response = try await self.post(request, resource.kind, source)
            }
        } catch {
            response = CoAPResponse(NodeError(wrapping: error))
        }
        handler.value.respond(response, to: asked, observer: observer)
    }

    /// What `/.well-known/core` answers.
    func discovery(_ request: CoAPRequest) -> CoAPResponse {
        guard request.accept == nil || request.accept == ContentFormat.link else {
            return CoAPResponse(.notAcceptable, diagnostic: "this resource is a list of links (content format 40)")
        }
        return CoAPResponse(
            body: Discovery.body(request.query),
            format: ContentFormat.link,
            for: request,
            exponentMax: self.blockExponent
        )
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
        let subject = RetainedBodies.Subject.notification(resource)
        if let block = request.block2, block.number > 0,
            let body = source.handler.value.retainedBody(for: source.peer, source.device.id, subject)
        {
            // RFC 7959 §2.6: the rest of a notification is fetched with plain requests.
            return (CoAPResponse(json: body, for: request, exponentMax: self.blockExponent), nil)
        }
        source.handler.value.retain(nil, exponent: nil, for: source.peer, source.device.id, subject)
        guard resource == .attributes else {
            return (CoAPResponse(.badRequest, diagnostic: "calls can only be observed; add the Observe option"), nil)
        }
        return (try await self.read(request, kind, source), nil)
    }

    /// Asks the chain for something and cuts the asked block out of the answer.
    func read(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ source: Source
    ) async throws -> CoAPResponse {
        let message = try request.message(to: kind, from: source.device, at: self.now())
        switch await self.outlet.send(message, by: .success) {
        case .failed(let error), .completed(.refused(let error)):
            return CoAPResponse(error)
        case .completed(nil):
            return kind == .attributes ? Self.noAttributes : CoAPResponse(.notFound)
        case .completed(.empty):
            return CoAPResponse(.content)
        case .completed(.json(let json)):
            if json == [:] { return kind == .attributes ? Self.noAttributes : CoAPResponse(.notFound) }
            var response = CoAPResponse(json: json.bytes, for: request, exponentMax: self.blockExponent)
            // They change at any time, so what is told of them is not good for the 60 s that a cache would assume.
            if kind == .attributes { response.add(CoAPOption(.maxAge, uint: 0)) }
            return response
        case .completed(.content(let content)):
            return try await .reading(content, for: request, exponentMax: self.blockExponent)
        }
    }

    /// ThingsBoard answers 4.04 if there is no attribute; the empty object is for clients that read the body all the same.
    static var noAttributes: CoAPResponse {
        CoAPResponse(
            .notFound,
            options: [CoAPOption(.contentFormat, uint: ContentFormat.json), CoAPOption(.maxAge, uint: 0)],
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
                    .notification(resource)
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
