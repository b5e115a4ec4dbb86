public import NodeKit

/// What a device reads of answers and errors, the same over all transports.
extension DeviceProtocol {
    /// What a device waits for when it has sent something.
    public enum Wish: Hashable, Sendable {
        /// That a report is stored, or an answer taken.
        case acknowledgement
        /// Its attributes.
        case attributes
        /// The result of a call of the server.
        case call
        /// That it can be claimed.
        case claim
        /// To become a device.
        case identity
        /// What package it should have.
        case packageInfo
        /// Bytes of a package.
        case package
    }

    /// What a device gets.
    public enum Answer: Sendable {
        /// Done, nothing to send.
        case empty
        /// A JSON value.
        case json(JSON)
        /// Bytes of a package.
        case content(ContentReply)
    }

    /// What answers a request, by what became of its message in the chain.
    ///
    /// - Parameters:
    ///   - outcome: What the chain says.
    ///   - wish: What the device waits for.
    /// - Returns: The answer; JSON for ``Wish/attributes`` and ``Wish/identity``, content for ``Wish/package``. Attributes are
    ///   `{}` if the chain says nothing.
    /// - Throws: ``NodeError``: what the chain refused or failed with; ``NodeError/Code/notFound`` if it does not answer a
    ///   request that wants more than an acknowledgement; ``NodeError/Code/internalError`` if it answers with bytes where
    ///   there is no place for them. Tell the device ``told(_:)``.
    public static func answer(_ outcome: Outcome, to wish: Wish) throws(NodeError) -> Answer {
        let reply: Reply?
        switch outcome {
        case .failed(let error), .completed(.refused(let error)): throw error
        case .completed(let answered): reply = answered
        // Of messages that wait, which those of devices do not.
        case .later, .superseded, .ended: reply = nil
        }
        switch (reply, wish) {
        case (.content(let content), .package), (.content(let content), .acknowledgement): return .content(content)
        case (.content, _):
            throw NodeError(.internalError, "the chain answered with bytes of a package where it must not")
        case (_, .package): throw Self.unanswered("has a package for this device")
        case (.json(let value), _): return .json(value)
        case (_, .acknowledgement): return .empty
        case (_, .attributes): return .json([:])
        case (_, .identity): throw Self.unanswered("provisions devices")
        case (.empty, .call), (.empty, .claim), (.empty, .packageInfo): return .empty
        case (_, .call): throw Self.unanswered("answers this method")
        case (_, .claim): throw Self.unanswered("takes claims")
        case (_, .packageInfo): throw Self.unanswered("has a package for this device")
        }
    }

    /// What answers a request with JSON: as ``answer(_:to:)``, with `{}` for nothing to send.
    public static func json(_ outcome: Outcome, to wish: Wish) throws(NodeError) -> JSON {
        guard case .json(let value) = try Self.answer(outcome, to: wish) else { return [:] }
        return value
    }

    /// What answers a request for bytes of a package, as ``answer(_:to:)``.
    public static func content(_ outcome: Outcome) throws(NodeError) -> ContentReply {
        guard case .content(let content) = try Self.answer(outcome, to: .package) else {
            throw Self.unanswered("has a package for this device")
        }
        return content
    }

    private static func unanswered(_ what: String) -> NodeError {
        NodeError(.notFound, "no node of the chain \(what)")
    }

    /// An error as a device is told it.
    ///
    /// What is the device's doing, or passes, is told as it is. Of the host's own faults a device learns no more than that:
    /// their sentences are for the operator's log, and may name what is inside.
    public static func told(_ error: NodeError) -> NodeError {
        switch error.code {
        case .badRequest, .unauthorized, .forbidden, .notFound, .conflict, .tooLarge, .tooManyRequests, .unavailable,
            .timedOut:
            error
        case .storageFull: NodeError(.storageFull, "there is no room to store it")
        default: NodeError(.internalError, "Internal Server Error")
        }
    }

    // MARK: Faults before a message is made

    /// A path or topic leads nowhere.
    public static let unknownResource = NodeError(.notFound, "this path or topic is not part of the device API")
    /// No device has the access token of a request.
    public static let unknownToken = NodeError(.unauthorized, "no device has this access token")
    /// A device sends more requests in a second than `device-requests-per-second-max` allows.
    public static let tooManyRequests = NodeError(
        .tooManyRequests,
        "the device sends more requests in a second than it may"
    )
    /// More requests of devices wait for news than are allowed.
    public static let tooManyWaiting = NodeError(.tooManyRequests, "too many requests of the device wait for news")
    /// A device that has credentials asks to become one.
    public static let alreadyProvisioned = NodeError(
        .conflict,
        "a device that has credentials is provisioned already"
    )
    /// A message of a gateway's comes from another device.
    public static let notAGateway = NodeError(.forbidden, "the device is not a gateway")
    /// A message is in protobuf.
    public static let protobuf = NodeError(.badRequest, "protobuf is not supported; send JSON")
    /// A link to a package is not one of the host's, or has expired.
    public static let deadLink = NodeError(.forbidden, "the link is not of this host, or has expired")
    /// A device was deleted while it waited for news.
    public static let deleted: StaticString = "Device was deleted!"

    // MARK: News

    /// What a device reads of shared attributes that were removed.
    public static func attributesDeleted(_ names: [String]) -> JSON {
        ["deleted": .array(names.map(JSON.string))]
    }

    /// What a device reads of a call of the server.
    ///
    /// - Parameters:
    ///   - id: The identifier of the call; `nil` over transports that say it elsewhere.
    ///   - method: The method.
    ///   - params: Its parameters.
    /// - Returns: The call.
    public static func call(id: Int?, method: String, params: JSON) -> JSON {
        guard let id else { return ["method": .string(method), "params": params] }
        return ["id": .integer(Int64(id)), "method": .string(method), "params": params]
    }
}
