/// A node that messages pass and that seldom waits, such as one that has what it mostly needs in memory.
public protocol PromptNode: Node {
    /// Says where a message goes if that can be told without waiting, in place of ``Node/process(_:)`` and under the same
    /// rules.
    ///
    /// - Throws: Anything; the message then leaves by ``Relation/failure`` with the error's text as `error` in its metadata.
    func decideAtOnce(_ message: consuming Message) throws -> Decision
}

/// What a ``PromptNode`` says at once.
public enum Decision: Sendable {
    /// Where the message goes.
    case go(Emission)
    /// That takes waiting. Here is the message as it came, for ``Node/process(_:)``; nothing was done yet.
    case wait(Message)
}
