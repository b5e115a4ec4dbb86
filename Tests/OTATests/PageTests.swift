import OTA
import Testing

@Suite struct PageTests {
    @Test(
        "A page tells how many there are and whether one follows, whatever was asked for",
        arguments: [
            (0, 10, 0, 0, false), (10, 10, 0, 1, false), (11, 10, 0, 2, true), (11, 10, 1, 2, false),
            (11, 10, .max, 2, false), (11, .max, 0, 1, false), (11, .max, .max, 1, false), (.max, 1, 0, .max, true),
            (.max, 1, .max - 1, .max, false), (.max, .max, 0, 1, false), (3, 0, 0, 3, true),
        ]
    )
    func counts(total: Int, size: Int, page: Int, pages: Int, hasNext: Bool) {
        let page = Page(data: [Int](), totalElements: total, link: PageLink(pageSize: size, page: page))
        #expect(page.totalPages == pages)
        #expect(page.hasNext == hasNext)
    }
}
