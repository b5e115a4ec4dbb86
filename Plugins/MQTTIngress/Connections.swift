import NIOCore
import OTA
import Synchronization
import Waiting

/// The connections of a node.
final class Connections: Sendable {
    /// Tells a connection something, from any thread.
    final class Handle: Sendable {
        let id: UInt64
        let eventLoop: any EventLoop
        let connection: NIOLoopBound<ConnectionHandler>
        /// Whether the client subscribed to calls, and so takes them.
        let takesCalls = Atomic(false)
        /// Whether the client subscribed to its attributes, and so takes what changes.
        let takesAttributes = Atomic(false)
        /// Whether the session is kept, and so hears what is to be told by way of ``KeptSessions``.
        let isKept = Atomic(false)

        fileprivate init(id: UInt64, eventLoop: any EventLoop, connection: NIOLoopBound<ConnectionHandler>) {
            self.id = id
            self.eventLoop = eventLoop
            self.connection = connection
        }

        /// Whether the client will be told.
        func takes(_ notification: DeviceNotification) -> Bool {
            switch notification {
            case .rpcRequest: self.takesCalls.load(ordering: .relaxed)
            case .attributesUpdated, .attributesDeleted: self.takesAttributes.load(ordering: .relaxed)
            case .credentialsRevoked: true
            }
        }

        /// Runs on the connection's event loop.
        func tell(_ body: @escaping @Sendable (ConnectionHandler) -> Void) {
            self.eventLoop.execute { body(self.connection.value) }
        }

        /// Returns when the connection has run everything that was passed to ``tell(_:)`` before.
        func flushed() async {
            // It fails when the event loop has ended, and then nothing more is sent.
            try? await self.eventLoop.submit {}.get()
        }
    }

    private struct State {
        var nextID: UInt64 = 0
        var all: [UInt64: Handle] = [:]
        var isFull = false
        var isClosing = false
    }

    /// What becomes of a new connection.
    enum Admission {
        case admitted(Handle)
        /// Too many; `isFirst` if the one before was admitted, which is when to log it.
        case full(isFirst: Bool)
        case closing
    }

    private let countMax: Int
    private let state = Mutex(State())
    /// Opened when the node stops and the last connection has closed.
    private let emptied = Latch()

    init(countMax: Int) { self.countMax = countMax }

    /// How many connections there are.
    var count: Int { self.state.withLock { $0.all.count } }

    /// A connection that is there.
    func handle(_ id: UInt64) -> Handle? { self.state.withLock { $0.all[id] } }

    /// Takes in a connection; call on its event loop.
    func admit(_ connection: ConnectionHandler, on eventLoop: any EventLoop) -> Admission {
        let bound = NIOLoopBound(connection, eventLoop: eventLoop)
        return self.state.withLock { state in
            if state.isClosing { return .closing }
            guard state.all.count < self.countMax else {
                defer { state.isFull = true }
                return .full(isFirst: !state.isFull)
            }
            state.isFull = false
            state.nextID += 1
            let handle = Handle(id: state.nextID, eventLoop: eventLoop, connection: bound)
            state.all[handle.id] = handle
            return .admitted(handle)
        }
    }

    /// Forgets a connection that is gone.
    func remove(_ handle: Handle) {
        let isLast = self.state.withLock { state in
            state.all[handle.id] = nil
            return state.isClosing && state.all.isEmpty
        }
        if isLast { self.emptied.open() }
    }

    /// Admits nobody any more, and tells each connection something.
    func close(_ body: @escaping @Sendable (ConnectionHandler) -> Void) {
        let all = self.state.withLock { state in
            state.isClosing = true
            return Array(state.all.values)
        }
        if all.isEmpty { self.emptied.open() }
        for handle in all { handle.tell(body) }
    }

    /// Returns when all connections are gone, after ``close(_:)``.
    func empty() async { await self.emptied.opened() }
}
