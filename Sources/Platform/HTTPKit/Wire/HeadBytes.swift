#if canImport(Glibc)
    public import Glibc
#elseif canImport(Darwin)
    public import Darwin
#endif

/// Bytes of a head where they came in; valid only while it is read.
public typealias HeadBytes = UnsafeBufferPointer<UInt8>

extension HeadBytes {
    /// Some of the bytes, which count from 0 again.
    @inlinable
    public func part(_ range: Range<Int>) -> HeadBytes { HeadBytes(rebasing: self[range]) }

    /// Where a byte is, from a place on; `nil` if it is not there.
    @inlinable
    public func first(_ byte: UInt8, from start: Int = 0) -> Int? {
        guard start < self.count, let base = self.baseAddress,
            let found = memchr(base + start, CInt(byte), self.count - start)
        else { return nil }
        return UnsafeRawPointer(found) - UnsafeRawPointer(base)
    }

    /// Without the white space around, which is none of a value (RFC 9110 §5.5).
    var trimmed: HeadBytes {
        var start = 0
        var end = self.count
        while start < end, self[start].isFieldSpace { start += 1 }
        while end > start, self[end - 1].isFieldSpace { end -= 1 }
        return self.part(start..<end)
    }

    /// Whether these are the bytes of a text.
    @inlinable
    public func equals(_ text: StaticString) -> Bool {
        guard self.count == text.utf8CodeUnitCount, let base = self.baseAddress else { return false }
        return memcmp(base, text.utf8Start, self.count) == 0
    }

    /// Whether these are the bytes of a text in lower case but for the case of ASCII letters.
    public func equalsIgnoringCase(_ lowercase: StaticString) -> Bool {
        guard self.count == lowercase.utf8CodeUnitCount else { return false }
        let other = lowercase.utf8Start
        return self.indices.allSatisfy { self[$0] == other[$0] || self[$0].isUppercase && self[$0] | 0x20 == other[$0] }
    }

    /// The elements of a list (RFC 9110 §5.6.1), without white space around them.
    var elements: some Sequence<HeadBytes> {
        self.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: true).lazy
            .map { HeadBytes(rebasing: $0).trimmed }
    }

    /// A number of digits only; `nil` for anything else, or if it does not fit 64 bits.
    public var number: Int64? {
        guard !self.isEmpty else { return nil }
        var value: Int64 = 0
        for byte in self {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            let (tens, isTooLarge) = value.multipliedReportingOverflow(by: 10)
            let (sum, isLarger) = tens.addingReportingOverflow(Int64(byte & 0xF))
            guard !isTooLarge, !isLarger else { return nil }
            value = sum
        }
        return value
    }

    /// Whether this is the name of a field: a token (RFC 9110 §5.6.2).
    var isToken: Bool { !self.isEmpty && self.allSatisfy(\.isTokenCharacter) }

    /// Whether this may be the value of a field: no control characters but tabs (RFC 9110 §5.5).
    var isFieldValue: Bool { self.allSatisfy { $0 >= 0x20 ? $0 != 0x7F : $0 == UInt8(ascii: "\t") } }

    /// Whether these are extensions of a chunk: `;name`, `;name=token` or `;name="text"`, any number of times (RFC 9112 §7.1.1).
    ///
    /// Not with white space, which the grammar has for bad senders' sake only.
    var isChunkExtensions: Bool {
        var rest = self
        while let first = rest.first {
            guard first == UInt8(ascii: ";"), let nameEnd = rest.tokenEnd(from: 1) else { return false }
            rest = rest.part(nameEnd..<rest.count)
            guard rest.first == UInt8(ascii: "=") else { continue }
            guard let valueEnd = rest.tokenEnd(from: 1) ?? rest.quotedEnd(from: 1) else { return false }
            rest = rest.part(valueEnd..<rest.count)
        }
        return true
    }

    /// Where the token ends that begins at a place; `nil` if none does.
    private func tokenEnd(from start: Int) -> Int? {
        var end = start
        while end < self.count, self[end].isTokenCharacter { end += 1 }
        return end > start ? end : nil
    }

    /// Where the quoted text ends that begins at a place (RFC 9110 §5.6.4); `nil` if none does.
    private func quotedEnd(from start: Int) -> Int? {
        guard start < self.count, self[start] == UInt8(ascii: "\"") else { return nil }
        var index = start + 1
        while index < self.count {
            if self[index] == UInt8(ascii: "\"") { return index + 1 }
            index += self[index] == UInt8(ascii: "\\") ? 2 : 1
        }
        return nil
    }

    /// Whether this may be a request target: visible ASCII (RFC 9112 §3.2).
    var isVisible: Bool { self.allSatisfy { (0x21...0x7E).contains($0) } }
}

extension UInt8 {
    /// Whether it is white space that may be around a value.
    var isFieldSpace: Bool { self == UInt8(ascii: " ") || self == UInt8(ascii: "\t") }

    fileprivate var isUppercase: Bool { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self) }

    /// Whether it is an ASCII letter.
    var isLetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) }

    /// `tchar` of RFC 9110 §5.6.2.
    fileprivate var isTokenCharacter: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"),
            UInt8(ascii: "%"), UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"),
            UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
