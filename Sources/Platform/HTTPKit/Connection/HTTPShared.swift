import IngressKit
import NodeKit
import OTA

/// What all connections of a node share.
struct HTTPShared: Sendable {
    var limits: HTTPLimits
    var api: DeviceAPI
    var connections: Connections
    var quota: LongPollQuota
    var sessions: DeviceSessions
    var encoders = LoopEncoders()
    var metrics = TransportMetrics()
    var now: @Sendable () -> Timestamp
}
