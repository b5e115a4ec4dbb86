import NIOCore

/// The properties of a packet of MQTT 5 (§2.2.2), in the order they were written.
struct Properties: Hashable, Sendable, ExpressibleByArrayLiteral {
    /// The properties that exist, by their identifier.
    enum Identifier: UInt8, Sendable {
        case payloadFormatIndicator = 0x01
        case messageExpiryInterval = 0x02
        case contentType = 0x03
        case responseTopic = 0x08
        case correlationData = 0x09
        case subscriptionIdentifier = 0x0B
        case sessionExpiryInterval = 0x11
        case assignedClientIdentifier = 0x12
        case serverKeepAlive = 0x13
        case authenticationMethod = 0x15
        case authenticationData = 0x16
        case requestProblemInformation = 0x17
        case willDelayInterval = 0x18
        case requestResponseInformation = 0x19
        case responseInformation = 0x1A
        case serverReference = 0x1C
        case reasonString = 0x1F
        case receiveMaximum = 0x21
        case topicAliasMaximum = 0x22
        case topicAlias = 0x23
        case maximumQoS = 0x24
        case retainAvailable = 0x25
        case userProperty = 0x26
        case maximumPacketSize = 0x27
        case wildcardSubscriptionAvailable = 0x28
        case subscriptionIdentifierAvailable = 0x29
        case sharedSubscriptionAvailable = 0x2A
    }

    /// A property's value, in the form that its identifier prescribes.
    enum Value: Hashable, Sendable {
        case byte(UInt8)
        case twoBytes(UInt16)
        case fourBytes(UInt32)
        case variable(Int)
        case text(String)
        case binary(ByteBuffer)
        case pair(String, String)
    }

    /// One property.
    struct Property: Hashable, Sendable {
        var identifier: Identifier
        var value: Value
    }

    private(set) var values: [Property]

    /// No properties, as nearly every packet has.
    init() { self.values = [] }

    init(arrayLiteral elements: (Identifier, Value)...) {
        self.values = elements.map { Property(identifier: $0.0, value: $0.1) }
    }

    init(_ values: [Property]) { self.values = values }

    /// The longest reason string, in bytes; the rest of a longer one is left out.
    static let reasonBytesMax = 255

    /// A reason string alone: words for people (MQTT 5 §4.13.2).
    static func reason(_ text: String) -> Self {
        [(.reasonString, .text(String(decoding: text.utf8.prefix(Self.reasonBytesMax), as: UTF8.self)))]
    }

    var isEmpty: Bool { self.values.isEmpty }

    mutating func append(_ identifier: Identifier, _ value: Value) {
        self.values.append(Property(identifier: identifier, value: value))
    }

    /// The value of the first property with this identifier.
    subscript(identifier: Identifier) -> Value? { self.values.first { $0.identifier == identifier }?.value }

    /// The value of a property that is a number of any size.
    func number(_ identifier: Identifier) -> Int? {
        switch self[identifier] {
        case .byte(let value): Int(value)
        case .twoBytes(let value): Int(value)
        case .fourBytes(let value): Int(value)
        case .variable(let value): value
        default: nil
        }
    }
}

extension Properties {
    /// Reads the properties of one packet.
    ///
    /// - Parameters:
    ///   - buffer: The rest of the packet.
    ///   - owner: The packet, which decides what properties it may have.
    /// - Returns: The properties, checked.
    /// - Throws: ``PacketError`` if they are malformed, do not belong to the packet, or are there twice.
    static func read(from buffer: inout ByteBuffer, of owner: Owner) throws(PacketError) -> Properties {
        guard let length = try buffer.readVariableByteInteger(), var bytes = buffer.readSlice(length: length) else {
            throw .malformed("the packet ends before its properties")
        }
        var properties = Properties()
        while bytes.readableBytes > 0 {
            let number: UInt8 = try bytes.readNumber("property")
            guard let identifier = Identifier(rawValue: number) else {
                throw .malformed("there is no property \(number)")
            }
            guard identifier.owners.contains(owner) else {
                throw PacketError(.protocolError, "the property \(identifier) does not belong here")
            }
            guard properties[identifier] == nil || identifier.mayRepeat(in: owner) else {
                throw PacketError(.protocolError, "the property \(identifier) is there twice")
            }
            let value = try identifier.readValue(from: &bytes)
            try identifier.check(value)
            properties.append(identifier, value)
        }
        return properties
    }

