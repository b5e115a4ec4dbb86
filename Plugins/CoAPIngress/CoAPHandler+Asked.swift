extension CoAPHandler {
    /// A request as far as its answer depends on it.
    struct Asked: Sendable {
        var id: Exchanges.ID
        var method: CoAPCode
        var token: CoAPMessage.Token
        /// How long its datagram was.
        var bytes: Int
        /// Classes of answers that the peer does not want, a bit each.
        var noResponse: UInt32 = 0

        /// Whether the peer does not want an answer with a code (RFC 7967 §2.1).
        func isUnwanted(_ code: CoAPCode) -> Bool {
            // A body in blocks goes on only if its sender knows that the last one was taken.
            guard code != .continue, code.codeClass > 0 else { return false }
            return self.noResponse & 1 << (UInt32(code.codeClass) - 1) != 0
        }
    }
}
