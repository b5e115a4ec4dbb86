/// An element of a chain file as libxml2 read it, with its place in the source.
struct XMLElement {
    let name: String
    /// `nil` if the element has no prefix.
    let prefix: String?
    /// `nil` if there is none, or the prefix is not declared.
    let namespace: String?
    /// Zero-based byte offset of its `<`.
    let offset: Int
    let attributes: [XMLAttribute]
    var children: [XMLElement] = []
    /// Zero-based byte offset of its first text that is not white space.
    var textOffset: Int?

    /// The attribute without a prefix that has this name.
    func attribute(_ name: String) -> XMLAttribute? {
        self.attributes.first { $0.prefix == nil && $0.name == name }
    }

    /// The name as written.
    var qualifiedName: String { self.prefix.map { "\($0):\(self.name)" } ?? self.name }
}

/// An attribute of an element, with its place in the source.
struct XMLAttribute {
    let name: String
    let prefix: String?
    let namespace: String?
    /// The value with character and predefined entity references replaced.
    let value: String
    /// Zero-based byte offset of its name.
    let offset: Int

    /// The name as written.
    var qualifiedName: String { self.prefix.map { "\($0):\(self.name)" } ?? self.name }
}
