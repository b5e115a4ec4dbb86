import HTTPTypes
import Hummingbird
import NIOCore
import NodeKit

/// A failure as the API answers it: an HTTP status, ThingsBoard's error code and a sentence.
struct APIError: Error {
    let status: HTTPResponse.Status
    let code: Int
    let message: String
    var headers: HTTPFields = [:]

    init(_ status: HTTPResponse.Status, _ code: Int, _ message: String, headers: HTTPFields = [:]) {
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
    }

    /// Turns what a service threw into an answer.
    ///
    /// - Returns: `nil` for what nobody expected, whose text is not for clients.
    init?(_ error: any Error) {
        switch error {
        case let error as APIError: self = error
        case let error as NodeError:
            guard error.code != .internalError, error.code != "missing-service" else { return nil }
            switch error.code {
            case .badRequest: self.init(.badRequest, 31, error.message)
            case .unauthorized: self.init(.unauthorized, 10, error.message)
            case .forbidden: self.init(.forbidden, 20, error.message)
            case .notFound: self.init(.notFound, 32, error.message)
            case .conflict: self.init(.conflict, 35, error.message)
            case .tooLarge: self.init(.contentTooLarge, 31, error.message)
            case .tooManyRequests: self.init(.tooManyRequests, 33, error.message)
            case .storageFull: self.init(.insufficientStorage, 2, error.message)
            case .unavailable: self.init(.serviceUnavailable, 2, error.message)
            case .timedOut: self.init(.gatewayTimeout, 2, error.message)
            default: self.init(.internalServerError, 2, error.message)
            }
        case is CancellationError:
            self.init(.serviceUnavailable, 2, "The host is shutting down")
        default: return nil
        }
    }

    static func badRequest(_ message: String) -> APIError { APIError(.badRequest, 31, message) }

    static func missing(parameter name: String) -> APIError { .badRequest("Parameter '\(name)' can't be empty!") }

    static func notFound(_ kind: String, _ id: some CustomStringConvertible) -> APIError {
        APIError(.notFound, 32, "\(kind) with id [\(id)] is not found")
    }

    static let itemNotFound = APIError(.notFound, 32, "Requested item wasn't found!")

    static let pathNotFound = APIError(.notFound, 32, "Not Found")

    static let invalidLogin = APIError(.unauthorized, 10, "Invalid username or password")

    static let notAuthenticated = APIError(.unauthorized, 10, "Authentication failed")

    static let accountNotActive = APIError(.unauthorized, 10, "User account is not active")

    static let tokenExpired = APIError(.unauthorized, 11, "Token has expired")

    static let forbidden = APIError(.forbidden, 20, "You don't have permission to perform this operation!")

    static let unexpected = APIError(.internalServerError, 2, "An unexpected error; the host's log has its text")

    func response(at time: Timestamp) -> Response {
        var response = Response.json([
            "status": .integer(Int64(self.status.code)),
            "message": .string(self.message),
            "errorCode": .integer(Int64(self.code)),
            "timestamp": .integer(time.rawValue),
        ])
        response.status = self.status
        for field in self.headers { response.headers.append(field) }
        return response
    }
}

extension HTTPResponse.Status {
    /// 507, RFC 4918 §11.5.
    static let insufficientStorage = HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
}

extension Response {
    /// An answer of a JSON value.
    static func json(_ value: JSON, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status,
            headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: value.bytes)
        )
    }

    /// An answer of nothing but success.
    static var empty: Response { Response(status: .ok) }
}
