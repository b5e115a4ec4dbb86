import OTA
import Testing

@Suite struct OtaUpdateStateTests {
    @Test("states go forward, fail at any time before the end, and begin again after a failure")
    func order() {
        for (index, state) in OtaUpdateState.allCases.enumerated() {
            for (nextIndex, next) in OtaUpdateState.allCases.enumerated() {
                let expected: Bool =
                    switch state {
                    case .updated: false
                    case .failed: next == .downloading
                    default: next == .failed || nextIndex > index
                    }
                #expect(state.accepts(next) == expected, "\(state.rawValue) to \(next.rawValue)")
            }
        }
    }
}
