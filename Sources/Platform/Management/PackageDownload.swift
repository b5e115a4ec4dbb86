import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore
import NodeKit
import OTA

/// Answers with a package's bytes, read piece by piece as the client takes them.
enum PackageDownload {
    /// How much is read at once; a multiple of three, so that pieces of base64 join without padding between them.
    static let pieceBytes: Int64 = 192 * 1024

    /// The bytes as a file.
    static func file(_ package: OtaPackage, content: any Content) -> Response {
        let size = content.size
        let name = package.fileName ?? package.title
        var headers: HTTPFields = [
            .contentType: package.contentType ?? "application/octet-stream",
            .contentDisposition: "attachment;filename=\(name)",
            .xFileName: name,
        ]
        if let sha256 = package.sha256 { headers[.eTag] = "\"\(sha256)\"" }
        let body = ResponseBody(contentLength: Int(size)) { writer in
            for piece in Self.pieces(of: size) {
                try await writer.write(try await content.read(piece))
            }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: headers, body: body)
    }

    /// The package as JSON, its bytes as base64 in `data`.
    static func inline(_ package: OtaPackage, content: (any Content)?) -> Response {
        guard let content, case .object(var object) = package.json else {
            return .json(package.json.adding("data", .null))
        }
        // The text is cut where the bytes go: `data` comes last and is empty.
        object["data"] = ""
        var start = JSON.object(object).bytes
        let end = ByteBuffer(string: "\"}")
        start.moveWriterIndex(to: start.writerIndex - end.readableBytes)
        let head = start
        let size = content.size
        let length = head.readableBytes + Int((size + 2) / 3 * 4) + end.readableBytes
        let body = ResponseBody(contentLength: length) { writer in
            try await writer.write(head)
            for piece in Self.pieces(of: size) {
                let bytes = try await content.read(piece)
                try await writer.write(ByteBuffer(string: Data(bytes.readableBytesView).base64EncodedString()))
            }
            try await writer.write(end)
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: "application/json"], body: body)
    }

    private static func pieces(of size: Int64) -> some Sequence<Range<Int64>> {
        stride(from: 0, to: size, by: Int(Self.pieceBytes)).lazy.map { $0..<min($0 + Self.pieceBytes, size) }
    }
}

extension JSON {
    /// The object with one more member.
    func adding(_ name: String, _ value: JSON) -> JSON {
        guard case .object(var object) = self else { return self }
        object[name] = value
        return .object(object)
    }
}
