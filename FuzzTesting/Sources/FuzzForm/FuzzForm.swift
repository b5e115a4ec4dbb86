import FuzzSupport
import NIOCore
import NodeKit

@testable import Management

/// What a form came to: its events, neighbouring bytes joined, and whether it was complete.
private struct Outcome: Equatable {
    var events: [MultipartParser.Event] = []
    var isRefused = false

    init(_ pieces: [ByteBuffer], boundary: String) {
        var limits = MultipartParser.Limits()
        // Small, so that short inputs reach them.
        limits.headerBytesMax = 256
        limits.partsMax = 4
        limits.preambleBytesMax = 64
        var parser = MultipartParser(boundary: boundary, limits: limits)
        do {
            for piece in pieces {
                parser.feed(piece)
                while let event = try parser.next() { self.add(event) }
            }
            try parser.finish()
        } catch {
            self.isRefused = true
        }
    }

    private mutating func add(_ event: MultipartParser.Event) {
        if case .bytes(var new) = event {
            precondition(new.readableBytes > 0, "an event without bytes")
            if case .bytes(var bytes)? = self.events.last {
                bytes.writeBuffer(&new)
                self.events[self.events.count - 1] = .bytes(bytes)
                return
            }
        }
        self.events.append(event)
    }
}

/// Reads a form of package upload at once and in pieces: what it says does not depend on how its bytes come.
///
/// The first line is the `Content-Type`, the rest the form.
@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    var input = FuzzInput(start, count)
    let lineLength = input.bytes.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) ?? 0
    let line = String(buffer: input.take(lineLength))
    _ = input.byte()
    let boundary = MultipartParser.boundary(ofContentType: line) ?? "b"
    precondition((1...70).contains(boundary.utf8.count), "a boundary that cannot be")
    let whole = Outcome([input.bytes], boundary: boundary)
    for size in [1, 7] {
        let cut = Outcome(input.bytes.pieces(of: size), boundary: boundary)
        // Of a form that is refused, how much was taken in before may differ.
        precondition(cut.isRefused == whole.isRefused, "in pieces of \(size): refused \(cut.isRefused)")
        if !whole.isRefused { precondition(cut == whole, "in pieces of \(size): \(cut) in place of \(whole)") }
    }
    return 0
}
