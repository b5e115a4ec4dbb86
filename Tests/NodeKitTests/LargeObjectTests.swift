import NodeKit
import Testing

@Suite(.timeLimit(.minutes(5))) struct LargeObjectTests {
    @Test("an object of very many members is read in reasonable time")
    func manyMembers() throws {
        let count = 100_000
        let text = "{" + (0..<count).map { "\"k\($0)\":\($0)" }.joined(separator: ",") + "}"
        let json = try JSON(parsing: text)
        #expect(json.object?.count == count)
        #expect(json["k99999"] == 99_999)
        #expect(json == json)
    }

    @Test("members are found by name at any number of them", arguments: [1, 15, 16, 17, 100])
    func names(count: Int) {
        var object = JSON.Object((0..<count).map { ("k\($0)", JSON.integer(Int64($0))) })
        object["k0"] = "again"
        #expect(object.count == count)
        #expect(object.names.first == "k0")
        #expect(object["k0"] == "again")
        for index in 0..<count {
            #expect(object["k\(index)"] != nil)
            object["k\(index)"] = nil
            #expect(object["k\(index)"] == nil)
            #expect(object.count == count - index - 1)
        }
        #expect(object["none"] == nil)
    }
}
