import HTTPTypes
import NodeKit
import OTA

/// What a route does, as the OpenAPI document tells it.
///
/// It stands where the route is added, and is no other than what the route does: tests compare what is answered with what it says.
struct Operation: Sendable {
    /// A parameter of the query.
    struct Parameter: Sendable {
        var name: String
        var summary: String
        var schema: JSON
        var isRequired = false
    }

    /// What a request carries.
    enum Body: Sendable {
        case json(Schema)
        /// A form with a file.
        case form(Schema)
        /// The one or the other.
        case jsonOrForm(Schema, form: Schema)
        /// JSON, or nothing.
        case optional(Schema)
    }

    /// What a request gets if nothing is wrong.
    enum Answer: Sendable {
        case nothing
        case json(Schema)
        /// JSON, or nothing if there is nothing to tell.
        case jsonOrNothing(Schema)
        /// Bytes of any media type.
        case file
        /// Text of this media type.
        case text(String)
    }

    /// A sentence in the present tense, without the full stop.
    var summary: String
    var query: [Parameter]
    var body: Body?
    var answer: Answer
    /// Failures of its own, beside those that any route has that takes what it takes, each with its reason.
    var failures: [(status: HTTPResponse.Status, reason: String)]

    /// Describes what a route does.
    init(
        _ summary: String,
        query: [Parameter] = [],
        body: Body? = nil,
        answer: Answer = .nothing,
        failures: [(status: HTTPResponse.Status, reason: String)] = []
    ) {
        self.summary = summary
        self.query = query
        self.body = body
        self.answer = answer
        self.failures = failures
    }

    /// Whether all it answers is JSON, so that a client that takes no JSON gets nothing.
    var answersOnlyJSON: Bool {
        if case .json = self.answer { true } else { false }
    }

    /// The schemas that it names.
    var schemas: [Schema] {
        var schemas: [Schema] = []
        switch self.body {
        case .json(let schema)?, .form(let schema)?, .optional(let schema)?: schemas.append(schema)
        case .jsonOrForm(let schema, let form)?: schemas += [schema, form]
        case nil: break
        }
        switch self.answer {
        case .json(let schema), .jsonOrNothing(let schema): schemas.append(schema)
        case .nothing, .file, .text: break
        }
        return schemas
    }
}

extension Operation.Parameter {
    /// A text.
    static func text(_ name: String, _ summary: String, required: Bool = false) -> Self {
        Self(name: name, summary: summary, schema: ["type": "string"], isRequired: required)
    }

    /// A whole number, within a range if it has one.
    static func integer(
        _ name: String,
        _ summary: String,
        in range: ClosedRange<Int64>? = nil,
        required: Bool = false
    ) -> Self {
        Self(name: name, summary: summary, schema: Schema.integer(in: range), isRequired: required)
    }

    /// One of some words.
    static func choice(_ name: String, _ summary: String, of choices: [String], required: Bool = false) -> Self {
        Self(name: name, summary: summary, schema: Schema.choice(of: choices), isRequired: required)
    }

    /// How urgent an assignment is.
    static let priority = integer(
        "priority",
        "How urgent the updates are that this begins; 0 if it is left out",
        in: 0...9
    )

    /// `true` or `false`.
    static func flag(_ name: String, _ summary: String) -> Self {
        Self(name: name, summary: summary, schema: ["type": "boolean"])
    }

    /// An identifier.
    static func id(_ name: String, _ summary: String, required: Bool = false) -> Self {
        Self(name: name, summary: summary, schema: Schema.uuid, isRequired: required)
    }

    /// Names, joined by commas.
    static func list(_ name: String, _ summary: String, required: Bool = false) -> Self {
        Self(name: name, summary: "\(summary); joined by commas", schema: ["type": "string"], isRequired: required)
    }
}

extension [Operation.Parameter] {
    /// What chooses the part of a list.
    ///
    /// - Parameters:
    ///   - properties: The members that entries may be sorted by.
    ///   - isOptional: Whether the path also answers without them.
    /// - Returns: Five parameters.
    static func page(sortedBy properties: [String], isOptional: Bool = false) -> Self {
        [
            .integer("pageSize", "The most entries of a page", in: APIRequest.pageSizes, required: !isOptional),
            .integer("page", "The zero-based number of the page", in: APIRequest.pages, required: !isOptional),
            .text("textSearch", "A text that the name or title has somewhere, compared without case"),
            .choice("sortProperty", "What to sort by; the newest come first if it is left out", of: properties),
            .choice("sortOrder", "Upward, which it is by default, or downward", of: ["ASC", "DESC"]),
        ]
    }
}
