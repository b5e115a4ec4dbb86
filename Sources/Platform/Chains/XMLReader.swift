import CLibXML2

/// Reads a chain file with libxml2: strictly, without network, document type and entities of its own, and within limits.
///
/// libxml2 tells no columns, but at each start tag how far it has read; since an attribute's value holds no raw `<`
/// (XML 1.0 §3.1), the tag starts at the nearest one before that, and its attributes follow in the source.
final class XMLReader {
    /// The largest chain file, in bytes.
    static let fileSizeMax = 1 << 20
    /// The deepest nesting of elements; a chain needs three levels.
    static let depthMax = 16
    /// The most elements in one file.
    static let elementsMax = 10_000
    /// How many faults of one file that is not well-formed are reported.
    ///
    /// The first one is the fault, those after it mostly follow from it.
    static let syntaxFaultsMax = 3

    private let source: SourceText
    private var open: [XMLElement] = []
    private var root: XMLElement?
    private var elementsCount = 0
    /// Where the markup before the present text ended, as zero-based byte offset.
    private var markupEnd = 0
    private var faults: [ChainFault] = []

    private init(_ source: SourceText) { self.source = source }

    /// Reads a file.
    ///
    /// - Throws: ``ChainFaults`` if it is no well-formed XML, is more than the limits allow, or has a document type.
    static func read(_ source: SourceText) throws(ChainFaults) -> XMLElement {
        guard source.bytes.count <= Self.fileSizeMax else { throw ChainFaults([Self.tooLarge(source.path)]) }
        // libxml2 would guess another encoding from the first bytes, and an encoding declared in the file is not looked at.
        if let invalid = Self.firstInvalidByte(source.bytes) {
            let isNull = invalid < source.bytes.count && source.bytes[invalid] == 0
            throw ChainFaults([
                source.fault(
                    at: invalid,
                    isNull ? "null-character" : "not-utf8",
                    isNull ? "the file has the character U+0000 in it" : "the file is not UTF-8 text",
                    help: "save it as UTF-8"
                )
            ])
        }
        let reader = XMLReader(source)
        reader.parse()
        guard let root = reader.root, reader.faults.isEmpty else { throw ChainFaults(reader.faults) }
        return root
    }

    static func tooLarge(_ path: String) -> ChainFault {
        ChainFault(
            file: path,
            message: "the file is larger than \(Self.fileSizeMax) bytes",
            help: "split the chain into several files",
            code: "too-large"
        )
    }

    private static func firstInvalidByte(_ bytes: [UInt8]) -> Int? {
        if String(validating: bytes, as: UTF8.self) != nil { return bytes.firstIndex(of: 0) }
        // Repairing decoding keeps all that is valid: the first difference is the first invalid byte.
        let repaired = String(decoding: bytes, as: UTF8.self)
        return zip(bytes, repaired.utf8).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? bytes.count
    }

    private func parse() {
        xmlInitParser()
        guard let context = xmlNewParserCtxt() else {
            self.faults.append(self.source.fault(at: 0, "not-well-formed", "libxml2 has no memory to read the file"))
            return
        }
        defer { xmlFreeParserCtxt(context) }
        context.pointee._private = Unmanaged.passUnretained(self).toOpaque()
        Self.install(in: context)
        // NOENT replaces the five predefined entities, the only ones there can be, in attribute values.
        let options = XML_PARSE_NONET.rawValue | XML_PARSE_NOENT.rawValue | XML_PARSE_IGNORE_ENC.rawValue
        let document = self.source.bytes.withUnsafeBytes { bytes in
            xmlCtxtReadMemory(
                context,
                bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
                Int32(bytes.count),
                nil,
                nil,
                Int32(options)
            )
        }
        // The handlers make no document, so this is `nil`; should a version of libxml2 make one, it goes.
        if let document { xmlFreeDoc(document) }
        if self.root == nil, self.faults.isEmpty {
            self.faults.append(
                self.source.fault(at: 0, "not-well-formed", "the file is empty", help: "start with <chain …>")
            )
        }
    }

