import Logging
import NIOCore
import NodeKit
import OTA

/// What all connections of a listener share.
struct ConnectionServices: Sendable {
    var limits: Limits
    var outlet: any Outlet
    var authenticator: any DeviceAuthenticator
    var packages: any OtaPackageService
    var deviceSessions: DeviceSessions
    var connections: Connections
    var now: @Sendable () -> Timestamp
    var logger: Logger
    /// The executor of each event loop of the group.
    var executors: [ObjectIdentifier: EventLoopTaskExecutor]

    /// The executor of an event loop.
    func executor(of eventLoop: any EventLoop) -> EventLoopTaskExecutor {
        self.executors[ObjectIdentifier(eventLoop)] ?? EventLoopTaskExecutor(eventLoop)
    }
}
