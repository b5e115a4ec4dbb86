public import NIOCore
public import NodeKit
public import OTA

/// The device API of ThingsBoard without a transport: makes the messages of devices from the parts of their requests, and says
/// what a device reads of an answer or an error.
///
/// A transport translates and nothing else: the path, topic or options of a request to the parts, and the code of a
/// ``NodeError`` to its own status. Every fault has one code and one sentence here, whatever the transport.
///
/// | Request                      | Message                                                           | Empty body  |
/// |------------------------------|-------------------------------------------------------------------|-------------|
/// | ``telemetry(_:from:)``       | `POST_TELEMETRY_REQUEST`                                          | refused     |
/// | ``attributes(_:from:)``      | `POST_ATTRIBUTES_REQUEST`                                         | refused     |
/// | ``attributeRequest(_:from:)``| `GET_ATTRIBUTES_REQUEST`                                          | all of both |
/// | ``serverCall(_:id:from:)``   | `TO_SERVER_RPC_REQUEST`; without `params` the data is `null`      | refused     |
/// | ``callAnswer(_:id:from:)``   | `TO_SERVER_RPC_RESPONSE`                                          | `null`      |
/// | ``claim(_:from:)``           | `CLAIM_REQUEST`                                                   | `{}`        |
/// | ``provisioning(_:at:)``      | `PROVISION_REQUEST`                                               | refused     |
/// | ``packageInfo(_:from:)``     | `PACKAGE_INFO_REQUEST`                                            |             |
/// | ``package(_:from:)``         | `PACKAGE_CHUNK_REQUEST`; ``PackageDownload`` for chunks in a row  |             |
///
/// A value without state, safe on any thread; nothing here waits. Messages without details of their own share their metadata.
public struct DeviceProtocol: Sendable {
    /// Who sent a request, and when it came.
    public struct Sender: Sendable {
        /// The device.
        public var device: Originator
        /// When the request came.
        public var time: Timestamp
        /// The session that it came over; `nil` over transports without sessions.
        public var session: SessionNumber?

        /// Names a device and a time.
        @inlinable
        public init(_ device: Originator, at time: Timestamp, session: SessionNumber? = nil) {
            self.device = device
            self.time = time
            self.session = session
        }
    }

    /// What requests for one kind of package have in common.
    private struct PackageMetadata: Sendable {
        var info: Metadata
        var whole: Metadata

        init(_ transport: JSON, _ type: OtaPackageType) {
            self.info = [MessageKey.transport: transport, MessageKey.packageType: .string(type.rawValue)]
            self.whole = self.info
            self.whole[MessageKey.chunk] = 0
            self.whole[MessageKey.size] = 0
        }
    }

    private let plain: Metadata
    private let firmware: PackageMetadata
    private let software: PackageMetadata

    /// The device API over one transport.
    ///
    /// - Parameter transport: `http`, `mqtt` or `coap`; what messages have as ``MessageKey/transport``.
    public init(transport: String) {
        let transport = JSON.string(transport)
        self.plain = [MessageKey.transport: transport]
        self.firmware = PackageMetadata(transport, .firmware)
        self.software = PackageMetadata(transport, .software)
    }

    // MARK: Reports

    /// The device reports time series.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the body is not telemetry; see
    ///   ``JSON/requireTelemetry()``.
    public func telemetry(_ body: ByteBuffer, from sender: Sender) throws(NodeError) -> Message {
        let data = try Self.json(body)
        try data.requireTelemetry()
        return self.message(.postTelemetryRequest, .json(data), sender)
    }

    /// The device reports client attributes.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the body is not a JSON object.
    public func attributes(_ body: ByteBuffer, from sender: Sender) throws(NodeError) -> Message {
        let data = try Self.object(try Self.json(body), "attributes")
        return self.message(.postAttributesRequest, .json(data), sender)
    }

    /// The device says that a customer may claim it.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if there is a body that is not a JSON object.
    public func claim(_ body: ByteBuffer, from sender: Sender) throws(NodeError) -> Message {
        // All members of a claim have defaults.
        let data = try Self.object(try Self.jsonIfAny(body) ?? [:], "a claim")
        return self.message(.claimRequest, .json(data), sender)
    }

    // MARK: Attribute requests

    /// The device asks for attributes.
    ///
    /// - Parameters:
    ///   - clientKeys: Names of client attributes, joined by commas; `nil` or empty if the device names none.
    ///   - sharedKeys: Names of shared attributes, likewise.
    ///   - sender: Who asks.
    /// - Returns: A message that asks for all of both if neither names any.
    public func attributeRequest(clientKeys: String?, sharedKeys: String?, from sender: Sender) -> Message {
        var metadata = self.plain
        if let clientKeys, !clientKeys.isEmpty { metadata[MessageKey.clientKeys] = .string(clientKeys) }
        if let sharedKeys, !sharedKeys.isEmpty { metadata[MessageKey.sharedKeys] = .string(sharedKeys) }
        return self.message(.getAttributesRequest, .none, sender, metadata)
    }

    /// The device asks for attributes with an object that has the lists of names as members.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if there is a body that is not such an object.
    public func attributeRequest(_ body: ByteBuffer, from sender: Sender) throws(NodeError) -> Message {
        let request = try Self.object(try Self.jsonIfAny(body) ?? [:], "a request for attributes")
        func keys(_ name: String) throws(NodeError) -> String? {
            guard let keys = request[name] else { return nil }
            guard let keys = keys.string else {
                throw NodeError(.badRequest, "'\(name)' must be names joined by commas, in one string")
            }
            return keys
        }
        return self.attributeRequest(
            clientKeys: try keys(MessageKey.clientKeys),
            sharedKeys: try keys(MessageKey.sharedKeys),
            from: sender
        )
    }

