import IngressKit
import NIOCore
import NodeKit
import OTA

/// Has a request carried out by the chain and makes its answer.
///
/// Runs on the event loop of the socket, where it may use the handler: at once as far as nothing has to be waited for, else
/// in a task.
struct CoAPResponder: Sendable {
    /// What is left to do for a request and has to be waited for; called once.
    typealias Rest = @Sendable () async -> Void

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

    /// Answers a request as far as nothing has to be waited for.
    ///
    /// For most that is all: a device asks for nothing as often as for blocks of a package, and who it is, which package it
    /// should have and the bytes are in memory.
    ///
    /// - Returns: What is left; `nil` if the request has been answered.
    func begin(
        _ request: CoAPRequest,
        _ resource: CoAPResource,
        _ asked: CoAPHandler.Asked,
        handler: CoAPHandler
    ) -> Rest? {
        guard case .hit((let device, let transport)) = self.authenticator.known(accessToken: resource.accessToken)
        else {
            let handler = NIOLoopBound(handler, eventLoop: handler.eventLoop)
            return { await self.respond(to: request, resource, asked, handler: handler) }
        }
        guard self.admit(device, asked, handler: handler) else { return nil }
        return self.carryOut(request, resource.kind, of: device, transport, asked, handler: handler)
    }

    /// Answers a request of a device that is not in memory.
    private func respond(
        to request: CoAPRequest,
        _ resource: CoAPResource,
        _ asked: CoAPHandler.Asked,
        handler: NIOLoopBound<CoAPHandler>
    ) async {
        let device: Originator
        let transport: ProfileTransport
        do {
            guard let found = try await self.authenticator.device(accessToken: resource.accessToken) else {
                handler.value.failed(asked)
                let refusal = CoAPResponse(DeviceProtocol.unknownToken)
                return handler.value.respond(refusal, to: asked, isRefusal: true)
            }
            device = found
            guard self.admit(device, asked, handler: handler.value) else { return }
            transport = try await self.authenticator.transport(of: device)
        } catch {
            return handler.value.respond(CoAPResponse(NodeError(wrapping: error)), to: asked)
        }
        await self.carryOut(request, resource.kind, of: device, transport, asked, handler: handler.value)?()
    }

    /// Whether a device may have its request carried out now; if not, that has been answered.
    private func admit(_ device: Originator, _ asked: CoAPHandler.Asked, handler: CoAPHandler) -> Bool {
        guard handler.authenticated(device, asked) else {
            let refusal = CoAPResponse.later(.tooManyRequests, seconds: CoAPHandler.rateMaxAge)
            handler.respond(refusal, to: asked, isRefusal: true)
            return false
        }
        return true
    }

    /// Has a request carried out that may be, as far as nothing has to be waited for.
    private func carryOut(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        of device: Originator,
        _ transport: ProfileTransport,
        _ asked: CoAPHandler.Asked,
        handler: CoAPHandler
    ) -> Rest? {
        if let fault = transport.fault(for: .coap) {
            handler.respond(CoAPResponse(.internalServerError, diagnostic: fault), to: asked, isRefusal: true)
            return nil
        }
        let observable = request.method == .get ? kind.observable : nil
        guard request.method == .get, observable == nil else {
            let handler = NIOLoopBound(handler, eventLoop: handler.eventLoop)
            let source = Source(device: device, asked: asked, handler: handler)
            return {
                await self.finish(asked, handler: handler) {
                    guard let observable else { return (try await self.post(request, kind, source), nil) }
                    return try await self.get(request, kind, observable, source)
                }
            }
        }
        switch self.read(request, kind, of: device, at: handler.timestamp) {
        case .now(let response):
            handler.respond(response, to: asked, isAtHand: true)
            return nil
        case .suspended(let rest):
            let handler = NIOLoopBound(handler, eventLoop: handler.eventLoop)
            return { await self.finish(asked, handler: handler) { (await rest(), nil) } }
        }
    }

    /// Waits for an answer, and perhaps the observer that the request has registered, and sends it.
    private func finish(
        _ asked: CoAPHandler.Asked,
        handler: NIOLoopBound<CoAPHandler>,
        _ answer: () async throws -> (CoAPResponse, Observers.ID?)
    ) async {
        do {
            let (response, observer) = try await answer()
            handler.value.respond(response, to: asked, observer: observer)
        } catch {
            handler.value.respond(CoAPResponse(NodeError(wrapping: error)), to: asked)
        }
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

    /// Answers a request for what can be observed.
    private func get(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ resource: Observers.Resource,
        _ source: Source
    ) async throws -> (CoAPResponse, Observers.ID?) {
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
        return (await self.read(request, kind, source).value, nil)
    }

    private func read(_ request: CoAPRequest, _ kind: CoAPResource.Kind, _ source: Source) -> CoAPResponse.Begun {
        self.read(request, kind, of: source.device, at: source.handler.value.timestamp)
    }

    /// Asks the chain for something and cuts the asked block out of the answer.
    private func read(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        of device: Originator,
        at time: Timestamp
    ) -> CoAPResponse.Begun {
        let message: Message
        do {
            message = try request.message(to: kind, from: device, at: time)
        } catch {
            return .now(CoAPResponse(error))
        }
        switch self.outlet.begin(message, by: .success) {
        case .now(let outcome):
            return self.answer(outcome, to: request, kind)
        case .suspended(let rest):
            return .suspended(Suspension { await self.answer(await rest(), to: request, kind).value })
        }
    }

    /// What answers a request that wanted something.
    private func answer(
        _ outcome: Outcome,
        to request: CoAPRequest,
        _ kind: CoAPResource.Kind
    ) -> CoAPResponse.Begun {
        do throws(NodeError) {
            switch try DeviceProtocol.answer(outcome, to: kind.wish(.get)) {
            case .empty:
                return .now(CoAPResponse(.content))
            case .json(let json) where json == [:]:
                return .now(kind == .attributes ? Self.noAttributes : CoAPResponse(.notFound))
            case .json(let json):
                var response = CoAPResponse(json: json.bytes, for: request, exponentMax: self.blockExponent)
                // Attributes change at any time; without this option a cache would keep the answer for 60 s (RFC 7252 §5.10.5).
                if kind == .attributes { response.add(CoAPOption(.maxAge, uint: 0)) }
                return .now(response)
            case .content(let content):
                return CoAPResponse.reading(content, for: request, exponentMax: self.blockExponent)
            }
        } catch {
            return .now(CoAPResponse(error))
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
            return (await self.read(request, kind, source).value, nil)
        }
        var response = CoAPResponse(.valid)
        if resource == .attributes {
            var whole = request
            whole.query = []
            let message = try whole.message(to: kind, from: source.device, at: self.now())
            do throws(NodeError) {
                let json = try DeviceProtocol.json(await self.outlet.send(message), to: .attributes)
                let body = (json["shared"] ?? [:]).bytes
                response = CoAPResponse(json: body, for: request, exponentMax: self.blockExponent)
                source.handler.value.retain(
                    body,
                    exponent: request.block2?.exponent,
                    for: source.peer,
                    source.device.id,
                    .notification(resource)
                )
            } catch {
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
