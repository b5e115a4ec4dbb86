import HTTPTypes
import Hummingbird
import NodeKit
import OTA

/// `/api/updates` and `/api/device/{id}/update/{type}`: how far devices are with their updates, and what can be done about it.
///
/// ThingsBoard has no such paths; there one has to read time series, and cannot do anything.
struct UpdateRoutes: Sendable {
    let services: ManagementServices

    /// What lists of updates are sorted by.
    private static let sortProperties = [
        "createdTime", "lastChange", "deviceName", "state", "title", "version", "attempts",
    ]

    /// Which updates are meant, in a query.
    private static let filter: [Operation.Parameter] = [
        .choice("type", "The kind of package", of: OtaPackageType.allCases.map(\.rawValue)),
        .list("state", "Their states"), .id("packageId", "The package"),
        .id("deviceProfileId", "The profile of the devices"),
    ]

    /// For every command.
    private static let dryRun = Operation.Parameter.flag(
        "dryRun",
        "Whether to change nothing, and only answer with what would be touched"
    )

    /// For a command whose request has no body.
    private static func query(of command: UpdateCommand) -> [Operation.Parameter] {
        guard case .resend = command else { return [Self.dryRun] }
        return [Self.dryRun, .flag("includeUpdated", "Whether an UPDATED update is begun anew")]
    }

    func add(to routes: inout RouteTable) {
        routes.add(
            .get,
            "/api/device/{id}/update/{type}",
            for: .tenantUsers,
            Operation("Reads how far a device is with its update", answer: .json(.updateRecord)),
            self.record
        )
        routes.add(
            .get,
            "/api/device/{id}/update/{type}/history",
            for: .tenantUsers,
            Operation(
                "Lists all that is known of a device's updates, oldest first",
                answer: .json(Schema.updateHistoryEntry.list)
            ),
            self.history
        )
        routes.add(
            .get,
            "/api/updates",
            for: .tenantUsers,
            Operation(
                "Lists how far devices are with their updates",
                query: .page(sortedBy: Self.sortProperties) + Self.filter,
                answer: .json(Schema.deviceUpdate.page)
            ),
            self.list
        )
        routes.add(
            .get,
            "/api/updates/count",
            for: .tenantUsers,
            Operation("Counts updates by state", query: Self.filter, answer: .json(.stateCounts)),
            self.count
        )
        routes.add(
            .get,
            "/api/updates/installed",
            for: .tenantUsers,
            Operation(
                "Counts the devices that have an update by the version that they say they run, most frequent first",
                query: Self.filter,
                answer: .json(.installedCounts)
            ),
            self.installed
        )
        for command in [UpdateCommand.retry, .cancel, .resend(includesUpdated: false)] {
            let (name, query) = (command.name, Self.query(of: command))
            routes.add(
                .post,
                "/api/device/{id}/update/{type}/\(name)",
                for: .tenantAdministrators,
                Operation("\(command.words) the update of a device", query: query, answer: .json(.updateRecord))
            ) { request in
                try await self.carryOut(command, onDevice: request)
            }
            routes.add(
                .post,
                "/api/deviceProfile/{id}/update/{type}/\(name)",
                for: .tenantAdministrators,
                Operation(
                    "\(command.words) the updates of the devices of a profile",
                    query: query,
                    answer: .json(.deviceCount)
                )
            ) { request in
                try await self.carryOut(command, onProfile: request)
            }
            routes.add(
                .post,
                "/api/updates/\(name)",
                for: .tenantAdministrators,
                Operation(
                    "\(command.words) the updates that a query finds",
                    query: [Self.dryRun],
                    body: .json(.updateQuery),
                    answer: .json(.deviceCount)
                )
            ) { request in
                try await self.carryOut(command, onQuery: request)
            }
        }
    }

    private func device(_ request: APIRequest) async throws -> DeviceId {
        try await self.services.device(try request.id(), for: request).id
    }

    private func record(of device: DeviceId, _ type: OtaPackageType) async throws -> UpdateRecord {
        guard let record = try await self.services.updates.updateRecord(of: device, type: type) else {
            throw APIError(.notFound, 32, "Device with id [\(device)] never had a \(type.rawValue) update")
        }
        return record
    }

    @Sendable private func record(_ request: APIRequest) async throws -> Response {
        let type = try request.packageType()
        return .json(.object(try await self.record(of: self.device(request), type).json))
    }

