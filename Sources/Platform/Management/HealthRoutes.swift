import Hummingbird
import NodeKit

/// `/livez`, `/readyz` and `/health`: for whoever starts, watches and restarts the host.
///
/// A host that answers is alive. It is ready when each of its parts is: then devices and administrators can do all they may.
struct HealthRoutes: Sendable {
    let health: @Sendable () async -> [String: Bool]

    func add(to routes: inout RouteTable) {
        routes.add(.get, "/livez", for: .anyone, Operation("Tells that the host runs", answer: .json(.life))) { _ in
            .json(["live": true])
        }
        for path in ["/readyz", "/health"] {
            routes.add(
                .get,
                path,
                for: .anyone,
                Operation(
                    "Tells whether the host is ready",
                    answer: .json(.health),
                    failures: [(.serviceUnavailable, "A part of the host is not ready")]
                )
            ) { _ in await self.readiness() }
        }
    }

    private func readiness() async -> Response {
        let parts = await self.health()
        let isReady = parts.values.allSatisfy { $0 }
        return .json(
            [
                "live": true,
                "ready": .bool(isReady),
                "parts": .object(JSON.Object(parts.sorted { $0.key < $1.key }.map { ($0.key, .bool($0.value)) })),
            ],
            status: isReady ? .ok : .serviceUnavailable
        )
    }
}
