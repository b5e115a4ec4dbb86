import Testing

@testable import HTTPKit

@Suite struct ByteRangesTests {
    @Test(
        "a range of bytes is what RFC 9110 §14.1.2 says",
        arguments: [
            ("bytes=0-0", .parts([0..<1])), ("bytes=0-", .parts([0..<10])), ("bytes=9-9", .parts([9..<10])),
            ("bytes=5-100", .parts([5..<10])), ("bytes=-3", .parts([7..<10])), ("bytes=-100", .parts([0..<10])),
            ("bytes=10-", .unsatisfiable), ("bytes=10-11", .unsatisfiable), ("bytes=-0", .unsatisfiable),
            ("Bytes=1-2", .parts([1..<3])), ("bytes=5-4", .whole), ("lines=0-1", .whole), ("", .whole),
            ("bytes=", .whole), ("bytes=-", .whole), ("bytes=a-b", .whole), ("bytes=--1", .whole), ("bytes", .whole),
            ("bytes=,", .whole), ("bytes=0-1-2", .whole), ("bytes=+0-1", .whole), ("bytes = 0-1", .whole),
            ("bytes=0-9223372036854775807", .parts([0..<10])), ("bytes=99999999999999999999-", .unsatisfiable),
            ("bytes=0-99999999999999999999", .parts([0..<10])), ("bytes=-99999999999999999999", .parts([0..<10])),
        ] as [(String, ByteRanges.Selection)]
    )
    func single(field: String, selection: ByteRanges.Selection) {
        #expect(ByteRanges.selection(field, size: 10) == selection)
    }

    @Test("nothing of an empty content can be sent", arguments: ["bytes=0-0", "bytes=-1", "bytes=0-"])
    func emptyContent(field: String) {
        #expect(ByteRanges.selection(field, size: 0) == .unsatisfiable)
    }

    @Test(
        "several ranges keep their order, and those that overlap or nearly touch become one",
        arguments: [
            ("bytes=0-9,200-209", .parts([0..<10, 200..<210])), ("bytes=200-209, 0-9", .parts([200..<210, 0..<10])),
            ("bytes=0-9 ,\t,200-209,", .parts([0..<10, 200..<210])),
            ("bytes=0-9,500-,-10", .parts([0..<10, 500..<1000])),
            ("bytes=0-9,0-9", .parts([0..<10])), ("bytes=0-9,90-99", .parts([0..<100])),
            ("bytes=0-9,91-99", .parts([0..<10, 91..<100])), ("bytes=0-9,200-209,10-199", .parts([0..<210])),
            ("bytes=0-9,400-409,200-209,150-399", .parts([0..<10, 150..<410])),
            ("bytes=400-409,0-9,200-209,11-190", .parts([400..<410, 0..<210])),
            ("bytes=2000-,0-9", .parts([0..<10])), ("bytes=2000-,3000-", .unsatisfiable), ("bytes=0-9,x", .whole),
            ("bytes=0-9,9-8", .whole), ("bytes=0-,-1000,0-999", .parts([0..<1000])),
        ] as [(String, ByteRanges.Selection)]
    )
    func several(field: String, selection: ByteRanges.Selection) {
        #expect(ByteRanges.selection(field, size: 1000) == selection)
    }

    @Test("so many ranges and no more", arguments: [(16, false), (17, true)])
    func tooMany(count: Int, isWhole: Bool) {
        let field = "bytes=" + (0..<count).map { "\($0 * 1000)-\($0 * 1000)" }.joined(separator: ",")
        let selection = ByteRanges.selection(field, size: 1_000_000)
        #expect((selection == .whole) == isWhole)
        if case .parts(let parts) = selection { #expect(parts.count == count) }
    }

    @Test("a list of nothing but commas has an end")
    func commas() {
        let field = "bytes=" + String(repeating: ",", count: 16_000) + "0-1"
        #expect(ByteRanges.selection(field, size: 10) == .parts([0..<2]))
    }
}
