/// Lists updates and carries out what administrators want with them.
public protocol UpdateControlService: Sendable {
    /// A page of update records; `textSearch` looks into the names of devices.
    func findUpdates(_ filter: UpdateFilter, page: PageLink) async throws -> Page<ListedUpdate>
    /// How many updates there are in each state; states without any are absent.
    func countUpdates(_ filter: UpdateFilter) async throws -> [OtaUpdateState: Int]
    /// How many devices with such an update say they run each version, most frequent first, at most
    /// ``InstalledCount/countMax`` versions.
    func countInstalled(_ filter: UpdateFilter) async throws -> [InstalledCount]

    /// How many updates ``carryOut(_:on:by:)`` would touch now; no update is changed.
    func count(_ command: UpdateCommand, on filter: UpdateFilter) async throws -> Int

    /// Carries out a command on every update that the filter means and that the command fits, in transactions of many
    /// devices each. Each update is changed wholly or not at all.
    ///
    /// - Parameters:
    ///   - command: What to do.
    ///   - filter: With which updates.
    ///   - who: Who wants it; part of the reason that a cancelled update has.
    /// - Returns: How many updates were touched.
    /// - Throws: What the store throws; what was done before that stays.
    func carryOut(_ command: UpdateCommand, on filter: UpdateFilter, by who: String) async throws -> Int
}