    // MARK: Calls

    /// The device calls a method of the server.
    ///
    /// - Parameters:
    ///   - body: A JSON object with `method`, a string, which may be empty, and `params`, any value.
    ///   - id: The identifier that the device gives the call; 0 over transports whose answers need none, as in ThingsBoard.
    ///   - sender: Who calls.
    /// - Returns: A message whose data is `params`, `null` without it.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` for any other body.
    public func serverCall(_ body: ByteBuffer, id: Int64 = 0, from sender: Sender) throws(NodeError) -> Message {
        let call = try Self.json(body)
        guard case .string(let method)? = call["method"] else {
            throw NodeError(.badRequest, "a call must be a JSON object with the string 'method'")
        }
        var metadata = self.plain
        metadata[MessageKey.method] = .string(method)
        metadata[MessageKey.requestId] = .integer(id)
        return self.message(.toServerRPCRequest, .json(call["params"] ?? .null), sender, metadata)
    }

    /// The device answers a call of the server.
    ///
    /// - Parameters:
    ///   - body: Any JSON value; `null` if it is empty.
    ///   - id: The identifier of the call.
    ///   - sender: Who answers.
    /// - Returns: The message.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if there is a body that is not JSON.
    public func callAnswer(_ body: ByteBuffer, id: Int64, from sender: Sender) throws(NodeError) -> Message {
        var metadata = self.plain
        metadata[MessageKey.requestId] = .integer(id)
        return self.message(.toServerRPCResponse, .json(try Self.jsonIfAny(body) ?? .null), sender, metadata)
    }

    // MARK: Provisioning

    /// A client that is not a device yet asks to become one.
    ///
    /// The message is about ``Originator/unknown(name:)``, with the name that the client wants.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if the body is not a JSON object.
    public func provisioning(_ body: ByteBuffer, at time: Timestamp) throws(NodeError) -> Message {
        let data = try Self.object(try Self.json(body), "a provisioning request")
        let name =
            switch data["deviceName"] {
            // An array or an object is for the node to refuse, which reads all members.
            case nil, .null, .array, .object: ""
            case let name?: name.text
            }
        return self.message(.provisionRequest, .json(data), Sender(.unknown(name: name), at: time))
    }

    // MARK: Packages

    /// The device asks what package it should have.
    public func packageInfo(_ type: OtaPackageType, from sender: Sender) -> Message {
        self.message(.packageInfoRequest, .none, sender, self.metadata(of: type).info)
    }

    /// The device asks for bytes of its package.
    public func package(_ request: PackageRequest, from sender: Sender) -> Message {
        var metadata = self.metadata(of: request.type).whole
        if !request.isPlain {
            // One array of the right length: devices that name chunks do so for each of them.
            var members: [(name: String, value: JSON)] = []
            members.reserveCapacity(6)
            members += self.metadata(of: request.type).info.object.members
            if let title = request.title { members.append((MessageKey.title, .string(title))) }
            if let version = request.version { members.append((MessageKey.version, .string(version))) }
            members.append((MessageKey.chunk, .integer(request.chunk)))
            members.append((MessageKey.size, .integer(request.size)))
            metadata = Metadata(JSON.Object(distinct: members))
        }
        return self.message(.packageChunkRequest, .none, sender, metadata)
    }

    /// The device asks for all bytes of a certain package, which a link to it names.
    public func package(_ id: OtaPackageId, of type: OtaPackageType, from sender: Sender) -> Message {
        var metadata = self.metadata(of: type).whole
        metadata[MessageKey.packageId] = .string(id.description)
        return self.message(.packageChunkRequest, .none, sender, metadata)
    }

    /// What a request for a whole package says beside its sender.
    func metadata(ofWhole type: OtaPackageType) -> Metadata { self.metadata(of: type).whole }

    private func metadata(of type: OtaPackageType) -> PackageMetadata {
        switch type {
        case .firmware: self.firmware
        case .software: self.software
        }
    }

    // MARK: Sessions

    /// A session of the device began or ended.
    ///
    /// - Parameters:
    ///   - event: ``MessageType/connectEvent`` or ``MessageType/disconnectEvent``.
    ///   - sender: Whose session.
    /// - Returns: The message, for which nobody waits.
    public func sessionEvent(_ event: MessageType, from sender: Sender) -> Message {
        self.message(event, .json([:]), sender)
    }

    // MARK: Parts

    private func message(_ type: MessageType, _ data: MessageData, _ sender: Sender) -> Message {
        self.message(type, data, sender, self.plain)
    }

    private func message(
        _ type: MessageType,
        _ data: MessageData,
        _ sender: Sender,
        _ metadata: Metadata
    ) -> Message {
        Message(
            originator: sender.device,
            type: type,
            metadata: metadata,
            data: data,
            timestamp: sender.time,
            session: sender.session
        )
    }

    private static func json(_ body: ByteBuffer) throws(NodeError) -> JSON {
        guard let json = try Self.jsonIfAny(body) else {
            throw NodeError(.badRequest, "Required request body is missing")
        }
        return json
    }

    private static func jsonIfAny(_ body: ByteBuffer) throws(NodeError) -> JSON? {
        guard body.readableBytes > 0 else { return nil }
        do {
            return try JSON(parsing: body)
        } catch {
            throw NodeError(unreadable: "the body", error)
        }
    }

    private static func object(_ value: JSON, _ what: String) throws(NodeError) -> JSON {
        guard case .object = value else { throw NodeError(.badRequest, "\(what) must be a JSON object") }
        return value
    }
}
