import IngressKit
import NIOCore
import NodeKit

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
    case download(PackageRequest)
    /// `GET /api/download/{link}`: the package that a link leads to; without a token.
    case follow(link: String)

    /// How long a long poll may wait for news; `nil` for any other call.
    var waitsAtMost: TimeAmount? {
        switch self {
        case .awaitAttributes(let milliseconds), .awaitCall(let milliseconds): .milliseconds(milliseconds)
        case .readAttributes, .writeAttributes, .writeTelemetry, .answerCall, .callServer, .claim, .provision,
            .download, .follow:
            nil
        }
    }

    /// What the device waits for.
    var wish: DeviceProtocol.Wish {
        switch self {
        case .writeAttributes, .writeTelemetry, .answerCall: .acknowledgement
        case .readAttributes, .awaitAttributes: .attributes
        case .callServer, .awaitCall: .call
        case .claim: .claim
        case .provision: .identity
        case .download, .follow: .package
        }
    }

    /// The message that it is to the chain; `nil` for what waits for news, and for a link, which has to be resolved first.
    func message(
        _ body: ByteBuffer,
        from sender: DeviceProtocol.Sender,
        by messages: DeviceProtocol
    ) throws(NodeError) -> Message? {
        switch self {
        case .readAttributes(let clientKeys, let sharedKeys):
            messages.attributeRequest(clientKeys: clientKeys, sharedKeys: sharedKeys, from: sender)
        case .writeAttributes: try messages.attributes(body, from: sender)
        case .writeTelemetry: try messages.telemetry(body, from: sender)
        case .answerCall(let id): try messages.callAnswer(body, id: id, from: sender)
        case .callServer: try messages.serverCall(body, from: sender)
        case .claim: try messages.claim(body, from: sender)
        case .provision: try messages.provisioning(body, at: sender.time)
        case .download(let download): messages.package(download, from: sender)
        case .awaitAttributes, .awaitCall, .follow: nil
        }
    }
}
