public import FoundationEssentials
public import NIOCore
import Synchronization

/// What moves along a chain: who it is from, what kind it is, what is known about it, and its data.
///
/// A value: a fan-out gives every branch its own. All of it is in one box that copies share until one of them changes, as a
/// message is passed on at every node and changed at few.
public struct Message: Sendable {
    @usableFromInline struct Content {
        @usableFromInline var originator: Originator
        @usableFromInline var type: MessageType
        @usableFromInline var metadata: Metadata
        @usableFromInline var data: MessageData
        @usableFromInline var reply: Reply?
        @usableFromInline var timestamp: Timestamp
        @usableFromInline var session: SessionNumber?
        @usableFromInline var precedence: Precedence?
        @usableFromInline var attachments: [any MessageAttachment] = []
    }

    /// `@unchecked`: the content changes only while a single message has the box.
    @usableFromInline final class Box: @unchecked Sendable {
        @usableFromInline var content: Content

        init(_ content: Content) { self.content = content }
    }

    // Can be inlined, so that a node that looks at a part of the metadata need not copy all of it.

    @usableFromInline var box: Box

    /// Who the message is about: the device that sent it or that it is for.
    public var originator: Originator {
        @inlinable get { self.box.content.originator }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.originator
        }
    }
    /// What kind of message it is.
    public var type: MessageType {
        @inlinable get { self.box.content.type }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.type
        }
    }
    /// What is known about the message beside its data.
    public var metadata: Metadata {
        @inlinable get { self.box.content.metadata }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.metadata
        }
    }
    /// What the message carries.
    public var data: MessageData {
        @inlinable get { self.box.content.data }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.data
        }
    }
    /// What the peer that waits for an answer gets.
    ///
    /// The first answer set on any branch counts.
    public var reply: Reply? {
        @inlinable get { self.box.content.reply }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.reply
        }
    }
    /// Whether there is an answer, which is large to copy.
    package var hasReply: Bool { self.box.content.reply != nil }
    /// When the message came in.
    public var timestamp: Timestamp {
        @inlinable get { self.box.content.timestamp }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.timestamp
        }
    }

    /// The session that the message came over; `nil` over transports without sessions, and for a message that was stored.
    public var session: SessionNumber? {
        @inlinable get { self.box.content.session }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.session
        }
    }

    /// Where the message stands among others that wait with it; `nil` for one of which each matters, in the order in which they came.
    public var precedence: Precedence? {
        @inlinable get { self.box.content.precedence }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.precedence
        }
    }

    /// Makes a message.
    public init(
        originator: Originator,
        type: MessageType,
        metadata: Metadata = [:],
        data: MessageData = .none,
        timestamp: Timestamp,
        session: SessionNumber? = nil
    ) {
        self.box = Box(
            Content(
                originator: originator,
                type: type,
                metadata: metadata,
                data: data,
                timestamp: timestamp,
                session: session
            )
        )
    }

    @usableFromInline mutating func makeUnique() {
        if !isKnownUniquelyReferenced(&self.box) { self.box = Box(self.box.content) }
    }

    /// The message with this answer for the peer.
    @inlinable
    public consuming func replying(_ reply: Reply) -> Message {
        self.reply = reply
        return self
    }

    /// The attachment of this type that a node before this one left, if any.
    ///
    /// Attachments do not outlive the process: a message that was stored and came back has none.
    @inlinable
    public func attachment<Attachment: MessageAttachment>(_ type: Attachment.Type = Attachment.self) -> Attachment? {
        for attachment in self.attachments {
            if let attachment = attachment as? Attachment { return attachment }
        }
        return nil
    }

    /// Leaves an attachment for the nodes after this one, in place of one of the same type.
    @inlinable
    public mutating func attach<Attachment: MessageAttachment>(_ attachment: Attachment) {
        self.attachments.removeAll { $0 is Attachment }
        self.attachments.append(attachment)
    }

    @usableFromInline var attachments: [any MessageAttachment] {
        @inlinable get { self.box.content.attachments }
        @inlinable _modify {
            self.makeUnique()
            yield &self.box.content.attachments
        }
    }

    /// The value of a variable in a condition: `type`, `originator` (the identifier), `deviceName`, `deviceType`, then
    /// metadata, attachments and the data's own members, in this order; `nil` if nothing has this name.
    ///
    /// Of telemetry in ThingsBoard's array form the last element that has the key counts.
    public func value(forVariable name: String) -> JSON? {
        switch name {
        case "type": return .string(self.type.rawValue)
        case "originator": return .string(self.originator.id.uuidString.lowercased())
        case "deviceName": return .string(self.originator.name)
        case "deviceType": return .string(self.originator.type)
        default: break
        }
        if let value = self.metadata[name] { return value }
        for attachment in self.box.content.attachments {
            if let value = attachment.value(forVariable: name) { return value }
        }
        guard case .json(let data) = self.data else { return nil }
        return data.telemetryValue(forKey: name)
    }
}

/// Something of a plugin's or the domain's own that travels with a message inside the process.
public protocol MessageAttachment: Sendable {
    /// The value of a variable that the attachment provides to conditions; `nil` if it does not know the name.
    func value(forVariable name: String) -> JSON?
}

extension MessageAttachment {
    /// Provides no variable.
    public func value(forVariable name: String) -> JSON? { nil }
}

/// One session of a device, such as an MQTT connection; never the same twice while the process runs.
public struct SessionNumber: Sendable, Hashable {
    private static let newest = Atomic<UInt64>(0)
    private let value: UInt64

    /// Makes the number of a new session.
    public init() { self.value = Self.newest.add(1, ordering: .relaxed).newValue }
}

