extension String {
    /// The text up to a number of Unicode scalars.
    ///
    /// Not of characters, one of which may have any number of combining marks.
    public func limited(to count: Int) -> String {
        guard self.utf8.count > count else { return self }
        return String(String.UnicodeScalarView(self.unicodeScalars.prefix(count)))
    }
}