    private static func install(in context: xmlParserCtxtPtr) {
        guard let sax = context.pointee.sax else { return }
        sax.pointee = xmlSAXHandler()
        sax.pointee.initialized = XML_SAX2_MAGIC
        sax.pointee.internalSubset = { context, _, _, _ in XMLReader.of(context)?.documentType(context) }
        sax.pointee.startElementNs = { context, name, prefix, namespace, _, _, count, _, attributes in
            XMLReader.of(context)?.start(context, name, prefix, namespace, attributes, Int(count))
        }
        sax.pointee.endElementNs = { context, _, _, _ in XMLReader.of(context)?.end(context) }
        sax.pointee.characters = { context, text, length in XMLReader.of(context)?.text(text, Int(length)) }
        sax.pointee.ignorableWhitespace = sax.pointee.characters
        sax.pointee.comment = { context, _ in XMLReader.of(context)?.markupEnded(context) }
        sax.pointee.processingInstruction = { context, _, _ in XMLReader.of(context)?.markupEnded(context) }
        windlass_xml_set_error_function(context) { context, error in XMLReader.of(context)?.syntax(context, error) }
    }

    /// The reader that a parser works for; libxml2 hands every handler its parser.
    private static func of(_ context: UnsafeMutableRawPointer?) -> XMLReader? {
        guard let parser = context?.assumingMemoryBound(to: xmlParserCtxt.self), let reader = parser.pointee._private
        else { return nil }
        return Unmanaged<XMLReader>.fromOpaque(reader).takeUnretainedValue()
    }

    private func offset(_ context: UnsafeMutableRawPointer?) -> Int {
        let consumed = Int(xmlByteConsumed(context?.assumingMemoryBound(to: xmlParserCtxt.self)))
        return min(max(0, consumed), self.source.bytes.count)
    }

    private func stop(_ context: UnsafeMutableRawPointer?, _ fault: ChainFault) {
        self.faults.append(fault)
        xmlStopParser(context?.assumingMemoryBound(to: xmlParserCtxt.self))
    }

    private func documentType(_ context: UnsafeMutableRawPointer?) {
        let declaration = Array("<!DOCTYPE".utf8)
        var offset = max(0, self.offset(context) - declaration.count)
        while offset > 0, !self.source.bytes[offset...].starts(with: declaration) { offset -= 1 }
        self.stop(
            context,
            self.source.fault(
                at: offset,
                "doctype",
                "a chain file has no document type",
                help: "remove <!DOCTYPE …>; entities and external files are not read"
            )
        )
    }

    private func start(
        _ context: UnsafeMutableRawPointer?,
        _ name: UnsafePointer<xmlChar>?,
        _ prefix: UnsafePointer<xmlChar>?,
        _ namespace: UnsafePointer<xmlChar>?,
        _ attributes: UnsafeMutablePointer<UnsafePointer<xmlChar>?>?,
        _ attributesCount: Int
    ) {
        let end = self.offset(context)
        let start = self.source.bytes[..<end].lastIndex(of: UInt8(ascii: "<")) ?? 0
        self.elementsCount += 1
        guard self.open.count < Self.depthMax else {
            let message = "elements are nested deeper than \(Self.depthMax) levels"
            return self.stop(context, self.source.fault(at: start, "too-deep", message))
        }
        guard self.elementsCount <= Self.elementsMax else {
            let message = "the file has more than \(Self.elementsMax) elements"
            return self.stop(context, self.source.fault(at: start, "too-many-elements", message))
        }
        let offsets = self.attributeOffsets(from: start, to: end)
        var read: [XMLAttribute] = []
        for index in 0..<attributesCount {
            // Five pointers for each: name, prefix, namespace, start and end of the value.
            guard let fields = attributes.map({ $0 + index * 5 }), let value = fields[3], let valueEnd = fields[4]
            else { continue }
            let name = Self.text(fields[0]) ?? ""
            let prefix = Self.text(fields[1])
            let bytes = UnsafeBufferPointer(start: value, count: valueEnd - value)
            read.append(
                XMLAttribute(
                    name: name,
                    prefix: prefix,
                    namespace: Self.text(fields[2]),
                    value: String(decoding: bytes, as: UTF8.self),
                    offset: offsets[prefix.map { "\($0):\(name)" } ?? name] ?? start
                )
            )
        }
        self.open.append(
            XMLElement(
                name: Self.text(name) ?? "",
                prefix: Self.text(prefix),
                namespace: Self.text(namespace),
                offset: start,
                attributes: read
            )
        )
        let close = self.source.bytes[end...].firstIndex(of: UInt8(ascii: ">"))
        self.markupEnd = close.map { $0 + 1 } ?? end
    }

