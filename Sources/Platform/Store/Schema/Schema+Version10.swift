extension Schema {
    /// What must be known of the clock when the host starts again, in one row.
    static let version10 = [
        """
        CREATE TABLE time_of_day (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            believed INTEGER NOT NULL,
            doubted INTEGER NOT NULL CHECK (doubted >= 0),
            latest_given INTEGER
        ) STRICT
        """
    ]
}