    func write(into buffer: inout ByteBuffer) {
        guard !self.isEmpty else {
            buffer.writeInteger(UInt8(0))
            return
        }
        var bytes = ByteBuffer()
        for property in self.values {
            bytes.writeInteger(property.identifier.rawValue)
            switch property.value {
            case .byte(let value): bytes.writeInteger(value)
            case .twoBytes(let value): bytes.writeInteger(value)
            case .fourBytes(let value): bytes.writeInteger(value)
            case .variable(let value): bytes.writeVariableByteInteger(value)
            case .text(let value): bytes.writeText(value)
            case .binary(let value): bytes.writeBinary(value)
            case .pair(let name, let value):
                bytes.writeText(name)
                bytes.writeText(value)
            }
        }
        buffer.writeVariableByteInteger(bytes.readableBytes)
        buffer.writeBuffer(&bytes)
    }

    /// What properties belong to.
    struct Owner: OptionSet, Sendable {
        let rawValue: UInt16
        static let connect = Self(rawValue: 1 << 0)
        static let will = Self(rawValue: 1 << 1)
        static let connack = Self(rawValue: 1 << 2)
        static let publish = Self(rawValue: 1 << 3)
        /// PUBACK, PUBREC, PUBREL and PUBCOMP.
        static let acknowledgement = Self(rawValue: 1 << 4)
        static let subscribe = Self(rawValue: 1 << 5)
        /// SUBACK and UNSUBACK.
        static let subscriptionAnswer = Self(rawValue: 1 << 6)
        static let unsubscribe = Self(rawValue: 1 << 7)
        static let disconnect = Self(rawValue: 1 << 8)
        static let auth = Self(rawValue: 1 << 9)
        static let any = Self(rawValue: 0xFFFF)
    }
}

extension Properties.Identifier {
    /// Which packets may have the property (MQTT 5 table 2-4).
    var owners: Properties.Owner {
        switch self {
        case .payloadFormatIndicator, .messageExpiryInterval, .contentType, .responseTopic, .correlationData:
            [.publish, .will]
        case .subscriptionIdentifier: [.publish, .subscribe]
        case .sessionExpiryInterval: [.connect, .connack, .disconnect]
        case .assignedClientIdentifier, .serverKeepAlive, .responseInformation, .maximumQoS, .retainAvailable,
            .wildcardSubscriptionAvailable, .subscriptionIdentifierAvailable, .sharedSubscriptionAvailable:
            [.connack]
        case .authenticationMethod, .authenticationData: [.connect, .connack, .auth]
        case .requestProblemInformation, .requestResponseInformation: [.connect]
        case .willDelayInterval: [.will]
        case .serverReference: [.connack, .disconnect]
        case .reasonString: [.connack, .acknowledgement, .subscriptionAnswer, .disconnect, .auth]
        case .receiveMaximum, .topicAliasMaximum, .maximumPacketSize: [.connect, .connack]
        case .topicAlias: [.publish]
        case .userProperty: .any
        }
    }

    /// Whether a packet may have the property more than once.
    func mayRepeat(in owner: Properties.Owner) -> Bool {
        self == .userProperty || (self == .subscriptionIdentifier && owner == .publish)
    }

    func readValue(from bytes: inout ByteBuffer) throws(PacketError) -> Properties.Value {
        switch self {
        case .payloadFormatIndicator, .requestProblemInformation, .requestResponseInformation, .maximumQoS,
            .retainAvailable, .wildcardSubscriptionAvailable, .subscriptionIdentifierAvailable,
            .sharedSubscriptionAvailable:
            return .byte(try bytes.readNumber("property"))
        case .serverKeepAlive, .receiveMaximum, .topicAliasMaximum, .topicAlias:
            return .twoBytes(try bytes.readNumber("property"))
        case .messageExpiryInterval, .sessionExpiryInterval, .willDelayInterval, .maximumPacketSize:
            return .fourBytes(try bytes.readNumber("property"))
        case .subscriptionIdentifier:
            guard let value = try bytes.readVariableByteInteger() else {
                throw .malformed("the packet ends before its subscription identifier")
            }
            return .variable(value)
        case .contentType, .responseTopic, .assignedClientIdentifier, .authenticationMethod, .responseInformation,
            .serverReference, .reasonString:
            return .text(try bytes.readText("property"))
        case .correlationData, .authenticationData:
            return .binary(try bytes.readBinary("property"))
        case .userProperty:
            let name = try bytes.readText("property")
            return .pair(name, try bytes.readText("property"))
        }
    }

    /// Refuses values that MQTT 5 calls a protocol error wherever they stand.
    func check(_ value: Properties.Value) throws(PacketError) {
        switch (self, value) {
        case (.receiveMaximum, .twoBytes(0)), (.maximumPacketSize, .fourBytes(0)),
            (.subscriptionIdentifier, .variable(0)):
            throw PacketError(.protocolError, "the property \(self) is 0")
        case (_, .byte(let byte)) where byte > 1:
            throw PacketError(.protocolError, "the property \(self) is neither 0 nor 1")
        default: break
        }
    }
}
