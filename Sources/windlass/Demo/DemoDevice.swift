import NIOCore
import NodeKit

/// A device of the demonstration: it connects, waits for an update, fetches it, verifies it and says so.
///
/// It speaks to the host as any device would, over a socket, and shares no code with the host's plugins.
protocol DemoDevice: Sendable {
    /// The device's name.
    var name: String { get }
    /// The transport it uses, in lower case.
    var transport: String { get }
    /// Opens a connection and proves who it is.
    func connect() async throws -> any DeviceLink
}

/// A connection of a device to the host.
protocol DeviceLink: Sendable {
    /// Sends telemetry, and returns when the host has acknowledged it.
    func report(_ telemetry: JSON.Object) async throws
    /// Waits until the host offers firmware, at most for ``DemoLimits/offerWait``.
    func offer() async throws -> FirmwareOffer
    /// Fetches the bytes in order.
    func download(_ offer: FirmwareOffer, receive: (ByteBuffer) throws -> Void) async throws
    /// Ends the connection.
    func close() async
}

/// How far a device is.
enum DemoState: String, Sendable {
    case connecting = "CONNECTING"
    case waiting = "WAITING"
    case downloading = "DOWNLOADING"
    case downloaded = "DOWNLOADED"
    case verified = "VERIFIED"
    case updating = "UPDATING"
    case updated = "UPDATED"
    case failed = "FAILED"
}

/// What a device tells while it updates itself.
struct DemoProgress: Sendable, Hashable {
    /// How far it is.
    var state: DemoState
    /// Bytes fetched so far.
    var bytes = 0
    /// Bytes to fetch; 0 while unknown.
    var total = 0
}

/// What came of an update.
struct DemoResult: Sendable, Hashable {
    /// The last state that the device reported.
    var state: DemoState
    /// Bytes fetched.
    var bytes: Int
    /// How long the download took, in seconds.
    var seconds: Double
    /// The checksum of what was fetched, in lower-case hexadecimal.
    var checksum: String
    /// Whether it is the checksum that the host announced.
    var isVerified: Bool
}

/// Why the demonstration, or a device of it, could not go on.
struct DemoError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Where a listener is.
struct DemoEndpoint: Sendable, Hashable {
    /// Host name or address.
    var host: String
    /// Port, 1…65535.
    var port: Int
}

/// How long the demonstration waits, and how much it takes in.
enum DemoLimits {
    /// For a connection.
    static let connect = TimeAmount.seconds(5)
    /// For the next byte of an answer.
    static let answer = TimeAmount.seconds(30)
    /// For the offer of firmware after the device is ready.
    static let offerWait = Duration.seconds(60)
    /// Bytes of an answer over HTTP.
    static let httpBodyBytesMax = 8 << 20
    /// Bytes of an MQTT packet.
    static let mqttPacketBytesMax = 1 << 20
    /// Messages that wait to be looked at by a device.
    static let mailboxCountMax = 64
}

extension DemoDevice {
    /// Carries out one update.
    ///
    /// - Parameter onProgress: Called at each change of state and as bytes arrive.
    /// - Returns: What was fetched and verified.
    /// - Throws: ``DemoError`` and errors of the connection. The host has been told `FAILED` by then if it could be reached.
    func update(onProgress: @Sendable (DemoProgress) -> Void) async throws -> DemoResult {
        onProgress(DemoProgress(state: .connecting))
        let link = try await self.connect()
        do {
            let result = try await self.update(over: link, onProgress: onProgress)
            await link.close()
            return result
        } catch {
            // The connection may be what failed; then nobody can be told.
            try? await link.report(["fw_state": .string(DemoState.failed.rawValue), "fw_error": .string("\(error)")])
            await link.close()
            throw error
        }
    }

    private func update(
        over link: any DeviceLink,
        onProgress: @Sendable (DemoProgress) -> Void
    ) async throws -> DemoResult {
        try await link.report(["current_fw_title": "Initial", "current_fw_version": "v0"])
        var progress = DemoProgress(state: .waiting)
        onProgress(progress)
        let offer = try await link.offer()
        var digest = try FirmwareDigest(algorithm: offer.algorithm)

        func enter(_ state: DemoState, adding more: JSON.Object = [:]) async throws {
            var telemetry = more
            telemetry["fw_state"] = .string(state.rawValue)
            try await link.report(telemetry)
            progress.state = state
            onProgress(progress)
        }

        progress.total = offer.size
        try await enter(.downloading)
        let clock = ContinuousClock()
        let start = clock.now
        try await link.download(offer) { bytes in
            guard bytes.readableBytes <= offer.size - progress.bytes else {
                throw DemoError("got more than the \(offer.size) bytes that were announced")
            }
            digest.update(bytes)
            progress.bytes += bytes.readableBytes
            onProgress(progress)
        }
        let seconds = (clock.now - start) / .seconds(1)
        guard progress.bytes == offer.size else {
            throw DemoError("got \(progress.bytes) of \(offer.size) bytes")
        }
        try await enter(.downloaded)
        let checksum = digest.finish()
        guard checksum == offer.checksum else {
            throw DemoError("CHECKSUM_MISMATCH: announced \(offer.checksum), computed \(checksum)")
        }
        try await enter(.verified)
        try await enter(.updating)
        try await enter(
            .updated,
            adding: ["current_fw_title": .string(offer.title), "current_fw_version": .string(offer.version)]
        )
        return DemoResult(
            state: .updated,
            bytes: progress.bytes,
            seconds: seconds,
            checksum: checksum,
            isVerified: true
        )
    }
}
