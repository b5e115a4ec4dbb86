import IngressKit
import NIOCore
import NodeKit
import OTA

/// Packages, chunk by chunk.
extension DeviceRequests {
    /// The code for a package whose bytes are not stored here.
    private static let elsewhere: NodeError.Code = "package-elsewhere"

    func chunk(_ type: OtaPackageType, id: String, chunk: String, payload: ByteBuffer) throws(NodeError) -> Begun {
        let request = try ChunkRequest(
            type: type,
            id: id,
            chunk: chunk,
            payload: payload,
            chunkBytesMax: self.services.limits.chunkBytesMax
        )
        let download = self.downloads.use(Downloads.Key(type: type, id: request.id))
        guard download.messages.packageId == nil else { return try self.ask(for: request, download) }
        switch self.services.packages.known(effectiveFor: DeviceId(self.device.id), type: type) {
        case .hit(let package): return try self.ask(for: request, of: package)
        case .absent: return try self.ask(for: request, of: nil)
        case .unknown: return .suspended(.package(request))
        }
    }

    /// The package that the device should have.
    func package(_ type: OtaPackageType) async throws(NodeError) -> EffectivePackage? {
        do {
            return try await self.services.packages.effectivePackage(for: DeviceId(self.device.id), type: type)
        } catch {
            throw NodeError(wrapping: error)
        }
    }

    /// Asks the chain for the first chunk of a download, and has those that follow come from the same package.
    func ask(for request: ChunkRequest, of package: EffectivePackage?) throws(NodeError) -> Begun {
        let download = self.downloads.use(Downloads.Key(type: request.type, id: request.id))
        if let package, package.content != nil { download.messages.packageId = package.package.id }
        let isElsewhere = package != nil && download.messages.packageId == nil
        return try self.ask(for: request, download, isElsewhere: isElsewhere)
    }

    private func ask(
        for request: ChunkRequest,
        _ download: Downloads.Download,
        isElsewhere: Bool = false
    ) throws(NodeError) -> Begun {
        if let size = request.size { download.messages.size = size }
        let message = download.messages.message(chunk: request.chunk, from: self.sender)
        let topic = download.responseTopic(ofChunk: request.chunk)
        return try self.send(message, for: .chunk(topic: topic, isElsewhere: isElsewhere))
    }

    /// Answers with what the chain serves.
    ///
    /// What fits one piece is read before anything is acknowledged, so that a failure can still be told.
    func answer(_ outcome: Outcome, topic: String, isElsewhere: Bool) throws(NodeError) -> Begun {
        let reply = try Self.content(outcome, isElsewhere: isElsewhere)
        let count = reply.range.upperBound - reply.range.lowerBound
        guard count <= Int64(Limits.pieceBytes) else {
            return .now(Answer(outcome: .success, response: Answer.Response(topic: topic, body: .content(reply))))
        }
        guard count > 0 else { return .now(.response(topic, ByteBuffer())) }
        guard let bytes = reply.content.readAtOnce(reply.range), bytes.readableBytes == reply.range.count else {
            return .suspended(.bytes(reply, topic: topic))
        }
        return .now(.response(topic, bytes))
    }

    func read(_ reply: ContentReply, topic: String) async throws(NodeError) -> Begun {
        do {
            return .now(.response(topic, try await reply.content.readAll(reply.range)))
        } catch {
            throw NodeError(wrapping: error)
        }
    }

    private static func content(_ outcome: Outcome, isElsewhere: Bool) throws(NodeError) -> ContentReply {
        do throws(NodeError) {
            return try DeviceProtocol.content(outcome)
        } catch {
            throw error.code == .notFound && isElsewhere ? NodeError(Self.elsewhere, error.message) : error
        }
    }

    /// Tells on the error topic what is wrong with a chunk request; the session goes on, so that a device does not connect
    /// again and again.
    ///
    /// `NOT_FOUND`, `PAYLOAD_TOO_LARGE` and, for a package that is fetched from its URL, `FAILURE` are ThingsBoard's words,
    /// which devices compare. Where ThingsBoard has no word and closes the connection, `FAILURE` comes with a sentence.
    static func chunkFailure(_ type: OtaPackageType, _ error: NodeError) -> Answer {
        let text =
            switch error.code {
            case .notFound: "NOT_FOUND"
            case Self.elsewhere: "FAILURE"
            case .tooLarge: "PAYLOAD_TOO_LARGE"
            default: "FAILURE: \(DeviceProtocol.told(error).message)"
            }
        return .response("v2/\(type.prefix)/error", ByteBuffer(string: text), explanation: error.description)
    }
}
