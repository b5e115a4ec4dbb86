import HTTPTypes
import NodeKit

/// The OpenAPI 3.1 document of a table of routes (spec.openapis.org/oas/v3.1.1).
struct OpenAPIDocument: Sendable {
    let json: JSON

    /// Describes routes; of a path's routes those with literal segments come first, as they are matched first.
    init(_ routes: [Route]) {
        var paths: JSON.Object = [:]
        var schemas: [String: Schema] = [:]
        func add(_ schema: Schema) {
            guard schemas[schema.name] == nil else { return }
            schemas[schema.name] = schema
            schema.parts.forEach(add)
        }
        add(.error)
        for route in routes {
            var path = paths[route.path]?.object ?? [:]
            path[route.method.rawValue.lowercased()] = Self.operation(route)
            paths[route.path] = .object(path)
            route.operation.schemas.forEach(add)
        }
        let named = schemas.values.sorted { $0.name < $1.name }.map { ($0.name, $0.json) }
        self.json = [
            "openapi": "3.1.0",
            "info": [
                "title": "Windlass management API", "version": "1",
                "description": .string(
                    "Packages, devices, their profiles and their state, in the shapes of ThingsBoard's REST API. "
                        + "JSON is read whatever the request's Content-Type says."
                ),
            ],
            "servers": [["url": "/"]],
            "security": [["token": []], ["tokenOfThingsBoard": []]],
            "paths": .object(paths),
            "components": [
                "schemas": .object(JSON.Object(named)),
                "securitySchemes": [
                    "token": [
                        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                        "description": "The member 'token' of the answer to POST /api/auth/login.",
                    ],
                    "tokenOfThingsBoard": [
                        "type": "apiKey", "in": "header", "name": "X-Authorization",
                        "description": "'Bearer ' and the token, where ThingsBoard's clients send it.",
                    ],
                ],
            ],
        ]
    }

    private static func operation(_ route: Route) -> JSON {
        let operation = route.operation
        var object: JSON.Object = [
            "operationId": .string(Self.identifier(route)),
            "tags": [.string(Self.tag(route.path))],
            "summary": .string(operation.summary),
        ]
        if route.access == .anyone { object["security"] = [] }
        let parameters = route.parameterNames.map(Self.pathParameter) + operation.query.map(Self.parameter)
        if !parameters.isEmpty { object["parameters"] = .array(parameters) }
        if let body = operation.body { object["requestBody"] = Self.body(body) }
        object["responses"] = .object(Self.responses(route))
        return .object(object)
    }

    /// The method and the words of the path: `get_device_id_credentials`.
    private static func identifier(_ route: Route) -> String {
        let words = route.path.split(separator: "/").map { $0.filter { $0 != "{" && $0 != "}" } }
        return ([route.method.rawValue.lowercased()] + words.drop { $0 == "api" }).joined(separator: "_")
    }

    private static func tag(_ path: String) -> String {
        let words = path.split(separator: "/").filter { $0 != "api" && $0 != "plugins" }
        return words.first.map(String.init) ?? "host"
    }

    private static func parameter(_ parameter: Operation.Parameter) -> JSON {
        [
            "name": .string(parameter.name), "in": "query", "required": .bool(parameter.isRequired),
            "description": .string(parameter.summary), "schema": parameter.schema,
        ]
    }

    /// A parameter of a path, whose name says what it may be.
    private static func pathParameter(_ name: String) -> JSON {
        let schema: JSON =
            switch name {
            case "type": Schema.choice(of: ["FIRMWARE", "SOFTWARE"])
            case "scope": Schema.choice(of: ["CLIENT_SCOPE", "SHARED_SCOPE", "SERVER_SCOPE"])
            case "entityType": ["const": "DEVICE"]
            case _ where name == "id" || name.hasSuffix("Id"): Schema.uuid
            default: ["type": "string", "minLength": 1]
            }
        return ["name": .string(name), "in": "path", "required": true, "schema": schema]
    }

    private static func body(_ body: Operation.Body) -> JSON {
        func content(_ pairs: [(String, Schema)], required: Bool = true) -> JSON {
            let types = pairs.map { ($0.0, JSON.object(["schema": $0.1.reference])) }
            return ["required": .bool(required), "content": .object(JSON.Object(types))]
        }
        let json = "application/json"
        switch body {
        case .json(let schema): return content([(json, schema)])
        case .optional(let schema): return content([(json, schema)], required: false)
        case .form(let schema): return content([("multipart/form-data", schema)])
        case .jsonOrForm(let schema, let form): return content([(json, schema), ("multipart/form-data", form)])
        }
    }

    // MARK: Answers

    private static func responses(_ route: Route) -> JSON.Object {
        var responses: JSON.Object = ["200": Self.success(route.operation.answer)]
        var failures = route.commonFailures
        for failure in route.operation.failures {
            failures.removeAll { $0.status.code == failure.status.code }
            failures.append(failure)
        }
        let content: JSON = ["application/json": ["schema": Schema.error.reference]]
        for failure in failures.sorted(by: { $0.status.code < $1.status.code }) {
            responses[String(failure.status.code)] = ["description": .string(failure.reason), "content": content]
        }
        return responses
    }

    private static func success(_ answer: Operation.Answer) -> JSON {
        switch answer {
        case .nothing: ["description": "Done"]
        case .json(let schema):
            [
                "description": "Done", "content": ["application/json": ["schema": schema.reference]],
            ]
        case .jsonOrNothing(let schema):
            [
                "description": "Done; nothing if there is nothing to tell",
                "content": ["application/json": ["schema": schema.reference]],
            ]
        case .file: ["description": "The bytes", "content": ["*/*": ["schema": Schema.string]]]
        case .text(let type):
            ["description": "Done", "content": .object(JSON.Object([(type, .object(["schema": Schema.string]))]))]
        }
    }
}

extension Route {
    /// Failures that follow from what a route takes.
    fileprivate var commonFailures: [(status: HTTPResponse.Status, reason: String)] {
        var failures: [(status: HTTPResponse.Status, reason: String)] = [
            (.serviceUnavailable, "The host is shutting down or its database is in use")
        ]
        let hasBody = self.operation.body != nil
        let hasPath = !self.parameterNames.isEmpty
        if hasBody || hasPath || !self.operation.query.isEmpty {
            failures.append((.badRequest, "What was sent is not as it must be; the message says what"))
        }
        if self.access != .anyone {
            failures.append((.unauthorized, "No valid token was sent"))
            failures.append((.forbidden, "The user may not do this, or not with this entity"))
        }
        let namesEntity = self.operation.query.contains { $0.schema["format"] == "uuid" }
        if hasBody || hasPath || namesEntity {
            failures.append((.notFound, "An entity that the request names does not exist"))
        }
        if hasBody { failures.append((.contentTooLarge, "The body is longer than allowed")) }
        if self.operation.answersOnlyJSON {
            failures.append((.notAcceptable, "The request's Accept does not allow JSON"))
        }
        if case .form? = self.operation.body { failures.append((.unsupportedMediaType, "The body is no form")) }
        if self.method != .get {
            failures.append((.conflict, "Something else happened to the entity at the same time"))
            failures.append((.insufficientStorage, "The disk is full"))
        }
        return failures
    }
}
