import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore
import NodeKit
import OTA

/// A request with what its path and its query say, and who sent it.
struct APIRequest: Sendable {
    let request: Request
    /// Values of the path's parameters by name.
    let parameters: [String: String]
    /// Values of the query by name.
    let query: [ExactText: String]
    /// Who sent it; `nil` where no login is needed.
    let session: Session?
    /// What its handler wants the audit log to say.
    let trail = AuditTrail()
    /// The address it came from, without port.
    let remoteAddress: String
    let bodyBytesMax: Int

    /// Who sent it.
    ///
    /// - Throws: ``APIError`` where no login is needed and none was shown.
    func caller() throws -> Session {
        guard let session = self.session else { throw APIError.notAuthenticated }
        return session
    }

    /// The tenant of who sent it, whose entities it is about.
    func tenantId() throws -> TenantId { try self.caller().tenantId }

    /// The body, which may not be longer than the limit for bodies.
    ///
    /// - Throws: ``APIError`` if it is too long or cut off.
    func body() async throws -> ByteBuffer {
        let declared = self.request.headers[.contentLength].flatMap(Int.init)
        let tooLong = APIError(.contentTooLarge, 31, "The body is longer than \(self.bodyBytesMax) bytes")
        if let declared, declared > self.bodyBytesMax { throw tooLong }
        var body = ByteBuffer()
        var parts = self.request.body.makeAsyncIterator()
        while var part = try await parts.nextPiece() {
            guard body.readableBytes + part.readableBytes <= self.bodyBytesMax else { throw tooLong }
            body.writeBuffer(&part)
        }
        if let declared, body.readableBytes < declared { throw APIError.badRequest("The body was cut off") }
        return body
    }

    /// The body as a JSON value, whatever its content type says: clients send JSON as `text/plain` too.
    func json() async throws -> JSON {
        let body = try await self.body()
        guard body.readableBytes > 0 else { throw APIError.badRequest("Required request body is missing") }
        do {
            return try JSON(parsing: body)
        } catch {
            throw NodeError(unreadable: "The request body", error)
        }
    }

    /// The body as a JSON object.
    func object() async throws -> BodyReader {
        guard case .object(let object) = try await self.json() else {
            throw APIError.badRequest("The request body must be a JSON object")
        }
        return BodyReader(object)
    }

    /// The identifier that a parameter of the path is.
    func id<Entity>(_ name: String = "id", of kind: Entity.Type = Entity.self) throws -> EntityID<Entity> {
        try Self.parse(self.parameters[name] ?? "", name)
    }

    static func parse<Entity>(_ text: String, _ name: String) throws -> EntityID<Entity> {
        guard !text.isEmpty else { throw APIError.missing(parameter: name) }
        guard let id = EntityID<Entity>(text) else { throw APIError.badRequest("Invalid UUID string: \(text)") }
        return id
    }

    /// The kind of package that a parameter of the path is, in capitals or not.
    func packageType(_ name: String = "type") throws -> OtaPackageType {
        let text = self.parameters[name] ?? ""
        guard let type = OtaPackageType(rawValue: text.uppercased()) else {
            throw APIError.badRequest("'\(text)' is no package type; it must be FIRMWARE or SOFTWARE")
        }
        return type
    }

    /// A query parameter that is there and not empty.
    func queryText(_ name: String) -> String? {
        guard let text = self.query[name.exact], !text.isEmpty else { return nil }
        return text
    }

    /// A whole number in the query.
    func queryInteger(_ name: String) throws -> Int64? {
        guard let text = self.queryText(name) else { return nil }
        guard let value = Int64(text) else {
            throw APIError.badRequest("Parameter '\(name)' must be a whole number, not '\(text)'")
        }
        return value
    }

    /// How urgent an assignment is, as the query says; 0 if it says nothing.
    func queryPriority() throws -> Int {
        guard let priority = try self.queryInteger("priority") else { return 0 }
        guard let priority = Int(exactly: priority), Precedence.priorities.contains(priority) else {
            throw APIError.badRequest("Parameter 'priority' must be 0 to 9, not '\(priority)'")
        }
        return priority
    }

    /// A truth value in the query.
    func queryBool(_ name: String) throws -> Bool? {
        switch self.queryText(name)?.lowercased() {
        case nil: return nil
        case "true": return true
        case "false": return false
        case let text?: throw APIError.badRequest("Parameter '\(name)' must be true or false, not '\(text)'")
        }
    }

