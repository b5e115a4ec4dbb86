import NodeTesting
import Testing

@testable import CoAPIngress

@Suite("Values at places")
struct PlaceTableTests {
    @Test("holds what a dictionary holds, whatever comes and goes", arguments: 0..<4 as Range<UInt64>)
    func likeADictionary(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        var table = PlaceTable<Int, UInt64>()
        var expected: [Int: (value: UInt64, place: PlaceTable<Int, UInt64>.Place)] = [:]
        for _ in 0..<10_000 {
            let key = Int.random(in: 0..<400, using: &random)
            let known = expected[key]
            #expect(table.place(of: key, hash: key.hashValue) == known?.place)
            switch known {
            case nil:
                let value = random.next()
                expected[key] = (value, table.insert(value, for: key, hash: key.hashValue))
            case let (value, place)? where value % 3 == 0:
                table[place]? += 1
                expected[key]?.value += 1
            case let (value, place)?:
                #expect(table[place] == value)
                table.remove(at: place)
                expected[key] = nil
                #expect(table[place] == nil)
            }
            #expect(table.count == expected.count)
        }
        for (key, (value, place)) in expected {
            #expect(table.place(of: key, hash: key.hashValue) == place && table[place] == value)
        }
    }

    @Test("a place is never another value's")
    func places() {
        var table = PlaceTable<String, Int>()
        let first = table.insert(1, for: "a", hash: 7)
        table.remove(at: first)
        let second = table.insert(2, for: "a", hash: 7)
        #expect(second != first)
        #expect(table[first] == nil)
        table[first]? = 3
        table.remove(at: first)
        #expect(table[second] == 2 && table.count == 1)
    }
}
