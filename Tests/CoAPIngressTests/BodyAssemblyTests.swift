import FoundationEssentials
import NIOCore
import NodeKit
import Testing

@testable import CoAPIngress

private let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

private func peer(_ port: Int = 1) throws -> Endpoint { try Endpoint("127.0.0.1", port) }

@Suite("Bodies in blocks")
struct BodyAssemblyTests {
    private static let device = UUID.random()

    private func add(
        _ assemblies: inout BodyAssemblies,
        _ number: UInt32,
        more: Bool,
        count: Int = 16,
        exponent: UInt8 = 0,
        announced: UInt32? = nil,
        path: String = "a",
        tags: [UInt64] = [],
        format: UInt32? = nil,
        device: UUID = Self.device,
        at now: NIODeadline = start
    ) throws -> BodyAssemblies.Result {
        assemblies.add(
            ByteBuffer(repeating: UInt8(truncatingIfNeeded: number), count: count),
            Block(number: number, more: more, exponent: exponent),
            announced: announced,
            to: .init(
                peer: try peer(),
                device: device,
                path: [path],
                contentFormat: format,
                requestTags: tags.map { CoAPOption(.requestTag, opaque: $0) }
            ),
            now: now
        )
    }

    @Test("blocks in order become the body")
    func inOrder() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 1, more: true) == .more)
        let body = ByteBuffer(bytes: Array(repeating: 0, count: 16) + Array(repeating: 1, count: 16) + [2, 2, 2])
        #expect(try self.add(&assemblies, 2, more: false, count: 3) == .complete(body))
        #expect(assemblies.count == 0 && assemblies.bytes == 0)
    }

    @Test("a block that does not follow the last is refused, and the transfer can go on")
    func gap() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 1, more: true) == .incomplete)
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 2, more: false) == .incomplete)
        #expect(try self.add(&assemblies, 1, more: true, path: "b") == .incomplete)
        #expect(try self.add(&assemblies, 1, more: true) == .more)
    }

    @Test("a first block begins anew")
    func restart() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(assemblies.bytes == 16 && assemblies.count == 1)
        #expect(try self.add(&assemblies, 0, more: false, count: 2) == .complete(ByteBuffer(bytes: [0, 0])))
        #expect(assemblies.count == 0)
    }

    @Test("the size of blocks may change on the way")
    func otherSize() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true, count: 64, exponent: 2) == .more)
        #expect(try self.add(&assemblies, 4, more: true) == .more)
        #expect(assemblies.bytes == 80)
    }

    @Test("only the last block may be short, none may be long")
    func lengths() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true, count: 15) == .badLength)
        #expect(try self.add(&assemblies, 0, more: false, count: 17) == .badLength)
        #expect(try self.add(&assemblies, 0, more: false, count: 0) == .complete(ByteBuffer()))
    }

    @Test("a body may be as large as the limit and not one byte more")
    func tooLarge() throws {
        var assemblies = BodyAssemblies(limits: .init(bodyBytesMax: 20))
        #expect(try self.add(&assemblies, 0, more: true, announced: 20) == .more)
        guard case .complete = try self.add(&assemblies, 1, more: false, count: 4) else {
            Issue.record("not complete")
            return
        }
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 1, more: false, count: 5) == .tooLarge)
        #expect(assemblies.bytes == 0)
        #expect(try self.add(&assemblies, 0, more: true, announced: 21) == .tooLarge)
        #expect(try self.add(&assemblies, Block.numberMax, more: true, count: 1024, exponent: 6) == .tooLarge)
    }

    @Test("as many bodies as allowed come at a time")
    func tooMany() throws {
        var assemblies = BodyAssemblies(limits: .init(transfersMax: 2))
        #expect(try self.add(&assemblies, 0, more: true, path: "a") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "b") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "c") == .noRoom)
        #expect(try self.add(&assemblies, 0, more: false, count: 1, path: "c") == .complete(ByteBuffer(bytes: [0])))
        #expect(try self.add(&assemblies, 1, more: true, path: "a") == .more)
    }

    @Test("bodies with another request tag, or of another format, are other bodies")
    func keys() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true) == .more)
        #expect(try self.add(&assemblies, 0, more: true, tags: [1]) == .more)
        #expect(try self.add(&assemblies, 0, more: true, tags: [1, 2]) == .more)
        #expect(assemblies.count == 3)
        #expect(try self.add(&assemblies, 1, more: true, tags: [2]) == .incomplete)
        #expect(try self.add(&assemblies, 1, more: true, format: 50) == .incomplete)
        #expect(try self.add(&assemblies, 1, more: true, tags: [1]) == .more)
        #expect(try self.add(&assemblies, 1, more: true) == .more)
    }

    @Test("a device has as many bodies as allowed; one more takes the place of its oldest, and of nobody else's")
    func perDevice() throws {
        var assemblies = BodyAssemblies(limits: .init(transfersPerDeviceMax: 2))
        #expect(try self.add(&assemblies, 0, more: true, device: UUID.random()) == .more)
        for path in ["a", "b", "c"] { #expect(try self.add(&assemblies, 0, more: true, path: path) == .more) }
        #expect(assemblies.count == 3 && assemblies.bytes == 48)
        #expect(try self.add(&assemblies, 1, more: true, path: "a") == .incomplete)
        #expect(try self.add(&assemblies, 1, more: true, path: "b") == .more)
    }

    @Test("bodies that are begun again and again do not pile up among what is due")
    func pruning() throws {
        var assemblies = BodyAssemblies(limits: .init())
        for _ in 0..<20_000 { _ = try self.add(&assemblies, 0, more: true) }
        #expect(assemblies.deadlineCount < 2000 && assemblies.count == 1)
        assemblies.expire(start + .seconds(60))
        #expect(assemblies.count == 0)
    }

    @Test("all bodies together take up as many bytes as allowed")
    func total() throws {
        var assemblies = BodyAssemblies(limits: .init(totalBytesMax: 32))
        #expect(try self.add(&assemblies, 0, more: true, path: "a") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "b") == .more)
        #expect(try self.add(&assemblies, 1, more: true, path: "b") == .noRoom)
        #expect(assemblies.bytes == 16)
    }

    @Test("a body whose next block does not come in time is dropped, one that goes on is not")
    func expiry() throws {
        var assemblies = BodyAssemblies(limits: .init())
        #expect(try self.add(&assemblies, 0, more: true, path: "a") == .more)
        #expect(try self.add(&assemblies, 0, more: true, path: "b") == .more)
        #expect(try self.add(&assemblies, 1, more: true, path: "b", at: start + .seconds(30)) == .more)
        assemblies.expire(start + .seconds(60) - .nanoseconds(1))
        #expect(assemblies.count == 2)
        #expect(assemblies.nextDeadline == start + .seconds(60))
        assemblies.expire(start + .seconds(60))
        #expect(assemblies.count == 1 && assemblies.bytes == 32)
        #expect(assemblies.nextDeadline == start + .seconds(90))
        assemblies.expire(start + .seconds(90))
        #expect(assemblies.count == 0 && assemblies.nextDeadline == nil)
    }

    @Test("kept bodies are bounded in bytes, the oldest goes first")
    func retained() throws {
        var retained = RetainedBodies(bytesMax: 20)
        let keys = try (1...3).map {
            RetainedBodies.Key(peer: try peer($0), device: UUID.random(), subject: .notification(.attributes))
        }
        let body = ByteBuffer(repeating: 1, count: 10)
        retained.keep(body, for: keys[0])
        retained.keep(body, for: keys[1])
        #expect(retained[keys[0]] == body && retained.bytes == 20)
        retained.keep(body, for: keys[0])
        retained.keep(body, for: keys[2])
        #expect(retained[keys[1]] == nil && retained[keys[0]] == body && retained[keys[2]] == body)
        retained.keep(nil, for: keys[0])
        #expect(retained[keys[0]] == nil && retained.bytes == 10)
    }
}
