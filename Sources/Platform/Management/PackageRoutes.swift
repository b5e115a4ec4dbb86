import Hummingbird
import NIOCore
import NodeKit
import OTA

/// `/api/otaPackage`: packages and their bytes.
struct PackageRoutes: Sendable {
    let services: ManagementServices
    let options: ManagementServer.Options
    let now: @Sendable () -> Timestamp

    /// What lists of packages are sorted by.
    private static let sortProperties = [
        "createdTime", "title", "name", "version", "tag", "type", "url", "fileName", "contentType", "dataSize",
        "checksumAlgorithm", "checksum",
    ]

    /// As in ThingsBoard, whoever only reads sees what a package is, and gets no bytes.
    func add(to routes: inout RouteTable) {
        routes.add(
            .post,
            "/api/otaPackage",
            for: .tenantAdministrators,
            Operation(
                "Saves what a package is; as a form with its bytes",
                query: [
                    .choice(
                        "checksumAlgorithm",
                        "That of a form's file; SHA256 if it is left out",
                        of: ChecksumAlgorithm.allCases.map(\.rawValue)
                    ), .text("checksum", "What the checksum of a form's file must be"),
                ],
                body: .jsonOrForm(.savedPackage, form: .packageForm),
                answer: .json(.packageInfo)
            ),
            self.save
        )
        routes.add(
            .post,
            "/api/otaPackage/{id}",
            for: .tenantAdministrators,
            Operation(
                "Stores the bytes of a package",
                query: [
                    .choice(
                        "checksumAlgorithm",
                        "How the checksum is computed; may be a field of the form",
                        of: ChecksumAlgorithm.allCases.map(\.rawValue)
                    ), .text("checksum", "What it must be; may be a field of the form"),
                ],
                body: .form(.fileForm),
                answer: .json(.packageInfo)
            ),
            self.upload
        )
        routes.add(
            .get,
            "/api/otaPackage/info/{id}",
            for: .tenantUsers,
            Operation("Reads what a package is", answer: .json(.packageInfo)),
            self.info
        )
        routes.add(
            .get,
            "/api/otaPackage/{id}",
            for: .tenantAdministrators,
            Operation(
                "Reads a package with its bytes",
                answer: .json(.package),
                failures: [(.contentTooLarge, "The bytes are too many for JSON; download them")]
            ),
            self.inline
        )
        routes.add(
            .get,
            "/api/otaPackage/{id}/download",
            for: .tenantAdministrators,
            Operation("Downloads the bytes of a package", answer: .file),
            self.download
        )
        routes.add(
            .delete,
            "/api/otaPackage/{id}",
            for: .tenantAdministrators,
            Operation("Deletes a package that nothing refers to"),
            self.delete
        )
        routes.add(
            .get,
            "/api/otaPackages",
            for: .tenantUsers,
            Operation(
                "Lists packages",
                query: .page(sortedBy: Self.sortProperties),
                answer: .json(Schema.packageInfo.page)
            ),
            self.list
        )
        routes.add(
            .get,
            "/api/otaPackages/{profileId}/{type}",
            for: .tenantUsers,
            Operation(
                "Lists the packages of a profile that can be assigned",
                query: .page(sortedBy: Self.sortProperties),
                answer: .json(Schema.packageInfo.page)
            ),
            self.listOfProfile
        )
        routes.add(
            .get,
            "/api/devices/count/{type}/{profileId}",
            for: .tenantUsers,
            Operation("Counts the devices of a profile that have no package of their own", answer: .json(.number)),
            self.countDevices
        )
    }

    private func package(_ request: APIRequest) async throws -> OtaPackage {
        try await self.services.package(try request.id(), for: request)
    }

    @Sendable private func save(_ request: APIRequest) async throws -> Response {
        let saved: OtaPackage
        var isNew = true
        if PackageForm.isForm(request) {
            let form = PackageUpload(
                target: .new { fields in try await self.described(by: try PackageForm.body(of: fields), request) },
                packages: self.services.packages,
                bytesMax: self.options.uploadBytesMax
            )
            saved = try await form.receive(request.request, query: request.query)
        } else {
            let body = try await request.object()
            isNew = try body.id("id", of: OtaPackage.self) == nil
            saved = try await self.services.packages.saveOtaPackage(try await self.described(by: body, request))
        }
        request.trail.saved(saved, isNew: isNew)
        return .json(saved.json)
    }

