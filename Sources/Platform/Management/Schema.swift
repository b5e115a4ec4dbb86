import NodeKit

/// The shape of a JSON value, in JSON Schema 2020-12 as OpenAPI 3.1 has it, with the name it has in the document.
struct Schema: Sendable {
    let name: String
    let json: JSON
    /// The schemas that this one refers to.
    let parts: [Schema]

    init(_ name: String, _ json: JSON, parts: [Schema] = []) {
        self.name = name
        self.json = json
        self.parts = parts
    }

    /// How others refer to it.
    var reference: JSON { ["$ref": .string("#/components/schemas/\(self.name)")] }

    /// A list of values of this shape.
    var list: Schema {
        Schema("ListOf\(self.name)", ["type": "array", "items": self.reference], parts: [self])
    }

    /// A page of values of this shape.
    var page: Schema {
        Schema(
            "PageOf\(self.name)",
            Self.object([
                "data": ["type": "array", "items": self.reference], "totalPages": Self.integer(in: 0...Int64.max),
                "totalElements": Self.integer(in: 0...Int64.max), "hasNext": ["type": "boolean"],
            ]),
            parts: [self]
        )
    }
}

/// What schemas are made of.
extension Schema {
    static let string: JSON = ["type": "string"]
    static let boolean: JSON = ["type": "boolean"]
    static let uuid: JSON = ["type": "string", "format": "uuid"]
    static let optionalString: JSON = ["type": ["string", "null"]]
    static let optionalInteger: JSON = ["type": ["integer", "null"]]
    /// Milliseconds since 1970-01-01 UTC.
    static let time: JSON = ["type": "integer", "description": "Milliseconds since 1970-01-01 UTC"]
    /// A value of whatever type.
    static let anything: JSON = [:]
    static let anyObject: JSON = ["type": "object"]
    static let optionalObject: JSON = ["type": ["object", "null"]]

    static func integer(in range: ClosedRange<Int64>?) -> JSON {
        var schema: JSON.Object = ["type": "integer"]
        if let range {
            schema["minimum"] = .integer(range.lowerBound)
            if range.upperBound < .max { schema["maximum"] = .integer(range.upperBound) }
        }
        return .object(schema)
    }

    static func choice(of choices: [String]) -> JSON {
        ["type": "string", "enum": .array(choices.map(JSON.string))]
    }

    static func text(_ lengths: ClosedRange<Int64>) -> JSON {
        ["type": "string", "minLength": .integer(lengths.lowerBound), "maxLength": .integer(lengths.upperBound)]
    }

    static func array(of element: JSON) -> JSON { ["type": "array", "items": element] }

    /// A shape that may also be `null`.
    static func optional(_ schema: JSON) -> JSON { ["anyOf": [schema, ["type": "null"]]] }

    /// An object whose members are all there, but for those that are optional.
    static func object(_ members: JSON, optional: JSON = [:]) -> JSON {
        var properties = members.object ?? [:]
        let required = properties.names
        for member in optional.object?.members ?? [] { properties[member.name] = member.value }
        var schema: JSON.Object = ["type": "object", "properties": .object(properties)]
        if !required.isEmpty { schema["required"] = .array(required.map(JSON.string)) }
        return .object(schema)
    }

    /// The identifier of an entity of one type.
    static func id(_ entityType: String) -> JSON {
        Self.object(["entityType": ["const": .string(entityType)], "id": Self.uuid])
    }

    /// The identifier of an entity in a request, where its type does not matter.
    static func reference(_ entityType: String) -> JSON {
        Self.object(["id": Self.uuid], optional: ["entityType": ["const": .string(entityType)]])
    }
}
