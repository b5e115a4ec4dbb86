import NIOCore
import OTA

/// What a device asks for, read from the method and the target of its request.
enum DeviceCall: Hashable, Sendable {
    /// `GET …/attributes`: names joined by commas; both absent means all of both.
    case readAttributes(clientKeys: String?, sharedKeys: String?)
    /// `POST …/attributes`
    case writeAttributes
    /// `POST …/telemetry`
    case writeTelemetry
    /// `GET …/attributes/updates`: wait for shared attributes to change.
    case awaitAttributes(milliseconds: Int64)
    /// `GET …/rpc`: wait for a call of the server.
    case awaitCall(milliseconds: Int64)
    /// `POST …/rpc/{id}`: answer a call of the server.
    case answerCall(id: Int64)
    /// `POST …/rpc`: call a method of the server.
    case callServer
    /// `POST …/claim`: say that a customer may claim the device.
    case claim
    /// `POST /api/v1/provision`: ask to become a device; without a token.
    case provision
    /// `GET …/firmware` and `GET …/software`
    case download(Download)
    /// `GET /api/download/{link}`: the package that a link leads to; without a token.
    case follow(link: String)

    /// Which bytes of which package.
    struct Download: Hashable, Sendable {
        var type: OtaPackageType
        var title: String
        var version: String
        /// Zero-based.
        var chunk: Int64
        /// The bytes of a chunk; 0 for the whole package.
        var size: Int64
    }

    /// How long its answer may wait for news; `nil` if it is no long poll.
    var waitsAtMost: TimeAmount? {
        switch self {
        case .awaitAttributes(let milliseconds), .awaitCall(let milliseconds): .milliseconds(milliseconds)
        case .readAttributes, .writeAttributes, .writeTelemetry, .answerCall, .callServer, .claim, .provision,
            .download, .follow:
            nil
        }
    }
}