    /// The package that a body describes, with what it says.
    private func described(by body: BodyReader, _ request: APIRequest) async throws -> OtaPackage {
        var package: OtaPackage
        if let id = try body.id("id", of: OtaPackage.self) {
            package = try await self.services.package(id, for: request)
        } else {
            guard let type = try OtaPackage.type(in: body) else {
                throw APIError.badRequest("Type should be specified!")
            }
            package = OtaPackage(
                createdTime: self.now(),
                tenantId: try request.tenantId(),
                deviceProfileId: nil,
                type: type,
                title: "",
                version: ""
            )
        }
        try package.update(from: body)
        if let profile = package.deviceProfileId { try await self.services.checkReference(to: profile, for: request) }
        try package.completeURL(from: body, external: self.options.external)
        return package
    }

    @Sendable private func upload(_ request: APIRequest) async throws -> Response {
        let upload = PackageUpload(
            target: .package(try await self.package(request).id),
            packages: self.services.packages,
            bytesMax: self.options.uploadBytesMax
        )
        let package = try await upload.receive(request.request, query: request.query)
        request.trail.note("fileName", JSON(package.fileName))
        request.trail.note("checksum", JSON(package.checksum))
        return .json(package.json)
    }

    @Sendable private func info(_ request: APIRequest) async throws -> Response {
        .json(try await self.package(request).json)
    }

    @Sendable private func inline(_ request: APIRequest) async throws -> Response {
        let package = try await self.package(request)
        let content = try await self.services.packages.content(of: package.id)
        if let content, content.size > self.options.inlineBytesMax {
            throw APIError(
                .contentTooLarge,
                31,
                "The package has \(content.size) bytes and only \(self.options.inlineBytesMax) are sent as JSON; "
                    + "use /api/otaPackage/\(package.id)/download"
            )
        }
        return PackageDownload.inline(package, content: content)
    }

    @Sendable private func download(_ request: APIRequest) async throws -> Response {
        let package = try await self.package(request)
        guard package.url == nil else {
            throw APIError.badRequest("The package is not stored here; devices fetch it from its URL")
        }
        guard let content = try await self.services.packages.content(of: package.id) else {
            throw APIError(.notFound, 32, "Ota package with id [\(package.id)] has no data; upload a file first")
        }
        return PackageDownload.file(package, content: content)
    }

    @Sendable private func delete(_ request: APIRequest) async throws -> Response {
        try await self.services.packages.deleteOtaPackage(try await self.package(request).id)
        return .empty
    }

    @Sendable private func list(_ request: APIRequest) async throws -> Response {
        let page = try await self.services.packages.findOtaPackages(
            of: try request.tenantId(),
            deviceProfileId: nil,
            type: nil,
            hasData: nil,
            page: try request.pageLink()
        )
        return .json(page.json(\.json))
    }

    /// The profile that a path names, which need not exist.
    private func profileId(_ request: APIRequest) async throws -> DeviceProfileId {
        let id: DeviceProfileId = try request.id("profileId")
        try await self.services.checkReference(to: id, for: request)
        return id
    }

    @Sendable private func listOfProfile(_ request: APIRequest) async throws -> Response {
        let page = try await self.services.packages.findOtaPackages(
            of: try request.tenantId(),
            deviceProfileId: try await self.profileId(request),
            type: try request.packageType(),
            hasData: true,
            page: try request.pageLink()
        )
        return .json(page.json(\.json))
    }

    @Sendable private func countDevices(_ request: APIRequest) async throws -> Response {
        let count = try await self.services.devices.countDevices(
            deviceProfileId: try await self.profileId(request),
            withoutOwn: try request.packageType()
        )
        return .json(.integer(Int64(count)))
    }
}
