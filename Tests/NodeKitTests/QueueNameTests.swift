import NodeKit
import Testing

@Suite struct QueueNameTests {
    @Test(
        "a name is read as chain and node, and written the same",
        arguments: [("ota/pace", "ota", "pace"), ("a/b/c", "a/b", "c"), ("pace", "", "pace"), ("ota/", "ota", "")]
    )
    func parts(text: String, chain: String, node: String) {
        let name = QueueName(text)
        #expect(name == QueueName(chain: chain, node: node))
        #expect(name.description == text)
    }
}
