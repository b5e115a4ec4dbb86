import HTTPTypes
import Hummingbird
import NodeKit
import OTA

/// Makes a package of one multipart form: what it is in fields named as the members of ThingsBoard's `OtaPackageInfo`, and then its
/// bytes in the part `file`.
///
/// ThingsBoard takes two requests for that. All that describes the package comes before the file, so that it is refused before the
/// file is sent; only `checksumAlgorithm` and `checksum` may follow, as a pipeline may compute them while it sends.
enum PackageForm {
    /// Whether a request's body is a form, and not JSON.
    static func isForm(_ request: APIRequest) -> Bool {
        request.request.headers[.contentType]?.lowercased().hasPrefix("multipart/") ?? false
    }

    /// The fields as a body would have them.
    static func body(of fields: [String: String]) throws -> BodyReader {
        var body: JSON.Object = [:]
        for (name, text) in fields where !text.isEmpty {
            switch name {
            // That of a file may only be known when it was sent, and is compared with what came then.
            case "checksum", "checksumAlgorithm": if fields["url"]?.isEmpty == false { body[name] = .string(text) }
            // A form makes a package, and never changes one.
            case "id":
                throw APIError.badRequest("A form makes a new package; leave 'id' out, or send JSON to change one")
            case "usesUrl":
                guard let value = Bool(text) else {
                    throw APIError.badRequest("'usesUrl' must be true or false, not '\(text)'")
                }
                body[name] = .bool(value)
            case "additionalInfo", "deviceProfileId":
                // An identifier may be written as its text alone.
                body[name] = text.hasPrefix("{") ? try Self.json(text, name) : .string(text)
            default: body[name] = .string(text)
            }
        }
        return BodyReader(body)
    }

    private static func json(_ text: String, _ name: String) throws -> JSON {
        do {
            return try JSON(parsing: text)
        } catch {
            throw NodeError(unreadable: "The field '\(name)'", error)
        }
    }
}
