import FuzzSupport
import NIOCore
import NodeKit

/// Reads the body of a request: what is JSON is printed and read again as the same, and read as telemetry.
@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    let bytes = FuzzInput(start, count).bytes
    let json: JSON
    do {
        json = try JSON(parsing: bytes)
    } catch {
        precondition((0...count).contains(error.offset), "a fault at byte \(error.offset) of \(count)")
        return 0
    }
    do {
        let again = try JSON(parsing: json.bytes)
        precondition(again == json, "\(json) was read again as \(again)")
    } catch {
        fatalError("what was printed is not read again: \(error)")
    }
    if let points = try? json.telemetryPoints() {
        for point in points {
            precondition(!point.values.isEmpty && !point.values.members.contains { $0.value.isNull })
        }
    }
    return 0
}
