import HTTPTypes
import Hummingbird
import Logging
import NodeKit
import OTA

/// Writes the entries of the audit log, of all routes that leave one.
struct AuditLog: Sendable {
    /// The most characters of a text that comes from outside.
    static let textLengthMax = 512

    let service: any AuditService
    let logger: Logger
    let now: @Sendable () -> Timestamp

    /// Answers a request, and writes what came of it.
    ///
    /// An answer goes out when its entry is stored. If that fails, the answer still tells the truth about the request, and the
    /// host's log says what the audit log lacks.
    func logging(
        _ request: APIRequest,
        as action: AuditAction?,
        _ answer: () async throws -> Response
    ) async throws -> Response {
        guard let action else { return try await answer() }
        do {
            let response = try await answer()
            await self.write(request, action, failure: nil)
            return response
        } catch {
            await self.write(request, action, failure: (APIError(error) ?? .unexpected).message)
            throw error
        }
    }

    private func write(_ request: APIRequest, _ action: AuditAction, failure: String?) async {
        let trail = request.trail.content
        // Of strangers nothing is kept: they could push everything else out of the log.
        guard let user = request.session?.user ?? trail.user else { return }
        let entry = AuditEntry(
            createdTime: self.now(),
            tenantId: user.tenantId,
            userId: user.id,
            userName: user.name,
            entity: trail.entity,
            action: trail.action ?? action,
            data: self.data(of: request, trail.details),
            failure: failure.map(Self.cut)
        )
        // Whether a name is somebody's must not show in the time that a wrong password takes.
        if request.session == nil, failure != nil { return self.service.recordLater(entry) }
        do {
            try await self.service.record(entry)
        } catch {
            self.logger.error(
                "an entry of the audit log could not be written",
                metadata: [
                    "audit.action": "\(entry.action.rawValue)", "audit.user": "\(user.id)",
                    "audit.entity": "\(trail.entity?.id.uuidString ?? "none")", "error": "\(error)",
                ]
            )
        }
    }

    /// Where from, by what, on which path; without the query and the body, where secrets are.
    private func data(of request: APIRequest, _ details: JSON.Object) -> JSON {
        var data: JSON.Object = [
            "clientAddress": .string(request.remoteAddress),
            "method": .string(request.request.method.rawValue),
            "path": .string(Self.cut(request.request.uri.path)),
        ]
        // What a proxy says, or anybody else.
        if let forwarded = request.request.headers[.xForwardedFor] {
            data["forwardedFor"] = .string(Self.cut(forwarded))
        }
        if case .key(let key)? = request.session?.proof {
            data["by"] = "API_KEY"
            data["apiKeyId"] = .string(key.id.description)
        } else {
            data["by"] = "LOGIN"
        }
        for member in details.members { data[member.name] = member.value }
        return .object(data)
    }

    /// The beginning of a text, counted in Unicode scalars: a character may have any number of combining marks.
    static func cut(_ text: String) -> String { String(text.unicodeScalars.prefix(Self.textLengthMax)) }
}