/// Who a message is about.
public struct Originator: Sendable, Hashable {
    /// The entity's identifier.
    public var id: UUID
    /// The entity's name, for people.
    @ExactText public var name: String
    /// The name of the device's profile (ThingsBoard's `deviceType`).
    @ExactText public var type: String

    /// Makes an originator.
    public init(id: UUID, name: String, type: String) {
        self.id = id
        self.name = name
        self.type = type
    }

    /// Somebody who is no device yet, or not known to be one, under the name that it gives itself.
    ///
    /// Its identifier is the zero UUID, which no entity has.
    public static func unknown(name: String) -> Originator {
        Originator(id: Self.noEntity, name: name, type: "")
    }

    /// Whether this is no entity; see ``unknown(name:)``.
    public var isUnknown: Bool { self.id == Self.noEntity }

    private static let noEntity = UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
}

/// What kind of message it is, in the style of ThingsBoard's `TbMsgType`.
public struct MessageType: RawRepresentable, Hashable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// The type as a chain file writes it.
    public let rawValue: String
    /// Makes a type of a plugin's own.
    public init(rawValue: String) { self.rawValue = rawValue }
    /// Makes a type from a literal.
    public init(stringLiteral value: String) { self.rawValue = value }
    /// The type as a chain file writes it.
    public var description: String { self.rawValue }

    /// A device reports time series.
    public static let postTelemetryRequest: Self = "POST_TELEMETRY_REQUEST"
    /// A device reports client attributes.
    public static let postAttributesRequest: Self = "POST_ATTRIBUTES_REQUEST"
    /// A device asks for client and shared attributes.
    public static let getAttributesRequest: Self = "GET_ATTRIBUTES_REQUEST"
    /// A device calls a method of the server.
    public static let toServerRPCRequest: Self = "TO_SERVER_RPC_REQUEST"
    /// A device answers a call of the server.
    public static let toServerRPCResponse: Self = "TO_SERVER_RPC_RESPONSE"
    /// The server calls a method of a device.
    public static let rpcCallFromServerToDevice: Self = "RPC_CALL_FROM_SERVER_TO_DEVICE"
    /// Somebody who is no device yet asks to become one.
    public static let provisionRequest: Self = "PROVISION_REQUEST"
    /// Somebody became a device.
    public static let provisionSuccess: Self = "PROVISION_SUCCESS"
    /// Somebody was refused who wanted to become a device.
    public static let provisionFailure: Self = "PROVISION_FAILURE"
    /// A device tells that it may be claimed.
    public static let claimRequest: Self = "CLAIM_REQUEST"
    /// A session of a device began.
    public static let connectEvent: Self = "CONNECT_EVENT"
    /// A session of a device ended.
    public static let disconnectEvent: Self = "DISCONNECT_EVENT"
    /// A device that was silent is heard of again.
    public static let activityEvent: Self = "ACTIVITY_EVENT"
    /// Nothing was heard of a device for so long that it counts as inactive.
    public static let inactivityEvent: Self = "INACTIVITY_EVENT"
}

/// What a message carries.
public enum MessageData: Sendable, Hashable {
    /// Nothing.
    case none
    /// A JSON value, already checked.
    case json(JSON)
    /// Bytes that the host does not look into.
    case bytes(ByteBuffer)
}

/// What is known about a message beside its data.
///
/// Few, small, named values. Names are unique; order is kept.
public struct Metadata: Sendable, Hashable, ExpressibleByDictionaryLiteral {
    private var values: JSON.Object

    /// Makes metadata from a literal.
    public init(dictionaryLiteral elements: (String, JSON)...) { self.values = JSON.Object(elements) }
    /// Makes metadata of the members of an object.
    public init(_ values: JSON.Object) { self.values = values }

    /// The value with this name; setting `nil` removes it.
    public subscript(name: String) -> JSON? {
        get { self.values[name] }
        set { self.values[name] = newValue }
    }

    /// The value as text, if there is one.
    public func string(_ name: String) -> String? { self.values[name]?.text }

    /// The value as an integer, if it is one or is written as one.
    public func integer(_ name: String) -> Int64? {
        switch self.values[name] {
        case .integer(let value): value
        case .string(let text): Int64(text)
        default: nil
        }
    }

    /// All values as one object, as stored with a message that waits.
    public var object: JSON.Object { self.values }
}

/// A point in time: milliseconds since 1970-01-01 UTC, as ThingsBoard's `ts`.
public struct Timestamp: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Milliseconds since 1970-01-01 UTC.
    public var rawValue: Int64
    /// Makes a time from milliseconds since 1970-01-01 UTC.
    public init(rawValue: Int64) { self.rawValue = rawValue }
    /// Makes a time from milliseconds since 1970-01-01 UTC.
    public init(milliseconds: Int64) { self.rawValue = milliseconds }
    /// The time by the system's clock.
    public static var now: Timestamp { Timestamp(milliseconds: Int64(Date().timeIntervalSince1970 * 1000)) }
    /// The time so much later, in whole milliseconds; the last one there is if it would be later, as a device may send any time.
    public func adding(_ duration: Duration) -> Timestamp {
        let (seconds, attoseconds) = duration.components
        let milliseconds = seconds * 1000 + attoseconds / 1_000_000_000_000_000
        let (time, isBeyond) = self.rawValue.addingReportingOverflow(milliseconds)
        return Timestamp(milliseconds: isBeyond ? (milliseconds > 0 ? .max : .min) : time)
    }
    /// How long it is from this time to another; negative if that is earlier.
    public func duration(to other: Timestamp) -> Duration { .milliseconds(other.rawValue - self.rawValue) }
    /// The earlier time is less.
    public static func < (a: Timestamp, b: Timestamp) -> Bool { a.rawValue < b.rawValue }
    /// Milliseconds since 1970-01-01 UTC, in digits.
    public var description: String { String(self.rawValue) }
}
