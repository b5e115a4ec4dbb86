/// Something that a node began to store and does not wait for, since the answer to the peer will.
///
/// A node that stores something and needs nothing back sends its message on with it, see ``Emission/route(_:to:storing:)``.
/// Then all that one message stores is waited for once, at its end, and costs one commit instead of one after the other.
public struct PendingWrite: Sendable {
    private let wait: @Sendable () async throws -> Void

    /// Makes a write of what waits for it; called at most once, and perhaps long after the write is done.
    public init(_ wait: @escaping @Sendable () async throws -> Void) { self.wait = wait }

    /// Nothing to store, and so stored already.
    public static let nothing = PendingWrite {}

    /// Returns when it is stored.
    ///
    /// The host calls it; a node that calls it itself has no need to send it on.
    ///
    /// - Throws: Why it could not be stored.
    public func stored() async throws { try await self.wait() }
}
