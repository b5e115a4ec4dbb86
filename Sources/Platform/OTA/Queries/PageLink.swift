public import NodeKit

/// Which part of a list.
public struct PageLink: Sendable, Hashable {
    /// The most entries on a page, 1…1000 where it comes from a client.
    public var pageSize: Int
    /// Zero-based number of the page.
    public var page: Int
    /// Text that a name or title must contain, compared without case.
    public var textSearch: String?
    /// The member to sort by, as the REST API names it; unknown ones count as `createdTime`.
    public var sortProperty: String?
    /// Whether to sort upward.
    public var ascending: Bool

    /// Makes a link.
    public init(
        pageSize: Int,
        page: Int = 0,
        textSearch: String? = nil,
        sortProperty: String? = nil,
        ascending: Bool = false
    ) {
        self.pageSize = pageSize
        self.page = page
        self.textSearch = textSearch
        self.sortProperty = sortProperty
        self.ascending = ascending
    }
}

/// A part of a list, and how long the list is.
public struct Page<Element: Sendable>: Sendable {
    /// The entries.
    public var data: [Element]
    /// How many entries all pages have.
    public var totalElements: Int
    /// How many pages there are.
    public var totalPages: Int
    /// Whether there is a page after this one.
    public var hasNext: Bool

    /// Makes the page that a link asked for.
    public init(data: [Element], totalElements: Int, link: PageLink) {
        self.data = data
        self.totalElements = totalElements
        // Nothing is added or multiplied: a page number may be anything.
        self.totalPages = totalElements > 0 ? (totalElements - 1) / max(1, link.pageSize) + 1 : 0
        self.hasNext = link.page < self.totalPages - 1
    }
}

extension PageLink {
    /// Which entries of the list are on the page.
    ///
    /// - Returns: How many there are at most, and how many come before them.
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if there cannot be so many before: the number may be anything.
    public func rows() throws(NodeError) -> (limit: Int, offset: Int) {
        let size = max(0, self.pageSize)
        let (offset, overflow) = size.multipliedReportingOverflow(by: max(0, self.page))
        let (_, endOverflow) = offset.addingReportingOverflow(size)
        guard !overflow, !endOverflow else { throw NodeError(.badRequest, "there is no page \(self.page)") }
        return (size, offset)
    }
}
