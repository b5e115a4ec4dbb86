import NodeKit
import OTA

extension EntityQuery {
    /// What ThingsBoard's `EntityCountQuery` asks for, which `EntityDataQuery` has too.
    ///
    /// - Throws: ``APIError`` if a member is missing or of the wrong type.
    init(from body: BodyReader, tenantId: TenantId) throws {
        guard let filter = try body.nested("entityFilter") else { throw APIError.missing(parameter: "entityFilter") }
        let operation = try body.choice("keyFiltersOperation", of: ComplexOperation.self) ?? .and
        self.init(
            tenantId: tenantId,
            filter: try EntityFilter(from: filter),
            keyFilters: try body.objects("keyFilters").map(EntityKeyFilter.init(from:)),
            isAnyFilterEnough: operation == .or
        )
    }

    /// What ThingsBoard's `EntityDataQuery` asks for beyond that.
    mutating func readPage(from body: BodyReader) throws {
        guard let link = try body.nested("pageLink") else { throw APIError.missing(parameter: "pageLink") }
        guard let size = try link.integer("pageSize") else { throw APIError.missing(parameter: "pageSize") }
        let page = try link.integer("page") ?? 0
        try APIRequest.checkPage(size: size, number: page)
        self.pageSize = Int(size)
        self.page = Int(page)
        self.textSearch = try link.string("textSearch")
        if let order = try link.nested("sortOrder") {
            guard let key = try order.nested("key") else { throw APIError.missing(parameter: "sortOrder.key") }
            self.sortKey = try EntityKey(from: key)
            self.ascending = try order.choice("direction", of: SortDirection.self) ?? .ascending == .ascending
        }
        self.answered = try ["entityFields", "latestValues"].flatMap { name in
            try body.objects(name).map(EntityKey.init(from:))
        }
    }
}

/// How filters or predicates are joined.
private enum ComplexOperation: String, CaseIterable {
    case and = "AND"
    case or = "OR"
}

private enum SortDirection: String, CaseIterable {
    case ascending = "ASC"
    case descending = "DESC"
}

extension EntityFilter {
    /// Filters of ThingsBoard that find entities which are not here: assets, views, edges, and what is related to something.
    private static let withoutDevices: Set<String> = [
        "assetType", "entityViewType", "edgeType", "relationsQuery", "deviceSearchQuery", "assetSearchQuery",
        "entityViewSearchQuery", "edgeSearchQuery", "apiUsageState",
    ]
    private static let withDevices = ["singleEntity", "entityList", "entityName", "entityType", "deviceType"]

    fileprivate init(from body: BodyReader) throws {
        let type = try body.string("type") ?? ""
        switch type {
        case "singleEntity":
            guard let id = try body.nested("singleEntity") else { throw APIError.missing(parameter: "singleEntity") }
            self = try Self.isOfDevices(id) ? .devices([APIRequest.parse(try id.string("id") ?? "", "id")]) : .none
        case "entityList":
            let ids = try body.strings("entityList").map { text -> DeviceId in
                try APIRequest.parse(text, "entityList")
            }
            self = try Self.isOfDevices(body) ? .devices(ids) : .none
        case "entityName":
            let pattern = NamePattern(try body.string("entityNameFilter") ?? "")
            self = try Self.isOfDevices(body) ? .named(pattern) : .none
        case "entityType": self = try Self.isOfDevices(body) ? .all : .none
        case "deviceType":
            var types = try body.strings("deviceTypes")
            // As it was before ThingsBoard 3.5.
            if types.isEmpty, let type = try body.string("deviceType") { types = [type] }
            let name = try body.string("deviceNameFilter") ?? ""
            self = .types(types, name.isEmpty ? nil : NamePattern(name))
        case _ where Self.withoutDevices.contains(type): self = .none
        default:
            let known = (Self.withDevices + Self.withoutDevices.sorted()).joined(separator: ", ")
            throw APIError.badRequest("'\(type)' is no type of an entity filter; known are \(known)")
        }
    }

    private static func isOfDevices(_ body: BodyReader) throws -> Bool {
        guard let type = try body.string("entityType") else { throw APIError.missing(parameter: "entityType") }
        return type == "DEVICE"
    }
}

extension EntityKey {
    fileprivate init(from body: BodyReader) throws {
        guard let kind = try body.choice("type", of: Kind.self) else { throw APIError.missing(parameter: "key.type") }
        guard let name = try body.string("key"), !name.isEmpty else { throw APIError.missing(parameter: "key.key") }
        self.init(kind, name)
    }
}

extension EntityKeyFilter {
    fileprivate init(from body: BodyReader) throws {
        guard let key = try body.nested("key") else { throw APIError.missing(parameter: "key") }
        guard let predicate = try body.nested("predicate") else { throw APIError.missing(parameter: "predicate") }
        _ = try body.choice("valueType", of: ValueType.self)
        self.init(try EntityKey(from: key), try EntityPredicate(from: predicate, depth: 1))
    }

    /// What a person is asked for who writes the value to compare with; the predicate's own type says what it is compared as.
    private enum ValueType: String, CaseIterable {
        case string = "STRING"
        case numeric = "NUMERIC"
        case boolean = "BOOLEAN"
        case dateTime = "DATE_TIME"
    }
}

