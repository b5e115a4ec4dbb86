import Foundation
import NodeKit
import NodeTesting
import Testing

@testable import Shout

@Test func `shouts the device's name`() async throws {
    let node = try UpperCaseNode.make(["of": "deviceName"])
    let device = Originator(id: UUID.random(), name: "pump", type: "default")
    let message = Message(originator: device, type: .postTelemetryRequest, timestamp: .now)
    let emission = try await node.process(message)
    #expect(emission.routes.first?.message.metadata["shout"] == "PUMP")
}
