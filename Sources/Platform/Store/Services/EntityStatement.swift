import GRDB
import NodeKit
import OTA

/// An entity query as one statement of SQL, in which nothing that a client wrote stands: all of it is bound.
///
/// Devices are `d`; each value that matters for which devices are found, and in what order, is a table `k0`, `k1`, …, joined
/// once; each value that is answered is a table `v0`, `v1`, …, joined to the devices of the page alone.
struct EntityStatement {
    /// How one value is written: what is `NULL` if it is not there, but for `kind` of members of the device.
    struct Operand {
        var kind: String
        var value: String
        var time: String
    }

    private let query: EntityQuery
    /// The profiles of the device types that are asked for; `nil` if it is not types that are asked for.
    private let profiles: [DeviceProfileId]?
    private(set) var arguments: [DatabaseValue] = []
    private var operands: [EntityKey: Operand] = [:]
    private var joins = ""
    /// What leads to the devices: the newest values of a state if a filter needs one, as few devices are in most states.
    private var source = "device d"
    private var conditions: [String] = []

    /// Prepares the statement for a query that was checked.
    init(_ query: EntityQuery, profiles: [DeviceProfileId]?) {
        self.query = query
        self.profiles = profiles
        // A profile and its devices have the same tenant; what is not asked for again is found in an index alone.
        if profiles == nil { self.conditions = ["d.tenant_id = \(self.bind(query.tenantId.uuid))"] }
        self.addSource()
        self.addFilter()
        let keyConditions = query.keyFilters.map { filter in
            let operand = self.operand(filter.key)
            return self.condition(filter.predicate, on: operand)
        }
        if !keyConditions.isEmpty {
            let joint = keyConditions.joined(separator: query.isAnyFilterEnough ? " OR " : " AND ")
            self.conditions.append("(\(joint))")
        }
        self.addTextSearch()
    }

    /// The statement that counts.
    var count: String { "SELECT count(*) FROM \(self.matching)" }

    /// The statement that reads a page: its rows have `id`, and of each answered key `t`, `k` and `x` with the key's place.
    mutating func page(answering keys: [EntityKey]) throws -> String {
        let sort = self.query.sortKey.map { self.operand($0).value } ?? "d.created_time"
        let direction = self.query.ascending ? "ASC" : "DESC"
        let bounds = try self.query.link.rows()
        // Read before the arguments of the page, which come after them in the text.
        let matching = self.matching
        let limit = "LIMIT \(self.bind(bounds.limit)) OFFSET \(self.bind(bounds.offset))"
        var columns = ["d.id AS id"]
        var answered = ""
        for (index, key) in keys.enumerated() {
            let operand = self.join(key, as: "v\(index)", to: &answered)
            columns += [
                "\(operand.time) AS t\(index)", "\(operand.kind) AS k\(index)", "\(operand.value) AS x\(index)",
            ]
        }
        return """
            WITH page AS (
                SELECT d.no AS no, \(sort) AS sort FROM \(matching)
                ORDER BY sort \(direction), d.no \(direction) \(limit))
            SELECT \(columns.joined(separator: ", ")) FROM page CROSS JOIN device d ON d.no = page.no\(answered)
            ORDER BY page.sort \(direction), page.no \(direction)
            """
    }

    /// The statement that reads identifiers in their order.
    mutating func identifiers(after: DeviceId?, limit: Int) -> String {
        let matching = self.matching
        return """
            SELECT d.id AS id FROM \(matching) AND d.id > coalesce(\(self.bind(after?.uuid)), x'')
            ORDER BY d.id LIMIT \(self.bind(max(0, limit)))
            """
    }

    /// From what follows `FROM` to the end of `WHERE`.
    private var matching: String {
        "\(self.source)\(self.joins) WHERE \(self.conditions.joined(separator: " AND "))"
    }

    /// Takes a value into the statement and returns how it is written there.
    mutating func bind(_ value: (some DatabaseValueConvertible)?) -> String {
        self.arguments.append(value?.databaseValue ?? .null)
        return "?\(self.arguments.count)"
    }

    // MARK: Which devices

    private mutating func addSource() {
        guard !self.query.isAnyFilterEnough || self.query.keyFilters.count == 1,
            let state = self.query.keyFilters.first(where: { filter in
                filter.key.kind == .timeSeries && LatestState.keys.contains(filter.key.name)
                    && filter.predicate.needsValue
            })
        else { return }
        // CROSS JOIN keeps the order of the tables (sqlite.org/optoverview.html, "Manual control"): the state's values are walked
        // in the order of devices, so each device is found beside the one before.
        self.source = "latest_state k0 CROSS JOIN device d ON d.no = k0.device"
        self.conditions.append("k0.key = \(self.bind(state.key.name))")
        self.operands[state.key] = Operand(kind: "k0.kind", value: "k0.value", time: "k0.ts")
    }

