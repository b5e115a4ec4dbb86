public import NodeKit
import OTA

/// Stores the time series that a device reported, in any of ThingsBoard's forms.
///
/// The message goes on meanwhile, as far as nothing needs to know the outcome; see ``Emission/route(_:to:storing:)``.
///
/// | Relation  | When                                                               |
/// |-----------|--------------------------------------------------------------------|
/// | `Success` | The values are stored; a device may be told so.                    |
/// | `Failure` | The data is no telemetry (`bad-request`), or could not be stored.  |
public struct SaveTelemetryNode: ImmediateNode {
    /// Everything the host, the chain checker and the reference page need to know.
    public static let descriptor = NodeDescriptor(
        type: "save-telemetry",
        summary: "Stores the message's data as time series of the device.",
        relations: [
            RelationDescriptor(.success, "The values are stored."),
            RelationDescriptor(.failure, "The data is no telemetry, or could not be stored."),
        ],
        overtakesWrites: true
    )

    private let timeseries: any TimeseriesService

    /// Reads the configuration; opens nothing and starts nothing.
    public init(configuration: Configuration, services: NodeServices) throws {
        self.timeseries = try services.require((any TimeseriesService).self)
    }

    /// Stores the points.
    ///
    /// Those without a time get times of the host. The message goes on with the first of these, so that what else is stored about it
    /// agrees.
    public func decide(_ message: consuming Message) throws -> Emission {
        guard case .json(let data) = message.data else {
            throw NodeError(.badRequest, "telemetry must be JSON")
        }
        var points = try data.telemetryPoints()
        guard !points.isEmpty else { return .route(message, to: .success) }
        var message = message
        let time = self.timeseries.settleTimes(of: &points, reportedBy: message.device, at: message.timestamp)
        if time != message.timestamp { message.timestamp = time }
        let write = try self.timeseries.beginSavingTimeseries(of: message.device, points, at: message.timestamp)
        return .route(message, to: .success, storing: write)
    }
}
