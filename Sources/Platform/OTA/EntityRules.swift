public import NodeKit

/// What is saved, found and removed by an identifier of its own.
public protocol NamedEntity {
    /// What sentences call one, such as `Device profile`.
    static var noun: String { get }
}

extension Tenant: NamedEntity {
    /// `Tenant`.
    public static let noun = "Tenant"
}

extension User: NamedEntity {
    /// `User`.
    public static let noun = "User"
}

extension ApiKey: NamedEntity {
    /// `API key`.
    public static let noun = "API key"
}

extension Device: NamedEntity {
    /// `Device`.
    public static let noun = "Device"
}

extension DeviceProfile: NamedEntity {
    /// `Device profile`.
    public static let noun = "Device profile"
}

extension OtaPackage: NamedEntity {
    /// `Ota package`.
    public static let noun = "Ota package"
}

extension PersistentCallEntity: NamedEntity {
    /// `Rpc`.
    public static let noun = "Rpc"
}

/// The rules that entities of all kinds have in common, with the sentences that ThingsBoard's REST API answers when one is broken.
///
/// Clients and people know the sentences, so they are kept word for word. A store gathers what decides within the transaction that
/// writes the outcome, and asks. Broken rules are ``NodeError/Code/badRequest``, missing entities ``NodeError/Code/notFound``.
public enum EntityRules {
    /// The most characters of a name, and of any other text that has no limit of its own.
    public static let textLengthMax = 255

    /// The error of an identifier that nothing has.
    public static func missing<Entity: NamedEntity>(_ id: EntityID<Entity>) -> NodeError {
        NodeError(.notFound, "\(Entity.noun) with id [\(id)] is not found")
    }

    /// What was looked up by an identifier.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/notFound`` if there is nothing.
    public static func found<Value, Entity: NamedEntity>(
        _ value: Value?,
        _ id: EntityID<Entity>
    ) throws(NodeError) -> Value {
        guard let value else { throw Self.missing(id) }
        return value
    }

    /// Checks that a text is given, and does not only consist of white space.
    ///
    /// - Parameters:
    ///   - text: The text.
    ///   - what: What it is, such as `Device name`.
    ///   - isBlankEnough: Whether white space is enough, as for the texts of packages.
    /// - Throws: ``NodeError`` if it is not.
    public static func checkGiven(
        _ text: String?,
        _ what: String,
        isBlankEnough: Bool = false
    ) throws(NodeError) {
        let isGiven = text.map { isBlankEnough ? !$0.isEmpty : !$0.allSatisfy(\.isWhitespace) } ?? false
        guard isGiven else { throw Self.broken("\(what) should be specified!") }
    }

    /// Checks that a text has at most so many characters.
    ///
    /// - Parameters:
    ///   - text: The text.
    ///   - name: The name of its member, such as `label`.
    ///   - max: The most Unicode scalars, which are what databases count as characters.
    /// - Throws: ``NodeError`` if it is longer.
    public static func checkLength(
        _ text: String?,
        of name: String,
        max: Int = Self.textLengthMax
    ) throws(NodeError) {
        guard let text, text.utf8.count > max, text.unicodeScalars.count > max else { return }
        throw Self.broken("\(name) length must be equal or less than \(max)")
    }

    /// Checks that no other entity has what only one may have.
    ///
    /// - Parameters:
    ///   - what: What that is, such as `Device with such name`.
    ///   - isTaken: Whether another has it.
    /// - Throws: ``NodeError`` if another has it.
    public static func checkUnique(_ what: String, isTaken: Bool) throws(NodeError) {
        guard !isTaken else { throw Self.broken("\(what) already exists!") }
    }

    /// Checks that an entity refers to one that exists.
    ///
    /// - Parameters:
    ///   - noun: What refers, such as `Device`.
    ///   - what: What it refers to, such as `device profile`.
    ///   - exists: Whether that exists and is of the same tenant.
    /// - Throws: ``NodeError`` if it does not.
    public static func checkReference(from noun: String, to what: String, exists: Bool) throws(NodeError) {
        guard exists else { throw Self.broken("\(noun) is referencing to non-existent \(what)!") }
    }

    /// Checks that an entity that is to be removed is not used.
    ///
    /// - Parameters:
    ///   - what: What is removed, such as `device profile`.
    ///   - users: What may use it, such as `devices`.
    ///   - isUsed: Whether any of these does.
    /// - Throws: ``NodeError`` if it is used.
    public static func checkUnused(_ what: String, by users: String, isUsed: Bool) throws(NodeError) {
        guard !isUsed else { throw Self.broken("The \(what) referenced by the \(users) cannot be deleted!") }
    }

    /// The error of a broken rule.
    static func broken(_ sentence: String) -> NodeError { NodeError(.badRequest, sentence) }
}
