import NIOCore
import NodeKit
import Synchronization
import Testing

@testable import Store

@Suite struct HotPageTests {
    /// Bytes of which each tells where it is; counts who reads them, and refuses what is damaged.
    private final class Source: Content {
        let size: Int64
        let seed: Int64
        let damaged: Range<Int64>
        let reads = Mutex<[Range<Int64>]>([])

        init(size: Int64, seed: Int64 = 0, damaged: Range<Int64> = 0..<0) {
            self.size = size
            self.seed = seed
            self.damaged = damaged
        }

        func bytes(_ range: Range<Int64>) -> ByteBuffer {
            ByteBuffer(bytes: range.map { UInt8(truncatingIfNeeded: self.seed + $0 * 31 + $0 / Int64(256)) })
        }

        func read(_ range: Range<Int64>) async throws -> ByteBuffer {
            self.reads.withLock { $0.append(range) }
            guard range.lowerBound >= 0, range.upperBound <= self.size, !range.overlaps(self.damaged) else {
                throw NodeError(.internalError, "damaged")
            }
            return self.bytes(range)
        }

        /// What was read since this was asked for the last time.
        func takeReads() -> [Range<Int64>] {
            self.reads.withLock { reads in
                defer { reads = [] }
                return reads
            }
        }
    }

    private static let page = 3 * Int64(PagedContent.copiedBytes)

    private static func pages() -> HotPages { HotPages(pageBytes: Self.page, pagesMax: 8) }

    @Test("a page is read when it is asked for the second time, and then no more")
    func secondTime() async throws {
        let source = Source(size: 3 * Self.page + 100)
        let content = PagedContent(source, in: Self.pages())
        for start in [0, Self.page, 3 * Self.page] {
            #expect(try await content.read(start..<start + 10) == source.bytes(start..<start + 10))
            #expect(source.takeReads() == [start..<start + 10])
            let end = min(start + Self.page, source.size)
            #expect(try await content.read(end - 90..<end) == source.bytes(end - 90..<end))
            #expect(source.takeReads() == [start..<end])
            let lengths = [1, Int64(PagedContent.copiedBytes), Int64(PagedContent.copiedBytes) + 1, Self.page]
            for length in lengths where start + length <= end {
                for range in [start..<start + length, end - length..<end] {
                    #expect(try await content.read(range) == source.bytes(range))
                }
            }
            #expect(source.takeReads() == [])
        }
    }

    @Test("only a page that is here can be read at once, and asking for it so brings none in")
    func atOnce() async throws {
        let source = Source(size: Self.page + 100)
        let content = PagedContent(source, in: Self.pages())
        let range = Self.page..<Self.page + 100
        for _ in 0..<3 { #expect(content.readAtOnce(range) == nil) }
        #expect(try await content.read(range) == source.bytes(range))
        #expect(content.readAtOnce(range) == nil)
        #expect(try await content.read(range) == source.bytes(range))
        _ = source.takeReads()
        #expect(content.readAtOnce(range) == source.bytes(range))
        #expect(content.readAtOnce(Self.page + 1..<Self.page + 3) == source.bytes(Self.page + 1..<Self.page + 3))
        for absent in [0..<10, Self.page - 1..<Self.page + 1, 5..<5, -1..<1, Self.page..<Self.page + 101] {
            #expect(content.readAtOnce(absent) == nil)
        }
        #expect(source.takeReads() == [])
    }

    @Test("what lies in two pages, in none, or outside is the content's business")
    func elsewhere() async throws {
        let source = Source(size: 2 * Self.page)
        let content = PagedContent(source, in: Self.pages())
        for range in [Self.page - 1..<Self.page + 1, 0..<2 * Self.page, 5..<5] {
            for _ in 0..<3 {
                #expect(try await content.read(range) == source.bytes(range))
                #expect(source.takeReads() == [range])
            }
        }
        for range in [-1..<5, 2 * Self.page - 1..<2 * Self.page + 1, 9 * Self.page..<9 * Self.page + 1] {
            for _ in 0..<3 { await #expect(throws: NodeError.self) { try await content.read(range) } }
        }
    }

    @Test("bytes are served although others of their page are damaged")
    func damaged() async throws {
        let source = Source(size: Self.page, damaged: 1000..<1001)
        let content = PagedContent(source, in: Self.pages())
        for _ in 0..<5 {
            #expect(try await content.read(0..<1000) == source.bytes(0..<1000))
            await #expect(throws: NodeError.self) { try await content.read(1000..<1001) }
        }
    }

    @Test("pages give their places to others, and no byte of another content is ever served")
    func places() async throws {
        let pages = Self.pages()
        let total = 8 * Self.page
        let sources = [Source(size: 2 * total), Source(size: 2 * total, seed: 100)]
        let contents = sources.map { PagedContent($0, in: pages) }
        for round in 0..<2 {
            for number in 0..<Int64(16) {
                let start = number * Self.page
                for (source, content) in zip(sources, contents) {
                    for _ in 0..<2 {
                        let range = start + Int64(round)..<start + 3
                        #expect(try await content.read(range) == source.bytes(range))
                    }
                }
            }
        }
        // As many as there are places stay, and the next takes the place of the first.
        let starts = (0...Int64(8)).map { $0 * Self.page }
        for start in starts.dropLast() { for _ in 0..<2 { _ = try await contents[1].read(start..<start + 1) } }
        _ = sources[1].takeReads()
        for start in starts.dropLast() { _ = try await contents[1].read(start..<start + 1) }
        #expect(sources[1].takeReads() == [])
        for _ in 0..<2 { _ = try await contents[1].read(8 * Self.page..<8 * Self.page + 1) }
        _ = sources[1].takeReads()
        for start in starts { _ = try await contents[1].read(start..<start + 1) }
        #expect(sources[1].takeReads() == [0..<1])
    }

    @Test("pages of a content go with it")
    func removal() async throws {
        let pages = Self.pages()
        let key: HotPages.Key
        do {
            let content = PagedContent(Source(size: 10), in: pages)
            key = HotPages.Key(content: 1, page: 0)
            for _ in 0..<2 { _ = try await content.read(0..<10) }
            guard case .page = pages.find(key) else { return _ = Issue.record("the page is not there") }
        }
        guard case .absent = pages.find(key) else { return _ = Issue.record("the page is still there") }
    }
}
