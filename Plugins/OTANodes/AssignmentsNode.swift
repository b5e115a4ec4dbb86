import IngressKit
public import NodeKit
import OTA

/// Sends one message for each device whose package changed: `PACKAGE_ASSIGNED` or `PACKAGE_UNASSIGNED`.
///
/// The same messages tell that an update begins again or that its device is to be told once more (`PACKAGE_ASSIGNED`), or that
/// it was cancelled (`PACKAGE_UNASSIGNED`); their `cause` says which.
///
/// An assignment is settled when the chain has handled its message, so one that was not handled when the host stopped comes
/// again. The urgent ones come first, else the oldest; those of one device one after the other, those of different devices side by
/// side. A message that the chain could not handle *now*, or of which a node said *later*, is sent again after a pause, and holds up
/// no other; one that it can never handle is logged and settled. Memory does not grow with the number of assignments.
///
/// | Relation  | When                                           |
/// |-----------|------------------------------------------------|
/// | `Success` | A device has another package, or none any more. |
public struct AssignmentsNode: IngressNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "assignments",
        summary: "Sends one message for each device whose package changed.",
        relations: [
            RelationDescriptor(
                .success,
                "A device has another package (PACKAGE_ASSIGNED) or none (PACKAGE_UNASSIGNED)."
            )
        ],
        attributes: [
            .integer(
                "in-flight-max",
                default: 64,
                in: 1...4096,
                summary: "How many devices are handled side by side."
            )
        ],
        variables: [
            .packageType, VariableDescriptor(MessageKey.packageId, "The identifier of the new package."),
            VariableDescriptor(
                MessageKey.cause,
                "Why it comes: RETRIED, RESENT or CANCELLED; empty if the package is another."
            ),
        ],
        traits: [.isQueue, .startsDelivery]
    )

    private let drain: QueueDrain

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.drain = QueueDrain(
            try services.require((any UpdateService).self).waitingAssignments,
            inFlightMax: Int(configuration.integer("in-flight-max")),
            services: services
        )
    }

    /// Hands on assignments until its task is cancelled.
    ///
    /// - Throws: What the store throws; nothing is lost then, for what is not settled comes again.
    public func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        try await self.drain.run(to: outlet)
    }
}
