import NIOCore
import NodeKit
import OTA
import Testing

@testable import Management

/// The document is what the table of routes says, all of it and nothing else.
@Suite struct OpenAPITests {
    private func document(_ server: TestServer, _ path: String = "/openapi.json") async throws -> JSON {
        let response = try await server.send(.GET, path, [:], ByteBuffer(), token: nil)
        #expect(response.status == 200)
        #expect(response.headers.first(name: "Content-Type") == "application/json")
        return try response.json
    }

    /// All values of members with this name, wherever they are.
    private func all(_ name: String, in json: JSON) -> [JSON] {
        switch json {
        case .object(let object):
            object.members.flatMap { ($0.name == name ? [$0.value] : []) + self.all(name, in: $0.value) }
        case .array(let elements): elements.flatMap { self.all(name, in: $0) }
        default: []
        }
    }

    @Test func everyRouteIsInTheDocumentAndNothingElse() async throws {
        try await TenantWorld.run { world in
            let document = try await self.document(world.server)
            #expect(document["openapi"] == "3.1.0")
            #expect(try await self.document(world.server, "/v3/api-docs") == document)
            var described: Set<String> = []
            for path in document["paths"]?.object?.members ?? [] {
                for method in path.value.object?.names ?? [] { described.insert("\(method.uppercased()) \(path.name)") }
            }
            #expect(described == Set(world.routes.map { "\($0.method.rawValue) \($0.path)" }))
        }
    }

    @Test func eachOperationSaysWhatItTakesAndAnswers() async throws {
        try await TenantWorld.run { world in
            let document = try await self.document(world.server)
            for route in world.routes {
                let operation = try #require(document["paths"]?[route.path]?[route.method.rawValue.lowercased()])
                let what = "\(route.method) \(route.path)"
                #expect(operation["summary"]?.string?.isEmpty == false, "\(what)")
                #expect(operation["responses"]?["200"] != nil, "\(what)")
                #expect((operation["security"] == []) == (route.access == .anyone), "\(what)")
                #expect((operation["responses"]?["401"] != nil) || route.access == .anyone, "\(what)")
                #expect((operation["requestBody"] == nil) || (route.method != .get), "\(what)")
                let parameters = operation["parameters"]?.array ?? []
                let inPath = parameters.filter { $0["in"] == "path" }.compactMap { $0["name"]?.string }
                let named = route.path.split(separator: "/").filter { $0.hasPrefix("{") }.map {
                    $0.dropFirst().dropLast()
                }
                #expect(inPath == named.map(String.init), "\(what)")
                let names = parameters.compactMap { $0["name"]?.string }
                #expect(names.count == Set(names).count, "\(what)")
            }
            let identifiers = self.all("operationId", in: document).compactMap(\.string)
            #expect(identifiers.count == Set(identifiers).count)
            let schemas = Set(document["components"]?["schemas"]?.object?.names ?? [])
            for reference in self.all("$ref", in: document).compactMap(\.string) {
                #expect(schemas.contains(String(reference.split(separator: "/").last ?? "")), "\(reference)")
            }
        }
    }

    @Test(
        "Who takes no JSON gets none",
        arguments: [
            ("application/json", true), ("*/*", true), ("text/html, application/*;q=0.5", true), ("", true),
            ("APPLICATION/JSON; q=1", true), ("text/html", false), ("application/json;q=0", false),
            ("application/json; q=0.0, text/plain", false),
        ]
    )
    func accept(accept: String, isTaken: Bool) async throws {
        try await TestServer.run { server in
            let path = "/api/auth/user"
            let response = try await server.send(.GET, path, ["Accept": accept], ByteBuffer(), token: server.token)
            if isTaken {
                #expect(response.status == 200)
            } else {
                try response.expectError(406, 31, "No acceptable representation; this is answered as JSON")
            }
        }
    }
}
