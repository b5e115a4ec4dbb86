import Hummingbird
import NodeKit
import OTA

/// `/api/plugins/telemetry`: attributes and time series of devices.
struct TelemetryRoutes: Sendable {
    /// The most series that are answered at once.
    static let keysMax = 256

    /// The parameter that says whether values keep their types.
    private static let strictness = Operation.Parameter.flag(
        "useStrictDataTypes",
        "Whether values have their types; they are texts otherwise"
    )

    let services: ManagementServices
    let now: @Sendable () -> Timestamp

    func add(to routes: inout RouteTable) {
        let entity = "/api/plugins/telemetry/{entityType}/{id}"
        routes.add(
            .get,
            "\(entity)/keys/attributes",
            for: .tenantUsers,
            Operation("Lists the names of a device's attributes", answer: .json(.names)),
            self.attributeKeys
        )
        routes.add(
            .get,
            "\(entity)/keys/attributes/{scope}",
            for: .tenantUsers,
            Operation("Lists the names of a device's attributes of one scope", answer: .json(.names)),
            self.attributeKeys
        )
        routes.add(
            .get,
            "\(entity)/keys/timeseries",
            for: .tenantUsers,
            Operation("Lists the names of a device's time series", answer: .json(.names)),
            self.timeseriesKeys
        )
        routes.add(
            .get,
            "\(entity)/values/attributes",
            for: .tenantUsers,
            Operation(
                "Reads attributes of a device",
                query: [.list("keys", "Their names; all if left out")],
                answer: .json(.attributes)
            ),
            self.attributes
        )
        routes.add(
            .get,
            "\(entity)/values/attributes/{scope}",
            for: .tenantUsers,
            Operation(
                "Reads attributes of a device of one scope",
                query: [.list("keys", "Their names; all if left out")],
                answer: .json(.attributes)
            ),
            self.attributes
        )
        routes.add(
            .get,
            "\(entity)/values/timeseries",
            for: .tenantUsers,
            Operation(
                "Reads the newest values of time series, or their history if 'startTs' and 'endTs' are given",
                query: [.list("keys", "Their names; all if left out"), Self.strictness]
                    + HistoryQuery.parameters(areRequired: false),
                answer: .json(.series)
            ),
            self.latest
        )
        routes.add(
            .get,
            "\(entity)/values/timeseries/history",
            for: .tenantUsers,
            Operation(
                "Reads the history of time series",
                query: [.list("keys", "Their names", required: true), Self.strictness]
                    + HistoryQuery.parameters(areRequired: true),
                answer: .json(.series)
            ),
            self.history
        )
        for path in [
            "/api/plugins/telemetry/{id}/{scope}", "\(entity)/{scope}", "\(entity)/attributes/{scope}",
        ] {
            routes.add(
                .post,
                path,
                for: .tenantAdministrators,
                logs: .action(.attributesUpdated),
                Operation(
                    "Writes attributes of a device; a device is told of shared ones",
                    body: .json(.savedAttributes)
                ),
                self.saveAttributes
            )
            routes.add(
                .delete,
                path,
                for: .tenantAdministrators,
                logs: .action(.attributesDeleted),
                Operation("Deletes attributes of a device", query: [.list("keys", "Their names", required: true)]),
                self.deleteAttributes
            )
        }
        routes.add(
            .post,
            "\(entity)/timeseries/{any}",
            for: .tenantAdministrators,
            logs: .action(.timeseriesUpdated),
            Operation("Writes values of time series", body: .json(.telemetry)),
            self.saveTimeseries
        )
        routes.add(
            .post,
            "\(entity)/timeseries/{any}/{ttl}",
            for: .tenantAdministrators,
            logs: .action(.timeseriesUpdated),
            Operation(
                "Writes values of time series; how long to keep them is for the host's settings",
                body: .json(.telemetry)
            ),
            self.saveTimeseries
        )
        routes.add(
            .delete,
            "\(entity)/timeseries/delete",
            for: .tenantAdministrators,
            logs: .action(.timeseriesDeleted),
            Operation(
                "Deletes values of time series",
                query: [
                    .list("keys", "Their names", required: true),
                    .flag("deleteAllDataForKeys", "All values, instead of those of a span of time"),
                    .integer("startTs", "The first time, in milliseconds"),
                    .integer("endTs", "The last time, in milliseconds"),
                ]
            ),
            self.deleteTimeseries
        )
    }

    /// The device that a path names, which must exist.
    private func device(_ request: APIRequest) async throws -> DeviceId {
        if let type = request.parameters["entityType"], type.uppercased() != "DEVICE" {
            throw APIError.badRequest("Entities of type '\(type)' have no telemetry here; only DEVICE has")
        }
        return try await self.services.device(try request.id(), for: request).id
    }

    /// The scope that a path names; all of them if it names none.
    private func scopes(_ request: APIRequest) throws -> [AttributeScope] {
        guard let text = request.parameters["scope"] else { return AttributeScope.allCases }
        guard let scope = AttributeScope(rawValue: text) else { throw APIError.badRequest("Invalid scope: \(text)") }
        return [scope]
    }

    @Sendable private func attributeKeys(_ request: APIRequest) async throws -> Response {
        let device = try await self.device(request)
        var keys: [ExactText] = []
        for scope in try self.scopes(request) {
            let entries = try await self.services.attributes.attributes(of: device, scope: scope, keys: nil)
            for entry in entries where !keys.contains(entry.$key) { keys.append(entry.$key) }
        }
        return .json(.array(keys.map { .string($0.wrappedValue) }))
    }

