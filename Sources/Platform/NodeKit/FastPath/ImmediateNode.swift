/// A node that messages pass and that never waits: it decides at once where a message goes.
///
/// The host asks it without suspending the message's task, which is a good part of what a node costs that does little.
public protocol ImmediateNode: Node {
    /// Says where a message goes, in place of ``Node/process(_:)`` and under the same rules.
    ///
    /// - Throws: Anything; the message then leaves by ``Relation/failure`` with the error's text as `error` in its metadata.
    func decide(_ message: consuming Message) throws -> Emission
}

extension ImmediateNode {
    /// Decides.
    public func process(_ message: Message) async throws -> Emission { try self.decide(message) }
}
