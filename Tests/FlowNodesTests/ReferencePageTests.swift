import Foundation
import NodeKit
import Testing

@testable import FlowNodes

/// `docs/nodes.md` says what the descriptors say.
@Suite struct ReferencePageTests {
    @Test func `the reference page has every node, relation, attribute and default`() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: root.appending(path: "docs/nodes.md"), encoding: .utf8)
        let sections = page.components(separatedBy: "\n### ")
        let descriptors = [
            FilterNode.descriptor, HoldNode.descriptor, HTTPCallNode.descriptor, LogNode.descriptor,
            ReplyNode.descriptor,
            SwitchNode.descriptor,
            ThrottleNode.descriptor,
        ]
        for descriptor in descriptors {
            let section = try #require(sections.first { $0.hasPrefix("\(descriptor.type)\n") }, "\(descriptor.type)")
            for relation in descriptor.relations {
                #expect(section.contains("| `\(relation.relation)` |"), "\(descriptor.type): \(relation.relation)")
            }
            for attribute in descriptor.attributes {
                let row = section.split(separator: "\n").first { $0.hasPrefix("| `\(attribute.name)` |") }
                let expected = attribute.defaultText ?? (attribute.isOptional ? "none" : "required")
                #expect(row?.contains(expected) == true, "\(descriptor.type): \(attribute.name) \(expected)")
            }
        }
    }
}