    /// A list in the query whose elements are joined by commas; `nil` if there is none.
    func queryList(_ name: String, max: Int = Self.listMax) throws -> [String]? {
        guard let text = self.queryText(name) else { return nil }
        let elements = text.utf8.split(separator: UInt8(ascii: ",")).map { String(Substring($0)) }
        guard elements.count <= max else {
            throw APIError.badRequest("Parameter '\(name)' has \(elements.count) elements; \(max) are allowed")
        }
        return elements.isEmpty ? nil : elements
    }

    /// The most elements of a list in a query.
    static let listMax = 1000
    /// How many entries a page may have.
    static let pageSizes: ClosedRange<Int64> = 1...1000
    /// The numbers that a page may have.
    static let pages: ClosedRange<Int64> = 0...Int64(Int32.max)

    /// The part of a list that the query asks for.
    func pageLink() throws -> PageLink {
        guard let pageSize = try self.queryInteger("pageSize") else { throw APIError.missing(parameter: "pageSize") }
        guard let page = try self.queryInteger("page") else { throw APIError.missing(parameter: "page") }
        try Self.checkPage(size: pageSize, number: page)
        let sortProperty = self.queryText("sortProperty")
        return PageLink(
            pageSize: Int(pageSize),
            page: Int(page),
            textSearch: self.queryText("textSearch"),
            sortProperty: sortProperty,
            // As in ThingsBoard, upward if only the property is told; without one the newest come first.
            ascending: try self.isAscending("sortOrder") ?? (sortProperty != nil)
        )
    }

    /// Which way a parameter says to sort, if it says so.
    func isAscending(_ name: String) throws -> Bool? {
        switch self.queryText(name)?.uppercased() {
        case nil: return nil
        case "ASC": return true
        case "DESC": return false
        case let text?:
            throw APIError.badRequest("Unsupported sort order '\(text)'! Only 'ASC' or 'DESC' types are allowed.")
        }
    }

    /// Refuses a page that is none, in the words of ThingsBoard.
    static func checkPage(size: Int64, number: Int64) throws {
        for (name, value, range) in [("page size", size, Self.pageSizes), ("page", number, Self.pages)]
        where !range.contains(value) {
            throw APIError.badRequest(
                "Incorrect page link \(name) '\(value)'. It must be between \(range.lowerBound) and \(range.upperBound)."
            )
        }
    }
}

/// Reads members of a body, which may be absent or `null` alike.
struct BodyReader {
    let object: JSON.Object

    init(_ object: JSON.Object) { self.object = object }

    /// The value of a member; `nil` if it is absent or `null`.
    subscript(name: String) -> JSON? {
        guard let value = self.object[name], !value.isNull else { return nil }
        return value
    }

    func string(_ name: String) throws -> String? {
        switch self[name] {
        case nil: return nil
        case .string(let text): return text
        case let value?: throw APIError.badRequest("'\(name)' must be a string, not \(value.kind)")
        }
    }

    func bool(_ name: String) throws -> Bool? {
        switch self[name] {
        case nil: return nil
        case .bool(let value): return value
        case let value?: throw APIError.badRequest("'\(name)' must be true or false, not \(value.kind)")
        }
    }

    func integer(_ name: String) throws -> Int64? {
        switch self[name] {
        case nil: return nil
        case .integer(let value): return value
        case let value?: throw APIError.badRequest("'\(name)' must be a whole number, not \(value.kind)")
        }
    }

    /// The object that a member is.
    func nested(_ name: String) throws -> BodyReader? {
        switch self[name] {
        case nil: return nil
        case .object(let object): return BodyReader(object)
        case let value?: throw APIError.badRequest("'\(name)' must be an object, not \(value.kind)")
        }
    }

    /// An identifier, written as `{"entityType":…,"id":…}` or as its text.
    func id<Entity>(_ name: String, of kind: Entity.Type = Entity.self) throws -> EntityID<Entity>? {
        switch self[name] {
        case nil: return nil
        case .string(let text): return try APIRequest.parse(text, name)
        case .object(let object):
            guard let text = try BodyReader(object).string("id") else { return nil }
            return try APIRequest.parse(text, name)
        case let value?: throw APIError.badRequest("'\(name)' must be an identifier, not \(value.kind)")
        }
    }
}

extension JSON {
    /// What kind of value this is, for people.
    fileprivate var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a truth value"
        case .integer, .double: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }
}

extension RequestBody.AsyncIterator {
    /// The next piece of a body.
    ///
    /// - Throws: ``APIError`` if the peer left in the middle, which is no fault of the host.
    @concurrent mutating func nextPiece() async throws -> ByteBuffer? {
        do {
            return try await self.next()
        } catch let error where !(error is CancellationError) {
            throw APIError.badRequest("The body was cut off")
        }
    }
}