    @Sendable private func history(_ request: APIRequest) async throws -> Response {
        let type = try request.packageType()
        let device = try await self.device(request)
        return .json(.array(try await self.services.updates.updateHistory(of: device, type: type).map(\.json)))
    }

    // MARK: Lists

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        let filter = try await self.filter(request) { try UpdateFilter(query: request) }
        let page = try await self.services.updateControl.findUpdates(filter, page: request.pageLink())
        return .json(
            page.json { update in
                var json = update.record.json
                json["deviceName"] = .string(update.deviceName)
                json["deviceProfileId"] = update.deviceProfileId.json
                return .object(json)
            }
        )
    }

    @Sendable private func count(_ request: APIRequest) async throws -> Response {
        let filter = try await self.filter(request) { try UpdateFilter(query: request) }
        let counts = try await self.services.updateControl.countUpdates(filter)
        // All states, so that a client need not know which may be absent.
        return .json(
            .object(
                JSON.Object(
                    OtaUpdateState.allCases.map { ($0.rawValue, .integer(Int64(counts[$0] ?? 0))) }
                )
            )
        )
    }

    @Sendable private func installed(_ request: APIRequest) async throws -> Response {
        let filter = try await self.filter(request) { try UpdateFilter(query: request) }
        return .json(.array(try await self.services.updateControl.countInstalled(filter).map(\.json)))
    }

    /// What a request says about which updates are meant, of its tenant and naming nothing of another.
    private func filter(_ request: APIRequest, _ read: () throws -> UpdateFilter) async throws -> UpdateFilter {
        var filter = try read()
        filter.tenantId = try request.tenantId()
        if let id = filter.deviceProfileId { _ = try await self.services.profile(id, for: request) }
        if let id = filter.packageId { _ = try await self.services.package(id, for: request) }
        return filter
    }

    // MARK: Commands

    private func carryOut(_ command: UpdateCommand, onDevice request: APIRequest) async throws -> Response {
        let type = try request.packageType()
        let device = try await self.device(request)
        let before = try await self.record(of: device, type)
        let command = try command.including(updated: request.queryBool("includeUpdated"))
        let filter = UpdateFilter(tenantId: try request.tenantId(), type: type, devices: [device])
        guard try await self.touch(filter, command, request) > 0 else {
            throw APIError(.conflict, 35, command.refusal(of: before))
        }
        return .json(.object(try await self.record(of: device, type).json))
    }

    private func carryOut(_ command: UpdateCommand, onProfile request: APIRequest) async throws -> Response {
        let type = try request.packageType()
        let profile = try await self.services.profile(try request.id(), for: request)
        let command = try command.including(updated: request.queryBool("includeUpdated"))
        let filter = UpdateFilter(tenantId: profile.tenantId, type: type, deviceProfileId: profile.id)
        return try await self.carryOut(command, on: filter, request)
    }

    private func carryOut(_ command: UpdateCommand, onQuery request: APIRequest) async throws -> Response {
        let body = try await request.object()
        let command = try command.including(updated: body.bool("includeUpdated"))
        let filter = try await self.filter(request) { try UpdateFilter(body: body) }
        if body["entityFilter"] != nil {
            guard filter.devices == nil else {
                throw APIError.badRequest("Either 'deviceIds' or 'entityFilter' can be given, not both")
            }
            return try await self.carryOut(command, onDevicesMatching: body.object, filter, request)
        }
        guard try !filter.isUnrestricted || body.bool("all") == true else {
            throw APIError.badRequest(
                "Nothing says which updates are meant; name states, packageId, deviceProfileId, deviceIds or an entityFilter, "
                    + "or say \"all\": true"
            )
        }
        return try await self.carryOut(command, on: filter, request)
    }

    private func carryOut(
        _ command: UpdateCommand,
        on filter: UpdateFilter,
        _ request: APIRequest
    ) async throws -> Response {
        .json(["devices": .integer(Int64(try await self.touch(filter, command, request)))])
    }

    /// Carries out a command, unless the request asks for a dry run only.
    ///
    /// - Returns: How many updates it touched, or would touch.
    private func touch(_ filter: UpdateFilter, _ command: UpdateCommand, _ request: APIRequest) async throws -> Int {
        let control = self.services.updateControl
        guard try request.queryBool("dryRun") != true else { return try await control.count(command, on: filter) }
        return try await control.carryOut(command, on: filter, by: request.caller().user.name)
    }

    /// Goes through what a query finds, some devices at a time.
    private func carryOut(
        _ command: UpdateCommand,
        onDevicesMatching query: JSON.Object,
        _ filter: UpdateFilter,
        _ request: APIRequest
    ) async throws -> Response {
        var count = 0
        var last: DeviceId?
        while true {
            let devices = try await self.services.deviceQueries.devices(
                matching: query,
                of: filter.tenantId,
                after: last,
                limit: UpdateFilter.devicesMax
            )
            guard !devices.isEmpty else { break }
            var part = filter
            part.devices = devices
            count += try await self.touch(part, command, request)
            last = devices.last
        }
        return .json(["devices": .integer(Int64(count))])
    }
}

