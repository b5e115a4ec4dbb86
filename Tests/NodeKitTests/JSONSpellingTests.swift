import NodeKit
import Testing

@Suite struct JSONSpellingTests {
    @Test("an object of very many decimals is read in time", .bug(id: "T1.1"), .timeLimit(.minutes(1)))
    func many() throws {
        let count = 200_000
        let text = "{" + (0..<count).map { "\"a\($0)\":1.10" }.joined(separator: ",") + "}"
        let object = try #require(try JSON(parsing: text).object)
        #expect(object.count == count)
        #expect(object.text(of: "a0") == "1.10" && object.text(of: "a\(count - 1)") == "1.10")
    }
}
