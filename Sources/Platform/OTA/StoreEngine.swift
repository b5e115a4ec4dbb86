public import NodeKit

/// All that a host keeps: the services of the domain, behind which stands a database.
///
/// The host opens one, registers its services, runs it beside everything that uses them, and closes it last. It knows an engine only
/// where it chooses it. What an engine's services promise beyond their own words:
///
/// - What a method wrote is safe when it returns, and everyone who asks after that sees it.
/// - Two writes about one device take effect in the order in which they were begun.
/// - Identifiers of a log (``Assignment/id``, ``UpdateHistoryEntry/id``) grow in the order in which entries were begun to be written, which
///   need not be the order in which they become visible: an entry may appear behind one with a greater identifier. The entries of one
///   device appear in order. Readers therefore never take the greatest identifier that they saw for all that there is before it; see
///   ``UpdateService/assignments(after:limit:)`` and ``UpdateEventService``.
/// - Whatever concerns many devices is written in transactions of at most 1,000 devices each, so that no other write waits for a whole
///   fleet. Assignments that are not done when the host stops go on when it starts; a command or deletion that was cut off is given again.
public protocol StoreEngine: Sendable {
    /// Makes every service known to nodes and to the management API, with the ``DeviceSessions`` that it notifies.
    func register(in registry: inout ServiceRegistry)
    /// Does the engine's own work until the task is cancelled: what is written later, mass work, and removing what is old.
    ///
    /// Run it beside everything that uses the services. What fails is logged and tried again.
    func run() async
    /// Whether it can read and takes writes.
    func isReady() async -> Bool
    /// Whether there is room for uploads beside what is kept free for reports and deletions.
    var hasRoom: Bool { get }
    /// Its numbers: of the engine itself, of what is stored, and of updates by their state.
    func metrics() async throws -> [MetricFamily]
    /// Waits for writes under way, refuses others, and lets go of everything. May be called more than once.
    func close() async
}