    private func end(_ context: UnsafeMutableRawPointer?) {
        self.markupEnded(context)
        guard let element = self.open.popLast() else { return }
        if self.open.isEmpty {
            self.root = element
        } else {
            self.open[self.open.count - 1].children.append(element)
        }
    }

    private func markupEnded(_ context: UnsafeMutableRawPointer?) { self.markupEnd = self.offset(context) }

    private func text(_ text: UnsafePointer<xmlChar>?, _ length: Int) {
        guard !self.open.isEmpty, self.open[self.open.count - 1].textOffset == nil else { return }
        let bytes = UnsafeBufferPointer(start: text, count: length)
        guard !bytes.allSatisfy(Self.isWhiteSpace) else { return }
        let offset = self.source.bytes[self.markupEnd...].firstIndex { !Self.isWhiteSpace($0) }
        self.open[self.open.count - 1].textOffset = offset ?? self.markupEnd
    }

    private func syntax(_ context: UnsafeMutableRawPointer?, _ error: UnsafePointer<xmlError>?) {
        guard let error = error?.pointee, error.level.rawValue >= XML_ERR_ERROR.rawValue else { return }
        // A prefix that is not declared is reported by the checker, with what would help.
        guard error.code != Int32(XML_NS_ERR_UNDEFINED_NAMESPACE.rawValue) else { return }
        guard self.faults.count < Self.syntaxFaultsMax else { return }
        // That elements are open at the end is news only if it is the first mistake.
        guard self.faults.isEmpty || error.code != Int32(XML_ERR_TAG_NOT_FINISHED.rawValue) else { return }
        var message = error.message.map { String(cString: $0) } ?? "error \(error.code) of libxml2"
        while message.last?.isWhitespace == true { message.removeLast() }
        let fault = self.source.fault(at: self.offset(context), "not-well-formed", "not well-formed XML: \(message)")
        // What follows at the same place follows from the same mistake.
        if let last = self.faults.last, last.line == fault.line, last.column == fault.column { return }
        self.faults.append(fault)
    }

    /// The zero-based byte offset of each attribute of a tag, by the name as written.
    private func attributeOffsets(from start: Int, to end: Int) -> [String: Int] {
        let bytes = self.source.bytes
        var offsets: [String: Int] = [:]
        var index = start + 1
        while index < end, !Self.isWhiteSpace(bytes[index]) { index += 1 }
        while true {
            while index < end, Self.isWhiteSpace(bytes[index]) { index += 1 }
            let nameStart = index
            while index < end, bytes[index] != UInt8(ascii: "="), !Self.isWhiteSpace(bytes[index]) { index += 1 }
            let name = String(decoding: bytes[nameStart..<index], as: UTF8.self)
            while index < end, bytes[index] != UInt8(ascii: "\""), bytes[index] != UInt8(ascii: "'") { index += 1 }
            guard index < end else { return offsets }
            offsets[name] = nameStart
            let quote = bytes[index]
            index += 1
            while index < end, bytes[index] != quote { index += 1 }
            index += 1
        }
    }

    private static func isWhiteSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09
    }

    private static func text(_ pointer: UnsafePointer<xmlChar>?) -> String? {
        pointer.map { String(cString: $0) }
    }
}
