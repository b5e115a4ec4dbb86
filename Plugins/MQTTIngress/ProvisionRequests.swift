import IngressKit
import NodeKit
import OTA

/// Answers a client that is no device yet and wants to be made one: the one thing that it may do.
struct ProvisionRequests: Sendable {
    /// The user name or client identifier of such a client.
    static let name = "provision"

    let services: ConnectionServices

    /// Whether a client wants to be made a device, whatever else it presents.
    static func isMeant(by connect: ConnectPacket) -> Bool {
        connect.userName == Self.name || connect.clientId == Self.name
    }

    /// Carries a request out; after one that is not understood, or of another kind, the session is of no use.
    func answer(_ request: Session.Request) async -> Answer {
        var answer: Answer
        do throws(NodeError) {
            guard request.topic == .provision else {
                throw NodeError("not-provisioning", "only \(DeviceTopic.provisionRequest) may be published to here")
            }
            return try await self.provision(request)
        } catch {
            answer =
                error.code == "not-provisioning"
                ? .ignored(.topicNameInvalid, error.message) : self.services.failure(error)
        }
        answer.endsSession = true
        return answer
    }

    private func provision(_ request: Session.Request) async throws(NodeError) -> Answer {
        let message = try DeviceProtocol.mqtt.provisioning(request.payload, at: self.services.now())
        let answer = try DeviceProtocol.json(await self.services.outlet.send(message), to: .identity)
        return .response(DeviceTopic.provisionResponse, answer.bytes)
    }
}
