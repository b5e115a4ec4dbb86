import HTTPTypes
import Hummingbird
import NIOCore
import NodeKit
import NodeTesting
import OTA
import Synchronization
import Testing

@testable import Management

@Suite struct UploadTests {
    /// A body that is made as it is asked for, and counts what it has handed out.
    final class Source: AsyncSequence, Sendable {
        typealias Element = ByteBuffer

        let pieces: Int
        let pieceBytes = 64 * 1024
        let handedOut = Mutex(0)

        init(pieces: Int) { self.pieces = pieces }

        struct AsyncIterator: AsyncIteratorProtocol {
            let source: Source
            var index = -1

            mutating func next() async throws -> ByteBuffer? {
                defer { self.index += 1 }
                switch self.index {
                case -1:
                    return ByteBuffer(
                        string: "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
                    )
                case self.source.pieces: return ByteBuffer(string: "\r\n--XX--")
                case (self.source.pieces + 1)...: return nil
                default:
                    self.source.handedOut.withLock { $0 += self.source.pieceBytes }
                    return ByteBuffer(repeating: 0x0D, count: self.source.pieceBytes)
                }
            }
        }

        func makeAsyncIterator() -> AsyncIterator { AsyncIterator(source: self) }
    }

    /// An upload that compares, at each write, what came with what was handed out.
    final class Sink: OtaPackageUpload {
        let source: Source
        let counts = Mutex((written: 0, outstandingMax: 0))

        init(_ source: Source) { self.source = source }

        func write(_ bytes: ByteBuffer) async throws {
            // A disk that takes its time: others get to run before it is done.
            for _ in 0..<10 { await Task.yield() }
            let handedOut = self.source.handedOut.withLock { $0 }
            self.counts.withLock { counts in
                counts.outstandingMax = max(counts.outstandingMax, handedOut - counts.written)
                counts.written += bytes.readableBytes
            }
        }

        func finish(
            fileName: String?,
            contentType: String?,
            algorithm: ChecksumAlgorithm,
            checksum: String?
        ) async throws -> OtaPackage {
            OtaPackage(deviceProfileId: nil, type: .firmware, title: fileName ?? "", version: algorithm.rawValue)
        }

        func cancel() async {}
    }

    @Test func nothingIsReadBeforeWhatCameIsStored() async throws {
        let source = Source(pieces: 64)
        let sink = Sink(source)
        let domain = try TestDomain()
        let upload = PackageUpload(
            target: .package(try await domain.package().id),
            packages: WrappedUploads(packages: domain.store) { _ in sink },
            bytesMax: .max
        )
        let request = Request(
            head: HTTPRequest(
                method: .post,
                scheme: "http",
                authority: "a",
                path: "/",
                headerFields: [.contentType: "multipart/form-data; boundary=XX"]
            ),
            body: RequestBody(asyncSequence: source)
        )
        let package = try await upload.receive(request, query: ["checksumAlgorithm": "MD5"])
        #expect(package.title == "a")
        let counts = sink.counts.withLock { $0 }
        #expect(counts.written == 64 * 64 * 1024)
        #expect(counts.outstandingMax <= 2 * 64 * 1024, "a piece, and what may be the beginning of a boundary")
    }
}
