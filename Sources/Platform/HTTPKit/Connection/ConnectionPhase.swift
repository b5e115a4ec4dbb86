/// Where a connection is between two requests.
enum ConnectionPhase {
    /// The next thing is the head of a request.
    case awaitingHead
    /// A head is there, its body not yet.
    case receivingBody
    /// A head is there, and before more of its body comes, it is found out whether the client may send it.
    case admitting
    /// A request is being answered; what comes in waits.
    case responding
    /// An answer is written, but too much of it waits for the client to go on.
    case flushing
    /// The last answer is written; the channel closes when its bytes are gone.
    case closing
    /// As `closing`, with all bytes gone and our side shut: the client may still be sending.
    case lingering
    /// Nothing happens any more.
    case closed
}
