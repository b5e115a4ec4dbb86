import NodeKit

/// Starts messages that are meant for a device.
struct AssignedNode: IngressNode {
    static let descriptor = NodeDescriptor(
        type: "assigned",
        summary: "Starts what is meant for a device.",
        relations: [RelationDescriptor(.success, "Always.")],
        traits: [.isQueue, .startsDelivery]
    )

    let id: String
    let bench: Bench

    init(configuration: Configuration, services: NodeServices) throws {
        self.id = services.node
        self.bench = try services.require(Bench.self)
    }

    func run(_ outlet: any Outlet) async throws {
        outlet.ready([])
        try await self.bench.run(self.id)
    }
}

/// Delivers what is meant for a device.
struct PushNode: Node {
    static let descriptor = NodeDescriptor(
        type: "push",
        summary: "Delivers.",
        relations: [RelationDescriptor(.success, "Done."), RelationDescriptor("Superseded", "Not due any more.")],
        traits: .delivers
    )

    init(configuration: Configuration, services: NodeServices) throws {}

    func process(_ message: Message) async throws -> Emission { .route(message, to: .success) }
}

/// Says later, as far as the checker knows.
struct WindowNode: Node {
    static let descriptor = NodeDescriptor(
        type: "window",
        summary: "Lets messages pass at some times.",
        relations: [RelationDescriptor(.success, "It is open.")],
        traits: .saysLater
    )

    init(configuration: Configuration, services: NodeServices) throws {}

    func process(_ message: Message) async throws -> Emission { .route(message, to: .success) }
}
