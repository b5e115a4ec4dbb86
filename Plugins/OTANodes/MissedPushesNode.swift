import FoundationEssentials
import Logging
public import NodeKit
import OTA

/// Sends one message for each device that returns and missed the push of its package: `PACKAGE_ASSIGNED`, with the cause `RESENT`.
///
/// A push is missed if no session of the device took it: it was not connected, or had not subscribed to its attributes yet. Then
/// its update stays as it is, and as soon as a session of the device listens for attributes (MQTT: subscribes, CoAP: observes, HTTP:
/// polls for updates), its message comes from here. What was missed is stored, so a restart of the host changes nothing.
///
/// | Relation  | When                                                  |
/// |-----------|-------------------------------------------------------|
/// | `Success` | A device listens that was not told of its package.    |
public struct MissedPushesNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "missed-pushes",
        summary:
            "Sends one message for each device that returns and missed the push of its package (PACKAGE_ASSIGNED).",
        relations: [RelationDescriptor(.success, "A device listens that was not told of its package.")],
        attributes: [
            .integer(
                "in-flight-max",
                default: 64,
                in: 1...4096,
                summary: "How many devices are handled side by side."
            )
        ],
        variables: [
            .packageType, VariableDescriptor(MessageKey.packageId, "The identifier of the package."),
            VariableDescriptor(MessageKey.cause, "RESENT."),
        ]
    )

    private let inFlightMax: Int
    private let progress: any UpdateProgressService
    private let sessions: DeviceSessions
    private let logger: Logger

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.inFlightMax = Int(configuration.integer("in-flight-max"))
        self.progress = try services.require((any UpdateProgressService).self)
        self.sessions = try services.require(DeviceSessions.self)
        self.logger = services.logger
    }

    /// Hands on devices that return, until its task is cancelled.
    public func run(_ outlet: any Outlet) async throws {
        let arrivals = self.sessions.watchArrivals(interestedIn: .attributes)
        defer { self.sessions.unwatch(arrivals) }
        outlet.ready([])
        while case let devices = await arrivals.next(), !devices.isEmpty {
            await withTaskGroup(of: Void.self) { group in
                for (index, device) in devices.enumerated() {
                    if index >= self.inFlightMax { await group.next() }
                    group.addTask { await self.tell(device, outlet) }
                }
            }
        }
    }

    private func tell(_ device: UUID, _ outlet: any Outlet) async {
        do {
            for assignment in try await self.progress.missedPushes(of: DeviceId(device)) {
                // What cannot be handled stays missed, and comes when the device returns the next time.
                guard case .failed(let error) = await outlet.send(Message(assignment)) else { continue }
                self.log("a device that returned could not be told of its package", device, error)
            }
        } catch {
            self.log("whether a device missed a push could not be read", device, NodeError(wrapping: error))
        }
    }

    private func log(_ text: Logger.Message, _ device: UUID, _ error: NodeError) {
        self.logger.log(
            level: error.isRetryable ? .warning : .error,
            text,
            metadata: ["device.id": "\(device)", "error": "\(error)"]
        )
    }
}