    @Sendable private func attributes(_ request: APIRequest) async throws -> Response {
        let device = try await self.device(request)
        let keys = try request.queryList("keys")
        var values: [JSON] = []
        for scope in try self.scopes(request) {
            for entry in try await self.services.attributes.attributes(of: device, scope: scope, keys: keys) {
                values.append([
                    "lastUpdateTs": JSON(entry.lastUpdate), "key": .string(entry.key), "value": entry.value,
                ])
            }
        }
        return .json(.array(values))
    }

    @Sendable private func saveAttributes(_ request: APIRequest) async throws -> Response {
        let scopes = try self.scopes(request)
        guard let scope = scopes.first, scope != .client else {
            throw APIError.badRequest("Invalid scope: CLIENT_SCOPE; only a device itself writes its client attributes")
        }
        let device = try await self.device(request)
        let body = try await request.object()
        guard !body.object.isEmpty else { throw APIError.badRequest("No attributes data found in request body!") }
        for member in body.object.members where member.value.isNull || member.name.isEmpty {
            throw APIError.badRequest("The attribute '\(member.name)' must have a name and a value that is not null")
        }
        request.trail.note("scope", .string(scope.rawValue))
        request.trail.noteKeys(body.object.names)
        try await self.services.attributes.saveAttributes(of: device, scope: scope, body.object, at: self.now())
        return .empty
    }

    @Sendable private func deleteAttributes(_ request: APIRequest) async throws -> Response {
        let scopes = try self.scopes(request)
        let device = try await self.device(request)
        guard let keys = try request.queryList("keys") else { throw APIError.missing(parameter: "keys") }
        request.trail.noteKeys(keys)
        for scope in scopes {
            try await self.services.attributes.deleteAttributes(of: device, scope: scope, keys: keys)
        }
        return .empty
    }

    @Sendable private func timeseriesKeys(_ request: APIRequest) async throws -> Response {
        let entries = try await self.services.timeseries.latestTimeseries(of: try await self.device(request), keys: nil)
        return .json(.array(entries.map { .string($0.key) }))
    }

    /// A value as clients get it: a text, unless they ask for its real type.
    private func shape(_ entry: TimeseriesEntry, strict: Bool) -> JSON {
        ["ts": JSON(entry.timestamp), "value": strict ? entry.value : .string(entry.value.text)]
    }

    private func isStrict(_ request: APIRequest) -> Bool {
        request.queryText("useStrictDataTypes")?.lowercased() == "true"
    }

    @Sendable private func latest(_ request: APIRequest) async throws -> Response {
        // Older clients ask for history on this path.
        if request.queryText("startTs") != nil, request.queryText("endTs") != nil {
            return try await self.history(request)
        }
        let device = try await self.device(request)
        let keys = try request.queryList("keys", max: Self.keysMax)
        let strict = self.isStrict(request)
        var values: JSON.Object = [:]
        for entry in try await self.services.timeseries.latestTimeseries(of: device, keys: keys) {
            values[entry.key] = [self.shape(entry, strict: strict)]
        }
        for key in keys ?? [] where values[key] == nil {
            values[key] = [["ts": JSON(self.now()), "value": nil]]
        }
        return .json(.object(values))
    }

    @Sendable private func history(_ request: APIRequest) async throws -> Response {
        let device = try await self.device(request)
        guard let keys = try request.queryList("keys", max: Self.keysMax) else {
            throw APIError.missing(parameter: "keys")
        }
        let query = try HistoryQuery(request)
        let strict = self.isStrict(request)
        var values: JSON.Object = [:]
        for key in keys {
            let entries = try await query.entries(of: key, of: device, self.services.timeseries)
            if !entries.isEmpty { values[key] = .array(entries.map { self.shape($0, strict: strict) }) }
        }
        return .json(.object(values))
    }

    @Sendable private func saveTimeseries(_ request: APIRequest) async throws -> Response {
        let device = try await self.device(request)
        let points = try await request.json().telemetryPoints()
        guard !points.isEmpty else { throw APIError.badRequest("No timeseries data found in request body!") }
        request.trail.noteKeys(points.flatMap(\.values.names))
        try await self.services.timeseries.saveTimeseries(of: device, points, at: self.now())
        return .empty
    }

    @Sendable private func deleteTimeseries(_ request: APIRequest) async throws -> Response {
        let device = try await self.device(request)
        guard let keys = try request.queryList("keys", max: Self.keysMax) else {
            throw APIError.missing(parameter: "keys")
        }
        var range: ClosedRange<Timestamp>?
        if request.queryText("deleteAllDataForKeys")?.lowercased() != "true" {
            guard let start = try request.queryInteger("startTs") else { throw APIError.missing(parameter: "startTs") }
            guard let end = try request.queryInteger("endTs") else { throw APIError.missing(parameter: "endTs") }
            guard start <= end else { throw APIError.badRequest("Parameter 'startTs' must not be after 'endTs'") }
            range = Timestamp(milliseconds: start)...Timestamp(milliseconds: end)
        }
        request.trail.noteKeys(keys)
        try await self.services.timeseries.deleteTimeseries(of: device, keys: keys, in: range)
        return .empty
    }
}
