extension Timestamp {
    /// How far a time of the host's own may lie ahead of its clock.
    ///
    /// One further ahead is left from when the clock was wrong.
    public static let aheadMax = Duration.seconds(3600)

    /// This time of the host's own, or `now` if it lies so far ahead that the clock must have been set back since.
    ///
    /// For times that are remembered and compared with the time of day: a clock that was a year ahead for an hour would hold them up for a
    /// year.
    public func believed(at now: Timestamp) -> Timestamp { self > now.adding(Self.aheadMax) ? now : self }
}
