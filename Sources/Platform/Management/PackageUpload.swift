import HTTPTypes
import Hummingbird
import NIOCore
import NodeKit
import OTA

/// Takes in one file of a multipart form, handing its bytes on as they come.
///
/// The next bytes are read off the socket when the last ones are stored, so memory does not grow with the file.
struct PackageUpload: Sendable {
    /// The longest value of a field that is not the file, in bytes.
    static let fieldBytesMax = 4096

    /// What the file is for.
    enum Target: Sendable {
        /// A package that is there.
        case package(OtaPackageId)
        /// One that is made of the form's other fields, together with its bytes; they are read when the file begins, or the form ends
        /// without one.
        case new(@Sendable ([String: String]) async throws -> OtaPackage)
    }

    let target: Target
    let packages: any OtaPackageService
    let bytesMax: Int64

    /// What the form said, part by part.
    private struct Form {
        var fields: [String: String] = [:]
        var file: MultipartParser.Part?
        var upload: (any OtaPackageUpload)?
        var current: MultipartParser.Part?
        var value = ByteBuffer()
    }

    /// Stores the part `file`.
    ///
    /// `checksumAlgorithm` and `checksum` come from the query or from fields of the form, which may follow the file; the
    /// query counts first. Only a package that is made of the form may do without: without the file, and without the algorithm,
    /// which then is SHA256.
    ///
    /// - Returns: The package as it is now.
    /// - Throws: ``APIError`` or ``NodeError``; nothing of the file remains.
    func receive(_ request: Request, query: [ExactText: String]) async throws -> OtaPackage {
        let tooLong = APIError(.contentTooLarge, 31, "The upload is longer than \(self.bytesMax) bytes")
        if let declared = request.headers[.contentLength].flatMap(Int64.init), declared > self.bytesMax {
            throw tooLong
        }
        // Said in the query, a wrong name is refused before the file is sent.
        if let algorithm = query["checksumAlgorithm"], !algorithm.isEmpty {
            _ = try ChecksumAlgorithm(named: algorithm)
        }
        guard let boundary = MultipartParser.boundary(ofContentType: request.headers[.contentType] ?? "") else {
            throw APIError(
                .unsupportedMediaType,
                31,
                "The file must be sent as multipart/form-data with a boundary, in the part 'file'"
            )
        }
        var parser = MultipartParser(boundary: boundary)
        var form = Form()
        do {
            var received: Int64 = 0
            var pieces = request.body.makeAsyncIterator()
            while let bytes = try await pieces.nextPiece() {
                received += Int64(bytes.readableBytes)
                guard received <= self.bytesMax else { throw tooLong }
                parser.feed(bytes)
                while let event = try parser.next() { try await self.handle(event, &form) }
            }
            try parser.finish()
            return try await self.finish(form, query: query)
        } catch {
            await form.upload?.cancel()
            throw error
        }
    }

    private func handle(_ event: MultipartParser.Event, _ form: inout Form) async throws {
        switch event {
        case .part(let part):
            form.current = part
            form.value.clear()
            guard part.name == "file" else { return }
            guard form.file == nil else { throw APIError.badRequest("The form has two parts 'file'; send one") }
            form.file = part
            form.upload =
                switch self.target {
                case .package(let id): try await self.packages.upload(to: id)
                case .new(let describe): try await self.packages.upload(creating: try await describe(form.fields))
                }
        case .bytes(var bytes):
            guard form.current?.name != "file" else {
                try await form.upload?.write(bytes)
                return
            }
            guard form.value.readableBytes + bytes.readableBytes <= Self.fieldBytesMax else {
                throw APIError.badRequest(
                    "The field '\(form.current?.name ?? "")' is longer than \(Self.fieldBytesMax) bytes"
                )
            }
            form.value.writeBuffer(&bytes)
        case .endOfPart:
            if let name = form.current?.name, name != "file" {
                form.fields[name] = try PercentEncoding.text(form.value.readableBytesView, of: name)
            }
            form.current = nil
        }
    }

    private func finish(_ form: Form, query: [ExactText: String]) async throws -> OtaPackage {
        func value(_ name: String) -> String? {
            for value in [query[name.exact], form.fields[name]] {
                if let value, !value.isEmpty { return value }
            }
            return nil
        }
        guard let upload = form.upload, let file = form.file else {
            guard case .new(let describe) = self.target else { throw APIError.missing(parameter: "file") }
            return try await self.packages.saveOtaPackage(try await describe(form.fields))
        }
        return try await upload.finish(
            fileName: file.fileName,
            contentType: file.contentType ?? "application/octet-stream",
            algorithm: try self.algorithm(value("checksumAlgorithm")),
            checksum: value("checksum")
        )
    }

    private func algorithm(_ name: String?) throws -> ChecksumAlgorithm {
        if let name { return try ChecksumAlgorithm(named: name) }
        guard case .new = self.target else { throw APIError.missing(parameter: "checksumAlgorithm") }
        return .sha256
    }
}
