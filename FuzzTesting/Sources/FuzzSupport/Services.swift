import NIOCore
import NodeKit
import OTA

/// Knows the devices of the bench, the first of them without a wait.
struct Authenticator: DeviceAuthenticator {
    func device(accessToken: String) async throws -> Originator? {
        if accessToken == "away" { throw NodeError(.unavailable, "the store is away") }
        return Bench.devices[accessToken]
    }

    func known(accessToken: String) -> Cached<(device: Originator, transport: ProfileTransport)> {
        Cached(accessToken == "A" ? Bench.devices[accessToken].map { ($0, .any) } : nil)
    }

    func device(clientId: String, userName: String?, password: String?) async throws -> Originator? {
        guard let userName else { return nil }
        return try await self.device(accessToken: userName)
    }
}

/// The bytes of the one package there is, half of them in memory.
struct PackageContent: Content {
    static let package = OtaPackage(deviceProfileId: nil, type: .firmware, title: "T", version: "1")
    let size: Int64 = 5000

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        precondition(range.lowerBound >= 0 && range.upperBound <= self.size, "a read outside of the package: \(range)")
        return ByteBuffer(bytes: range.map { UInt8(truncatingIfNeeded: $0 &* 31) })
    }

    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        precondition(range.lowerBound >= 0 && range.upperBound <= self.size, "a read outside of the package: \(range)")
        guard range.upperBound <= self.size / 2 else { return nil }
        return ByteBuffer(bytes: range.map { UInt8(truncatingIfNeeded: $0 &* 31) })
    }
}

/// Assigns the one package to every device; that of the first device is in memory.
struct Packages: OtaPackageService {
    private static let notUsed = NodeError(.internalError, "not used here")

    func effectivePackage(for device: DeviceId, type: OtaPackageType) async throws -> EffectivePackage? {
        type == .firmware ? EffectivePackage(package: PackageContent.package, content: PackageContent()) : nil
    }

    func known(effectiveFor device: DeviceId, type: OtaPackageType) -> Cached<EffectivePackage> {
        guard device.uuid == Bench.devices["A"]?.id, type == .firmware else { return .unknown }
        return .hit(EffectivePackage(package: PackageContent.package, content: PackageContent()))
    }

    func findOtaPackageById(_ id: OtaPackageId) async throws -> OtaPackage? { throw Self.notUsed }
    func saveOtaPackage(_ package: OtaPackage) async throws -> OtaPackage { throw Self.notUsed }
    func deleteOtaPackage(_ id: OtaPackageId) async throws { throw Self.notUsed }
    func findOtaPackageByDeviceProfileIdAndType(
        _ profileId: DeviceProfileId,
        _ type: OtaPackageType
    ) async throws -> OtaPackage? { throw Self.notUsed }
    func findOtaPackages(
        of tenant: TenantId,
        deviceProfileId: DeviceProfileId?,
        type: OtaPackageType?,
        hasData: Bool?,
        page: PageLink
    ) async throws -> Page<OtaPackage> { throw Self.notUsed }
    func upload(to id: OtaPackageId) async throws -> any OtaPackageUpload { throw Self.notUsed }
    func upload(creating package: OtaPackage) async throws -> any OtaPackageUpload { throw Self.notUsed }
    func content(of id: OtaPackageId) async throws -> (any Content)? { throw Self.notUsed }
    func package(_ id: OtaPackageId) async throws -> EffectivePackage? { throw Self.notUsed }
}

extension Bench {
    /// What the chain says to a message: of each kind of answer at least one.
    static func answer(_ message: Message) -> Outcome {
        switch message.type {
        case .getAttributesRequest:
            return .completed(.json(["client": ["a": 1], "shared": ["fw_title": "T", "fw_version": "1"]]))
        case .packageInfoRequest:
            return .completed(.json(["fw_title": "T", "fw_version": "1", "fw_size": 5000]))
        case .packageChunkRequest:
            return Self.chunk(message)
        case .toServerRPCRequest:
            switch message.metadata.string(MessageKey.method) {
            case "time": return .completed(.json(["time": 1]))
            case "empty": return .completed(.empty)
            case "refused": return .completed(.refused(NodeError(.forbidden, "not allowed")))
            default: return .completed(nil)
            }
        case .postTelemetryRequest:
            guard case .json(let json) = message.data else { return .failed(NodeError(.badRequest, "no JSON")) }
            do {
                _ = try json.telemetryPoints()
                return .completed(nil)
            } catch {
                return .failed(error)
            }
        default:
            return .completed(nil)
        }
    }

    private static func chunk(_ message: Message) -> Outcome {
        let content = PackageContent()
        let size = message.metadata.integer(MessageKey.size) ?? 0
        let chunk = message.metadata.integer(MessageKey.chunk) ?? 0
        precondition(size >= 0 && chunk >= 0, "a chunk that cannot be: \(chunk) of \(size) bytes")
        var reply = ContentReply(content: content, range: 0..<content.size, fileName: "fw.bin", entityTag: "abc123")
        if size > 0 {
            let (start, overflows) = chunk.multipliedReportingOverflow(by: size)
            precondition(!overflows, "the place of chunk \(chunk) of \(size) bytes overflows")
            reply.range = min(start, content.size)..<min(min(start, content.size) + size, content.size)
            reply.chunkIndex = chunk
            reply.chunksCount = (content.size + size - 1) / size
        }
        return .completed(.content(reply))
    }
}
