import Foundation
import NodeKit
import Testing

@testable import OTANodes

/// `docs/nodes.md` says what the descriptors say.
@Suite struct ReferencePageTests {
    @Test func `the reference page has every node, relation, attribute, default and variable`() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: root.appending(path: "docs/nodes.md"), encoding: .utf8)
        let sections = page.components(separatedBy: "\n### ")
        let descriptors = [
            ActivityNode.descriptor, AssignmentsNode.descriptor, AttributePushNode.descriptor,
            AttributesReplyNode.descriptor,
            CallsNode.descriptor, ChunkServeNode.descriptor, ErrorClassificationNode.descriptor,
            FailUpdateNode.descriptor, MissedPushesNode.descriptor, RetryUpdateNode.descriptor, StalledNode.descriptor,
            UpdateEventsNode.descriptor,
            PackageInfoNode.descriptor,
            PackageLookupNode.descriptor, ProvisionNode.descriptor, RPCReplyNode.descriptor, RPCRequestNode.descriptor,
            SaveAttributesNode.descriptor,
            SaveTelemetryNode.descriptor,
            StateTrackingNode.descriptor,
        ]
        for descriptor in descriptors {
            let section = try #require(sections.first { $0.hasPrefix("\(descriptor.type)\n") }, "\(descriptor.type)")
            for relation in descriptor.relations {
                #expect(section.contains("| `\(relation.relation)` |"), "\(descriptor.type): \(relation.relation)")
            }
            for attribute in descriptor.attributes {
                let row = section.split(separator: "\n").first { $0.hasPrefix("| `\(attribute.name)` |") }
                let expected = attribute.defaultText.map { "| \($0) |" } ?? "|"
                #expect(row?.contains(expected) == true, "\(descriptor.type): \(attribute.name) \(expected)")
            }
            for variable in descriptor.variables where !variable.name.hasPrefix("sw_") {
                #expect(section.contains("`\(variable.name)`"), "\(descriptor.type): \(variable.name)")
            }
        }
        for (_, keywords) in ErrorKeywords.table {
            #expect(page.contains("| \(keywords.joined(separator: ", ")) |"))
        }
    }
}