extension EntityPredicate {
    private enum Form: String, CaseIterable {
        case string = "STRING"
        case numeric = "NUMERIC"
        case boolean = "BOOLEAN"
        case complex = "COMPLEX"
    }

    private enum TruthOperation: String, CaseIterable {
        case equal = "EQUAL"
        case notEqual = "NOT_EQUAL"
    }

    fileprivate init(from body: BodyReader, depth: Int) throws {
        // What is deeper is refused here, before anything is called for it.
        guard depth <= EntityQuery.depthMax else {
            throw APIError.badRequest("Predicates may be nested \(EntityQuery.depthMax) deep and no deeper")
        }
        guard let form = try body.choice("type", of: Form.self) else {
            throw APIError.missing(parameter: "predicate.type")
        }
        switch form {
        case .string:
            let operation: TextOperation = try Self.operation(body)
            guard let text = try Self.value(body).string else { throw Self.wrongValue("a string") }
            let texts = operation == .isIn || operation == .notIn ? Self.list(text) : [text]
            self = .text(operation, texts, ignoresCase: try body.bool("ignoreCase") ?? false)
        case .numeric:
            let value = try Self.value(body)
            guard value.double != nil else { throw Self.wrongValue("a number") }
            self = .number(try Self.operation(body), value)
        case .boolean:
            let operation: TruthOperation = try Self.operation(body)
            guard let value = try Self.value(body).bool else { throw Self.wrongValue("true or false") }
            self = .truth(isEqual: operation == .equal, value)
        case .complex:
            let operation: ComplexOperation = try Self.operation(body)
            let parts = try body.objects("predicates").map { try EntityPredicate(from: $0, depth: depth + 1) }
            guard !parts.isEmpty else { throw APIError.missing(parameter: "predicates") }
            self = operation == .and ? .all(parts) : .any(parts)
        }
    }

    private static func operation<Operation: RawRepresentable<String> & CaseIterable>(
        _ body: BodyReader
    ) throws -> Operation {
        guard let operation = try body.choice("operation", of: Operation.self) else {
            throw APIError.missing(parameter: "operation")
        }
        return operation
    }

    /// What to compare with: what a user chose, or else the default.
    ///
    /// A `dynamicValue` is an attribute of the user, customer or tenant; they have none here, and then ThingsBoard takes the default too.
    private static func value(_ body: BodyReader) throws -> JSON {
        guard let value = try body.nested("value") else { throw APIError.missing(parameter: "value") }
        guard let chosen = value["userValue"] ?? value["defaultValue"] else {
            throw APIError.missing(parameter: "value.defaultValue")
        }
        return chosen
    }

    private static func wrongValue(_ kind: String) -> APIError {
        .badRequest("'value' of this predicate must be \(kind)")
    }

    /// The texts of a list, which commas part; each may stand in quotes.
    private static func list(_ text: String) -> [String] {
        text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            var part = part.drop(while: \.isWhitespace)
            while part.last?.isWhitespace == true { part.removeLast() }
            for quote in ["\"", "'"] where part.count > 1 && part.hasPrefix(quote) && part.hasSuffix(quote) {
                return String(part.dropFirst().dropLast())
            }
            return String(part)
        }
    }
}

extension BodyReader {
    /// The elements of a member, which must be objects; none if it is absent.
    fileprivate func objects(_ name: String) throws -> [BodyReader] {
        try self.elements(name).map { element in
            guard case .object(let object) = element else {
                throw APIError.badRequest("'\(name)' must be an array of objects")
            }
            return BodyReader(object)
        }
    }

    /// The elements of a member, which must be strings; none if it is absent.
    fileprivate func strings(_ name: String) throws -> [String] {
        try self.elements(name).map { element in
            guard case .string(let text) = element else {
                throw APIError.badRequest("'\(name)' must be an array of strings")
            }
            return text
        }
    }

    private func elements(_ name: String) throws -> [JSON] {
        guard let value = self[name] else { return [] }
        guard case .array(let elements) = value else { throw APIError.badRequest("'\(name)' must be an array") }
        return elements
    }

    /// The case of an enumeration that a member names.
    fileprivate func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String,
        of: Choice.Type
    ) throws -> Choice? {
        guard let text = try self.string(name) else { return nil }
        guard let choice = Choice(rawValue: text) else {
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw APIError.badRequest("'\(name)' is '\(text)'; it must be one of \(known)")
        }
        return choice
    }
}

extension EntityRow {
    /// ThingsBoard's `EntityData`: every value as text, and an empty one for what is not there.
    func json(of query: EntityQuery, at now: Timestamp) -> JSON {
        var latest: JSON.Object = [:]
        for key in query.answered {
            var group = latest[key.kind.rawValue]?.object ?? [:]
            let value = self.values[key]
            let isField = key.kind == .entityField
            group[key.name] = [
                "ts": JSON(value?.timestamp ?? (isField ? now : Timestamp(milliseconds: 0))),
                "value": .string(value?.value.text ?? ""),
            ]
            latest[key.kind.rawValue] = .object(group)
        }
        return ["entityId": self.id.json, "latest": .object(latest), "timeseries": [:], "aggLatest": [:]]
    }
}
