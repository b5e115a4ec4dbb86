import NodeKit
import NodeTesting
import Testing

@testable import Webhook

@Test(.timeLimit(.minutes(1)))
func `a post with the secret is answered by the chain, and no other is`() async throws {
    let outlet = TestOutlet { message in .completed(.json(message.metadata["hook"] ?? .null)) }
    let node = try WebhookIngress.make(["host": "127.0.0.1", "port": "0", "secret": "s3cret"])
    let running = Task { try await node.run(outlet) }
    let client = try await RawHTTPClient.connect(port: await outlet.listeners().first?.port ?? 0)
    let post = "POST /hooks/build HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n"
    try await client.send("\(post)X-Hook-Secret: s3cret\r\n\r\n{\"a\": 1}")
    #expect(try await client.response().text == "\"build\"")
    #expect(outlet.sent.first?.message.data == .json(["a": 1]))
    try await client.send("\(post)X-Hook-Secret: s3cre7\r\n\r\n{\"a\": 1}")
    #expect(try await client.response().status == 401)
    try await client.send("GET /hooks/build HTTP/1.1\r\nHost: h\r\n\r\n")
    #expect(try await client.response().status == 405)
    #expect(outlet.sent.count == 1)
    try await client.close()
    running.cancel()
    try await running.value
}
