import NIOCore
import NodeKit
import Synchronization

/// The parts of packages that devices ask for at present, in memory, so that a chunk costs no system call and no copy.
///
/// A rollout has many devices ask for the same bytes within a short time. A page comes in when it is asked for the second
/// time, so that one device that fetches a large package pushes nothing out. Each page has one place where it can be, which it
/// shares with others: nothing is counted or linked, and no call takes long.
final class HotPages: Sendable {
    /// The bytes of one page, as many as an answer over HTTP is read in at once.
    static let pageBytes: Int64 = 256 * 1024
    /// The most pages, 32 MiB of them.
    static let pagesMax = 128

    /// The bytes of one page.
    let pageBytes: Int64

    struct Key: Hashable {
        /// See ``add()``.
        var content: Int
        /// Counts from 0.
        var page: Int64
    }

    enum Finding {
        /// The page is here.
        case page(ByteBuffer)
        /// The page was asked for before: who is told this reads it and calls ``keep(_:as:)`` or ``giveUp(_:)``.
        case wanted
        /// The page is not here, or being read.
        case absent
    }

    private struct Place {
        var key: Key?
        var bytes = ByteBuffer()
        /// Who was asked for last without being here.
        var candidate: Key?
        var isReading = false
    }

    private struct State {
        var contents = 0
        var places: [Place]

        /// Pages of one content that follow each other are in places that do; contents begin in places far from each other.
        func place(of key: Key) -> Int {
            let start = (UInt64(truncatingIfNeeded: key.content) &* 0x9E37_79B9_7F4A_7C15) >> 32
            return Int((start &+ UInt64(truncatingIfNeeded: key.page)) % UInt64(self.places.count))
        }
    }

    private let state: Mutex<State>

    init(pageBytes: Int64 = HotPages.pageBytes, pagesMax: Int = HotPages.pagesMax) {
        self.pageBytes = pageBytes
        self.state = Mutex(State(places: Array(repeating: Place(), count: pagesMax)))
    }

    /// A number for a content, which no other has or had.
    func add() -> Int {
        self.state.withLock { state in
            state.contents += 1
            return state.contents
        }
    }

    /// Looks for a page and notes that it was asked for.
    func find(_ key: Key) -> Finding {
        self.state.withLock { state in
            let index = state.place(of: key)
            if state.places[index].key == key { return .page(state.places[index].bytes) }
            guard !state.places[index].isReading else { return .absent }
            guard state.places[index].candidate == key else {
                state.places[index].candidate = key
                return .absent
            }
            state.places[index].isReading = true
            return .wanted
        }
    }

    /// A page, if it is here.
    func page(_ key: Key) -> ByteBuffer? {
        self.state.withLock { state in
            let place = state.place(of: key)
            return state.places[place].key == key ? state.places[place].bytes : nil
        }
    }

    /// Keeps a page that was wanted, in place of the one that was there.
    func keep(_ bytes: ByteBuffer, as key: Key) {
        self.state.withLock { state in state.places[state.place(of: key)] = Place(key: key, bytes: bytes) }
    }

    /// Says that a page that was wanted cannot be read.
    func giveUp(_ key: Key) {
        self.state.withLock { state in
            let index = state.place(of: key)
            state.places[index].candidate = nil
            state.places[index].isReading = false
        }
    }

    /// Lets go of all pages of a content.
    func remove(_ content: Int) {
        self.state.withLock { state in
            for index in state.places.indices where state.places[index].key?.content == content {
                state.places[index].key = nil
                state.places[index].bytes = ByteBuffer()
            }
        }
    }
}

/// A content whose hot pages are in memory.
final class PagedContent: Content {
    /// What is not longer is copied, so that nobody who keeps it keeps a page with it.
    static let copiedBytes = 8 * 1024

    private let content: any Content
    private let pages: HotPages
    private let number: Int

    init(_ content: any Content, in pages: HotPages) {
        self.content = content
        self.pages = pages
        self.number = pages.add()
    }

    deinit { self.pages.remove(self.number) }

    var size: Int64 { self.content.size }

    /// Reads bytes of a page that is here.
    func readAtOnce(_ range: Range<Int64>) -> ByteBuffer? {
        guard let page = self.page(of: range), let bytes = self.pages.page(page.key) else { return nil }
        return Self.part(range, of: bytes, from: page.range.lowerBound)
    }

    func read(_ range: Range<Int64>) async throws -> ByteBuffer {
        guard let page = self.page(of: range) else { return try await self.content.read(range) }
        switch self.pages.find(page.key) {
        case .page(let bytes): return Self.part(range, of: bytes, from: page.range.lowerBound)
        case .absent: return try await self.content.read(range)
        case .wanted:
            // Bytes that nobody asked for may be damaged; that is no reason not to read those that somebody did.
            guard let bytes = try? await self.content.readAll(page.range) else {
                self.pages.giveUp(page.key)
                return try await self.content.read(range)
            }
            self.pages.keep(bytes, as: page.key)
            return Self.part(range, of: bytes, from: page.range.lowerBound)
        }
    }

    /// The page that a range is in, and its bytes within the content; `nil` if it is in none, or in several.
    private func page(of range: Range<Int64>) -> (key: HotPages.Key, range: Range<Int64>)? {
        guard range.lowerBound >= 0, !range.isEmpty else { return nil }
        let number = range.lowerBound / self.pages.pageBytes
        let start = number * self.pages.pageBytes
        let end = min(start + self.pages.pageBytes, self.size)
        guard range.upperBound <= end else { return nil }
        return (HotPages.Key(content: self.number, page: number), start..<end)
    }

    private static func part(_ range: Range<Int64>, of page: ByteBuffer, from pageStart: Int64) -> ByteBuffer {
        let start = page.readerIndex + Int(range.lowerBound - pageStart)
        let bytes = page.readableBytesView[start..<start + range.count]
        return range.count <= Self.copiedBytes ? ByteBuffer(bytes: bytes) : ByteBuffer(bytes)
    }
}
