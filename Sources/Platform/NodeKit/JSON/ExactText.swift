#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#endif

/// A text that equals another one only if both have the same bytes: a name or a secret that came off the wire.
///
/// `String` takes canonically equivalent texts for the same: `"caf\u{E9}"` and `"cafe\u{301}"`, even `"K"` and the Kelvin sign.
/// Two devices may have two such tokens, and an object two such members. So everything that is looked up by a text of a peer is
/// looked up by this type, as the store's tables do, too. As a property wrapper it makes the equality of a type exact while
/// its property stays a `String`:
///
/// ```swift
/// struct Session: Hashable {
///     @ExactText var clientId: String
/// }
/// ```
///
/// Compare two texts with `a.exact == b.exact`. Costs no more than a comparison of ASCII as `String` does.
@propertyWrapper
@frozen
public struct ExactText: Hashable, Sendable, ExpressibleByStringInterpolation, CustomStringConvertible {
    /// The text.
    public var wrappedValue: String

    /// The text as one that is compared by its bytes.
    @inlinable public var projectedValue: ExactText { self }

    /// Makes a text that is compared by its bytes.
    @inlinable public init(wrappedValue: String) { self.wrappedValue = wrappedValue }

    /// Makes a text that is compared by its bytes.
    @inlinable public init(_ text: String) { self.wrappedValue = text }

    /// Makes a text from a literal.
    @inlinable public init(stringLiteral value: String) { self.wrappedValue = value }

    /// The text.
    @inlinable public var description: String { self.wrappedValue }

    /// Whether both have the same bytes.
    @inlinable
    public static func == (a: Self, b: Self) -> Bool {
        // What is represented in the same way is the same: nearly all short texts, and copies of long ones.
        if a.representation == b.representation { return true }
        let count = a.wrappedValue.utf8.count
        guard count == b.wrappedValue.utf8.count else { return false }
        // Of short texts `String` says quickest that they differ.
        if count <= Self.shortCountMax, a.wrappedValue != b.wrappedValue { return false }
        return a.wrappedValue.utf8.span.withUnsafeBytes { a in
            b.wrappedValue.utf8.span.withUnsafeBytes { b in Self.hasSameBytes(a, b) }
        }
    }

    /// The most bytes that a `String` keeps in itself.
    @usableFromInline static let shortCountMax = 15

    /// Whether two texts of the same length have the same bytes.
    @usableFromInline
    static func hasSameBytes(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
        guard let first = a.baseAddress, let second = b.baseAddress else { return true }
        return memcmp(first, second, a.count) == 0
    }

    /// Hashes the bytes.
    @inlinable
    public func hash(into hasher: inout Hasher) {
        self.wrappedValue.utf8.span.withUnsafeBytes { hasher.combine(bytes: $0) }
        // No byte of UTF-8, so that "a" and "bc" do not hash as "ab" and "c" do.
        hasher.combine(0xFF as UInt8)
    }

    /// The two words that a `String` is.
    @inlinable var representation: SIMD2<UInt64> {
        withUnsafeBytes(of: self.wrappedValue) { $0.loadUnaligned(as: SIMD2<UInt64>.self) }
    }
}

extension String {
    /// The text as one that is compared by its bytes.
    @inlinable public var exact: ExactText { ExactText(self) }
}

extension Optional<String> {
    /// The text, if there is one, as one that is compared by its bytes.
    @inlinable public var exact: ExactText? { self.map { ExactText($0) } }
}
