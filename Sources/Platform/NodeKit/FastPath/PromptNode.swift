/// A node that messages pass and that seldom waits, such as one that has what it mostly needs in memory.
public protocol PromptNode: Node {
    /// Says where a message goes if that takes no waiting, in place of ``Node/process(_:)`` and under the same rules.
    ///
    /// - Returns: Where the message goes; or, if something has to be waited for, the message as it came, for
    ///   ``Node/process(_:)``: nothing was done yet then.
    /// - Throws: Anything; the message then leaves by ``Relation/failure`` with the error's text as `error` in its metadata.
    func decideAtOnce(_ message: consuming Message) throws -> Step<Emission, Message>
}