extension UpdateCommand {
    /// The last part of its paths.
    fileprivate var name: String {
        switch self {
        case .retry: "retry"
        case .cancel: "cancel"
        case .resend: "resend"
        }
    }

    /// The same, about UPDATED updates too if a request says so and the command knows the difference.
    fileprivate func including(updated isIncluded: Bool?) -> Self {
        guard case .resend = self else { return self }
        return .resend(includesUpdated: isIncluded ?? false)
    }

    /// What it does, for the document of the API.
    fileprivate var words: String {
        switch self {
        case .retry: "Begins anew, if it failed or was cancelled,"
        case .resend: "Tells devices again of"
        case .cancel: "Ends"
        }
    }

    /// Why an update in this state is not touched.
    fileprivate func refusal(of record: UpdateRecord) -> String {
        let update = "The update to \(record.title) \(record.version) is \(record.state.rawValue)"
        return switch self {
        case .resend(includesUpdated: false) where record.state == .updated:
            "\(update); it is sent again only with includeUpdated=true (--include-updated)"
        case .retry where record.state == .failed, .resend:
            "The update to \(record.title) \(record.version) is not that to the device's present package"
        case .retry: "\(update); only one that FAILED or was cancelled can be retried"
        case .cancel: "\(update); there is nothing to cancel"
        }
    }
}

extension UpdateFilter {
    /// Reads `type`, `state` (several joined by commas), `packageId` and `deviceProfileId` of a query.
    fileprivate init(query request: APIRequest) throws {
        self.init()
        self.type = try request.queryText("type").map(Self.type)
        self.states = try request.queryList("state").map(Self.states)
        self.packageId = try request.queryText("packageId").map { try APIRequest.parse($0, "packageId") }
        self.deviceProfileId = try request.queryText("deviceProfileId").map {
            try APIRequest.parse($0, "deviceProfileId")
        }
    }

    /// Reads the same members of a body, and `deviceIds`; `states` is a list.
    fileprivate init(body: BodyReader) throws {
        self.init()
        self.type = try body.string("type").map(Self.type)
        if let value = body["states"] {
            guard case .array(let names) = value else { throw APIError.badRequest("'states' must be a list of states") }
            self.states = try Self.states(names.map(\.text))
        }
        self.packageId = try body.id("packageId")
        self.deviceProfileId = try body.id("deviceProfileId")
        if let value = body["deviceIds"] {
            guard case .array(let ids) = value, ids.count <= Self.devicesMax, !ids.isEmpty else {
                throw APIError.badRequest("'deviceIds' must be a list of 1 to \(Self.devicesMax) identifiers")
            }
            self.devices = try ids.map { id in
                guard let id: DeviceId = try BodyReader(["id": id]).id("id") else {
                    throw APIError.badRequest("'deviceIds' must be a list of identifiers")
                }
                return id
            }
        }
    }

    private static func type(_ text: String) throws -> OtaPackageType {
        guard let type = OtaPackageType(rawValue: text.uppercased()) else {
            throw APIError.badRequest("'\(text)' is no package type; it must be FIRMWARE or SOFTWARE")
        }
        return type
    }

    private static func states(_ names: [String]) throws -> Set<OtaUpdateState> {
        Set(
            try names.map { name in
                guard let state = OtaUpdateState(rawValue: name.uppercased()) else {
                    let known = OtaUpdateState.allCases.map(\.rawValue).joined(separator: ", ")
                    throw APIError.badRequest("'\(name)' is no update state; known are \(known)")
                }
                return state
            }
        )
    }
}
