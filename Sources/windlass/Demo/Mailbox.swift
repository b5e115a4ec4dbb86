import NIOCore

/// Messages that came without being asked for, and whoever waits for the next; used on one event loop only.
struct Mailbox<Element: Sendable> {
    private var elements = CircularBuffer<Element>()
    private var waiter: EventLoopPromise<Element>?

    /// Hands a message to whoever waits, or keeps it.
    ///
    /// - Returns: `false` if the box is full; the message is dropped.
    mutating func deliver(_ element: Element) -> Bool {
        if let waiter = self.waiter {
            self.waiter = nil
            waiter.succeed(element)
            return true
        }
        guard self.elements.count < DemoLimits.mailboxCountMax else { return false }
        self.elements.append(element)
        return true
    }

    /// Completes the promise with the next message; one before it that still waits fails.
    mutating func receive(_ promise: EventLoopPromise<Element>) {
        if let element = self.elements.popFirst() {
            promise.succeed(element)
        } else {
            self.waiter?.fail(DemoError("another task waits for a message"))
            self.waiter = promise
        }
    }

    /// Ends the wait, if somebody waits.
    mutating func fail(_ error: any Error) {
        self.waiter?.fail(error)
        self.waiter = nil
    }
}
