import NodeKit
import OTA

/// The shapes of attributes, time series and calls.
extension Schema {
    static let names = Schema("Names", Self.array(of: Self.string))

    static let attributes = Schema(
        "Attributes",
        Self.array(of: Self.object(["lastUpdateTs": Self.time, "key": Self.string, "value": Self.anything]))
    )

    static let series = Schema(
        "TimeSeries",
        [
            "type": "object",
            "description": "The entries of each series by its name; values are texts unless asked for otherwise",
            "additionalProperties": Self.array(of: Self.object(["ts": Self.time, "value": Self.anything])),
        ]
    )

    static let savedAttributes = Schema(
        "SavedAttributes",
        [
            "type": "object", "minProperties": 1,
            "description": "The value of each attribute by its name; none may be null",
        ]
    )

    static let telemetry = Schema(
        "Telemetry",
        [
            "description": "Values by name, or values with a time, or an array of either",
            "oneOf": [Self.timedValues, Self.plainValues, Self.array(of: Self.anyObject)],
        ]
    )

    private static let timedValues = Self.object(["ts": Self.time, "values": Self.anyObject])
    private static let plainValues: JSON = ["type": "object", "not": ["required": ["ts", "values"]]]

    static let anyValue = Schema("AnyValue", ["description": "Any JSON value"])

    static let number = Schema("Count", Self.integer(in: 0...Int64.max))

    static let call = Schema(
        "RemoteCall",
        Self.object(
            ["method": ["type": "string", "minLength": 1]],
            optional: [
                "params": Self.anything, "timeout": Self.optionalInteger, "expirationTime": Self.optionalInteger,
                "persistent": ["type": ["boolean", "null"]],
                "retries": ["type": ["integer", "null"], "minimum": 0, "maximum": .integer(RPCRoutes.retriesMax)],
                "additionalInfo": Self.anything,
            ]
        )
    )

    static let storedCall = Schema(
        "Rpc",
        Self.object([
            "id": Self.id("RPC"), "createdTime": Self.time, "tenantId": Self.id("TENANT"),
            "deviceId": Self.id("DEVICE"),
            "expirationTime": Self.time, "request": Self.anyObject, "response": Self.anything,
            "status": Self.choice(of: PersistentCall.Status.allCases.map(\.rawValue)), "additionalInfo": Self.anything,
        ])
    )
}

/// The shapes of entity queries.
extension Schema {
    static let countQuery = Schema(
        "EntityCountQuery",
        Self.object(Self.whichEntities, optional: Self.keyFilters),
        parts: [
            Self.predicate
        ]
    )

    static let dataQuery = Schema(
        "EntityDataQuery",
        Self.object(
            .object(
                JSON.Object(
                    (Self.whichEntities.object?.members ?? []).map { ($0.name, $0.value) } + [
                        ("pageLink", Self.pageLink)
                    ]
                )
            ),
            optional: .object(
                JSON.Object(
                    (Self.keyFilters.object?.members ?? []).map { ($0.name, $0.value) } + [
                        ("entityFields", Self.array(of: Self.key)), ("latestValues", Self.array(of: Self.key)),
                    ]
                )
            )
        ),
        parts: [Self.predicate]
    )

    private static let whichEntities: JSON = ["entityFilter": Self.entityFilter]
    private static let keyFilters: JSON = [
        "keyFilters": Self.array(
            of: Self.object(
                ["key": Self.key, "predicate": Self.predicate.reference],
                optional: ["valueType": Self.choice(of: ["STRING", "NUMERIC", "BOOLEAN", "DATE_TIME"])]
            )
        ),
        "keyFiltersOperation": Self.choice(of: ["AND", "OR"]),
    ]

    static let entityFilter: JSON = [
        "oneOf": [
            Self.object(["type": ["const": "singleEntity"], "singleEntity": Self.id("DEVICE")]),
            Self.object([
                "type": ["const": "entityList"], "entityType": ["const": "DEVICE"],
                "entityList": Self.array(of: Self.uuid),
            ]),
            Self.object(
                ["type": ["const": "entityName"], "entityType": ["const": "DEVICE"]],
                optional: ["entityNameFilter": Self.string]
            ),
            Self.object(["type": ["const": "entityType"], "entityType": ["const": "DEVICE"]]),
            Self.object(
                ["type": ["const": "deviceType"], "deviceTypes": Self.array(of: Self.string)],
                optional: ["deviceNameFilter": Self.string]
            ),
            Self.object([
                "type": Self.choice(of: [
                    "assetType", "entityViewType", "edgeType", "relationsQuery", "deviceSearchQuery",
                    "assetSearchQuery",
                    "entityViewSearchQuery", "edgeSearchQuery", "apiUsageState",
                ])
            ]),
        ]
    ]

    private static let key = Self.object([
        "type": Self.choice(of: EntityKey.Kind.allCases.map(\.rawValue)), "key": ["type": "string", "minLength": 1],
    ])

    private static let pageLink = Self.object(
        ["pageSize": Self.integer(in: APIRequest.pageSizes)],
        optional: [
            "page": Self.integer(in: APIRequest.pages), "textSearch": Self.optionalString,
            "sortOrder": Self.optional(
                Self.object(["key": Self.key], optional: ["direction": Self.choice(of: ["ASC", "DESC"])])
            ),
        ]
    )

    static let predicate: Schema = {
        func simple(_ type: String, _ operations: [String], _ value: JSON, _ more: JSON = [:]) -> JSON {
            Self.object(
                [
                    "type": ["const": .string(type)], "operation": Self.choice(of: operations),
                    "value": Self.object(["defaultValue": value], optional: ["userValue": Self.optional(value)]),
                ],
                optional: more
            )
        }
        return Schema(
            "KeyFilterPredicate",
            [
                "oneOf": [
                    simple(
                        "STRING",
                        EntityPredicate.TextOperation.allCases.map(\.rawValue),
                        Self.string,
                        ["ignoreCase": Self.boolean]
                    ),
                    simple("NUMERIC", EntityPredicate.NumberOperation.allCases.map(\.rawValue), ["type": "number"]),
                    simple("BOOLEAN", ["EQUAL", "NOT_EQUAL"], Self.boolean),
                    Self.object([
                        "type": ["const": "COMPLEX"], "operation": Self.choice(of: ["AND", "OR"]),
                        "predicates": [
                            "type": "array", "minItems": 1,
                            "items": ["$ref": "#/components/schemas/KeyFilterPredicate"],
                        ],
                    ]),
                ]
            ]
        )
    }()

    static let entityData = Schema(
        "EntityData",
        Self.object([
            "entityId": Self.id("DEVICE"),
            "latest": [
                "type": "object", "description": "The values of each type of key by their names",
                "additionalProperties": [
                    "type": "object", "additionalProperties": Self.object(["ts": Self.time, "value": Self.string]),
                ],
            ],
            "timeseries": Self.anyObject, "aggLatest": Self.anyObject,
        ])
    )
}
