import IngressKit
import NIOCore
import NodeKit
import OTA

/// What devices post, whole or in blocks.
extension CoAPResponder {
    /// Answers a request for an identity.
    func provision(
        _ request: CoAPRequest,
        _ asked: CoAPHandler.Asked,
        handler: NIOLoopBound<CoAPHandler>
    ) async {
        if let refusal = self.refusal(of: request) {
            return handler.value.respond(refusal, to: asked, isRefusal: true)
        }
        var response: CoAPResponse
        do throws(Incomplete) {
            // Whoever is nobody yet is one and the same: all of them together get the room of one device for their blocks.
            let nobody = Source(device: .unknown(name: ""), asked: asked, handler: handler)
            let request = try self.complete(request, nobody)
            do throws(NodeError) {
                let message = try DeviceProtocol.coap.provisioning(request.payload, at: self.now())
                let json = try DeviceProtocol.json(await self.outlet.send(message), to: .identity)
                let isDone = json["status"] == "SUCCESS"
                if !isDone { handler.value.failed(asked) }
                response = CoAPResponse(
                    isDone ? .created : .badRequest,
                    json: json.bytes,
                    for: request,
                    exponentMax: self.blockExponent
                )
            } catch {
                response = CoAPResponse(error)
            }
            if let block = request.block1 { response.add(block.option(.block1)) }
        } catch {
            response = error.response
        }
        handler.value.respond(response, to: asked)
    }

    /// Carries out what a device posts, once it is complete.
    func post(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ source: Source
    ) async throws -> CoAPResponse {
        if let refusal = self.refusal(of: request) { return refusal }
        let handler = source.handler.value
        let subject = RetainedBodies.Subject.answer(path: request.path.map(\.exact))
        if let block = request.block2, block.number > 0 {
            // RFC 7959 §3.3: the rest of an answer is asked for with what was posted, which is not carried out again.
            guard let body = handler.retainedBody(for: source.peer, source.device.id, subject) else {
                return CoAPResponse(.requestEntityIncomplete, diagnostic: "this answer is gone; begin anew")
            }
            return CoAPResponse(kind.answerCode, json: body, for: request, exponentMax: self.blockExponent)
        }
        // What a call is answered with may be large, and once it is carried out it is too late to ask who calls.
        if kind == .rpc, request.block1.map({ !$0.more }) ?? true,
            !handler.mayAnswer(bytes: 1 << (Int(self.blockExponent) + 4), source.asked)
        {
            return handler.challenge(source.peer)
        }
        let complete: CoAPRequest
        do {
            complete = try self.complete(request, source)
        } catch {
            return error.response
        }
        var response: CoAPResponse
        do {
            response = try await self.carryOut(complete, kind, source, subject)
        } catch {
            response = CoAPResponse(NodeError(wrapping: error))
        }
        if let block = request.block1 { response.add(block.option(.block1)) }
        return response
    }

    /// What is answered before a body is complete, or because it never will be.
    private struct Incomplete: Error {
        var response: CoAPResponse

        init(_ response: CoAPResponse) { self.response = response }
    }

    /// The request with all of its body.
    private func complete(_ request: CoAPRequest, _ source: Source) throws(Incomplete) -> CoAPRequest {
        var request = request
        if let block = request.block1 {
            switch source.handler.value.assemble(request, block, of: source.device, from: source.peer) {
            case .complete(let body):
                request.payload = body
            case .more:
                throw Incomplete(CoAPResponse(.continue, options: [self.accepted(block).option(.block1)]))
            case .incomplete:
                let text = "this block does not follow the last; begin anew"
                throw Incomplete(CoAPResponse(.requestEntityIncomplete, diagnostic: text))
            case .badLength:
                let text = "this block is not as long as its option says"
                throw Incomplete(CoAPResponse(.badRequest, diagnostic: text))
            case .tooLarge:
                throw Incomplete(self.tooLarge())
            case .noRoom:
                throw Incomplete(.later(.serviceUnavailable, seconds: CoAPHandler.busyMaxAge))
            }
        }
        guard request.payload.readableBytes <= self.bodyBytesMax else { throw Incomplete(self.tooLarge()) }
        return request
    }

    /// Why nothing that is posted in this way is taken.
    private func refusal(of request: CoAPRequest) -> CoAPResponse? {
        guard request.conditionHolds(etag: nil) else { return CoAPResponse(.preconditionFailed) }
        guard let format = request.contentFormat, !ContentFormat.jsonLike.contains(format) else { return nil }
        return CoAPResponse(.unsupportedContentFormat, diagnostic: "the body must be JSON (content format 50)")
    }

    /// The option that takes in a block; with the first, a peer whose blocks are larger than ours learns that we would
    /// rather have smaller ones (RFC 7959 §2.5).
    private func accepted(_ block: Block) -> Block {
        guard block.number == 0 else { return block }
        return Block(number: 0, more: true, exponent: min(block.exponent, self.blockExponent))
    }

    /// RFC 7959 §2.9.3: says how large a body may be, and which blocks it may come in if it is only this one that is too
    /// large.
    func tooLarge(hint: Block? = nil) -> CoAPResponse {
        var response = CoAPResponse(.requestEntityTooLarge)
        if let hint { response.add(hint.option(.block1)) }
        response.add(CoAPOption(.size1, uint: UInt32(clamping: self.bodyBytesMax)))
        return response
    }

    private func carryOut(
        _ request: CoAPRequest,
        _ kind: CoAPResource.Kind,
        _ source: Source,
        _ subject: RetainedBodies.Subject
    ) async throws -> CoAPResponse {
        let message = try request.message(to: kind, from: source.device, at: self.now())
        let outcome = await self.outlet.send(message)
        source.handler.value.retain(nil, exponent: nil, for: source.peer, source.device.id, subject)
        switch try DeviceProtocol.answer(outcome, to: kind.wish(.post)) {
        case .empty:
            return CoAPResponse(kind == .rpc ? .changed : .created)
        case .json(let json):
            let body = json.bytes
            source.handler.value.retain(
                body,
                exponent: request.block2?.exponent,
                for: source.peer,
                source.device.id,
                subject
            )
            return CoAPResponse(kind.answerCode, json: body, for: request, exponentMax: self.blockExponent)
        case .content(let content):
            return await CoAPResponse.reading(content, for: request, exponentMax: self.blockExponent).value
        }
    }
}

extension CoAPResource.Kind {
    /// The code of an answer that has a body to what is posted.
    fileprivate var answerCode: CoAPCode { self == .rpc ? .content : .created }
}