    private mutating func addFilter() {
        switch self.query.filter {
        case .none: self.conditions.append("0")
        case .all: break
        case .devices(let ids):
            self.conditions.append("d.id IN (\(ids.map { self.bind($0.uuid) }.joined(separator: ", ")))")
        case .named(let pattern): self.addName(pattern)
        case .types(_, let pattern):
            let profiles = (self.profiles ?? []).map { self.bind($0.uuid) }
            // Written as an equation it leaves the order of an index by profile as it is.
            let isOne = profiles.count == 1
            self.conditions.append(
                "d.device_profile_id \(isOne ? "= \(profiles[0])" : "IN (\(profiles.joined(separator: ", ")))")"
            )
            if let pattern { self.addName(pattern) }
        }
    }

    private mutating func addName(_ pattern: NamePattern) {
        self.conditions.append("d.name LIKE \(self.bind(pattern.like)) ESCAPE '\\'")
    }

    private mutating func addTextSearch() {
        guard let text = self.query.textSearch, !text.isEmpty else { return }
        let like = "LIKE \(self.bind("%\(PageQuery.escaped(text))%")) ESCAPE '\\'"
        let found = self.query.searched.map { key in
            let operand = self.operand(key)
            return
                "CASE \(operand.kind) WHEN 0 THEN iif(\(operand.value), 'true', 'false') ELSE \(operand.value) END \(like)"
        }
        self.conditions.append("(\(found.joined(separator: " OR ")))")
    }

    // MARK: Values

    /// The value of a key, whose table is joined on first use.
    private mutating func operand(_ key: EntityKey) -> Operand {
        if let known = self.operands[key] { return known }
        var joins = self.joins
        let operand = self.join(key, as: "k\(self.operands.count)", to: &joins)
        self.joins = joins
        self.operands[key] = operand
        return operand
    }

    /// Joins the table of a key's value to the devices.
    private mutating func join(_ key: EntityKey, as alias: String, to joins: inout String) -> Operand {
        let operand = Operand(kind: "\(alias).kind", value: "\(alias).value", time: "\(alias).ts")
        switch key.kind {
        case .entityField: return Operand(kind: key.field?.kind ?? "3", value: key.field?.value ?? "''", time: "NULL")
        case .timeSeries where LatestState.keys.contains(key.name):
            joins +=
                " LEFT JOIN latest_state \(alias) ON \(alias).key = \(self.bind(key.name)) AND \(alias).device = d.no"
            return operand
        case .timeSeries:
            let name = self.bind(key.name)
            joins += """
                 LEFT JOIN ts \(alias) ON \(alias).device = d.no AND \(alias).key = \(name) AND \(alias).ts =
                \(LatestState.newestTime(of: "d.no", name))
                """
            return operand
        case .attribute, .clientAttribute, .sharedAttribute, .serverAttribute:
            let name = self.bind(key.name)
            let scope =
                key.kind.scope.map { "'\($0.rawValue)'" } ?? """
                    (SELECT scope FROM attribute WHERE device = d.no AND key = \(name)
                    AND scope IN ('CLIENT_SCOPE', 'SERVER_SCOPE', 'SHARED_SCOPE') ORDER BY last_update DESC, scope LIMIT 1)
                    """
            joins += """
                 LEFT JOIN attribute \(alias) ON \(alias).device = d.no AND \(alias).key = \(name)
                AND \(alias).scope = \(scope)
                """
            return Operand(kind: operand.kind, value: operand.value, time: "\(alias).last_update")
        }
    }
}

extension EntityKey.Kind {
    /// The scope of an attribute of one scope.
    fileprivate var scope: AttributeScope? {
        switch self {
        case .clientAttribute: .client
        case .sharedAttribute: .shared
        case .serverAttribute: .server
        case .attribute, .timeSeries, .entityField: nil
        }
    }
}

extension EntityKey.Field {
    /// What kind of value this is, as stored values have one.
    fileprivate var kind: String { self == .createdTime ? "1" : "3" }

    /// How it is written of a device `d`.
    fileprivate var value: String {
        switch self {
        case .id:
            """
            lower(substr(hex(d.id), 1, 8) || '-' || substr(hex(d.id), 9, 4) || '-' || substr(hex(d.id), 13, 4) || '-' ||
            substr(hex(d.id), 17, 4) || '-' || substr(hex(d.id), 21))
            """
        case .createdTime: "d.created_time"
        case .entityType: "'DEVICE'"
        case .name: "d.name"
        case .type: "(SELECT name FROM device_profile WHERE id = d.device_profile_id)"
        case .label: "coalesce(d.label, '')"
        case .additionalInfo: "coalesce(d.additional_info, '')"
        }
    }
}

extension NamePattern {
    /// The pattern as `LIKE` takes it.
    fileprivate var like: String {
        let (startsOpen, text, endsOpen) = self.parts
        return (startsOpen ? "%" : "") + PageQuery.escaped(text) + (endsOpen ? "%" : "")
    }
}
