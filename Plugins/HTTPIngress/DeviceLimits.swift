import HTTPKit
import NodeKit

/// What is bounded of the device API, as an operator may set it; what each means and its default is in the descriptor.
struct DeviceLimits: Sendable {
    var bodyBytes: Int
    var rpcBodyBytes: Int
    var longPolls: Int
    var longPollsPerDevice: Int

    static let attributes: [AttributeDescriptor] = [
        .integer(
            "body-bytes-max",
            default: 52_428_800,
            in: 1...1_073_741_824,
            unit: "bytes",
            summary: "The largest body of attributes, telemetry and claims; a larger one gets 413."
        ),
        .integer(
            "rpc-body-bytes-max",
            default: 65_536,
            in: 1...1_073_741_824,
            unit: "bytes",
            summary:
                "The largest body of a remote call, its answer, or a request to become a device; a larger one gets 413."
        ),
        .integer(
            "long-polls-max",
            default: 20_000,
            in: 0...1_000_000,
            summary: "How many long polls may wait; one more gets 429."
        ),
        .integer(
            "long-polls-per-device-max",
            default: 4,
            in: 0...1000,
            summary: "How many long polls of one device may wait; one more gets 429."
        ),
    ]

    init(_ configuration: Configuration) {
        self.bodyBytes = Int(configuration.integer("body-bytes-max"))
        self.rpcBodyBytes = Int(configuration.integer("rpc-body-bytes-max"))
        self.longPolls = Int(configuration.integer("long-polls-max"))
        self.longPollsPerDevice = Int(configuration.integer("long-polls-per-device-max"))
    }

    /// The largest body that a request may have; `nil` if none belongs to it.
    func bodyBytes(for call: DeviceCall) -> Int? {
        switch call {
        case .answerCall, .callServer, .provision: self.rpcBodyBytes
        case .writeAttributes, .writeTelemetry, .claim: self.bodyBytes
        case .readAttributes, .awaitAttributes, .awaitCall, .download, .follow: nil
        }
    }
}
