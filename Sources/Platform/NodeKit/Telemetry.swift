/// Values that a device reported for one moment.
public struct TelemetryPoint: Sendable, Hashable {
    /// When; `nil` means the time the server received it.
    public var timestamp: Timestamp?
    /// Key and value of each series; `null` values are left out.
    public var values: JSON.Object

    /// Makes a point.
    public init(timestamp: Timestamp?, values: JSON.Object) {
        self.timestamp = timestamp
        self.values = values
    }
}

extension JSON {
    /// Reads any of ThingsBoard's telemetry forms.
    ///
    /// `{"k":v}`, `{"ts":ms,"values":{…}}`, or an array of either. Members that are `null` are left out; an empty
    /// object or array is no data.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` for any other shape.
    public func telemetryPoints() throws(NodeError) -> [TelemetryPoint] {
        switch self {
        case .object(let object):
            let point = try Self.telemetryPoint(object)
            return point.values.isEmpty ? [] : [point]
        case .array(let elements):
            var points: [TelemetryPoint] = []
            for element in elements {
                let point = try Self.telemetryPoint(try Self.telemetryObject(element))
                if !point.values.isEmpty { points.append(point) }
            }
            return points
        default:
            throw Self.notTelemetry
        }
    }

    /// Refuses what ``telemetryPoints()`` would, without making the points.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest``.
    public func requireTelemetry() throws(NodeError) {
        guard case .array(let elements) = self else {
            _ = try Self.telemetryMoment(try Self.telemetryObject(self))
            return
        }
        for element in elements { _ = try Self.telemetryMoment(try Self.telemetryObject(element)) }
    }

    private static var notTelemetry: NodeError {
        NodeError(.badRequest, "telemetry must be a JSON object or an array of objects")
    }

    private static func telemetryObject(_ value: JSON) throws(NodeError) -> Object {
        guard case .object(let object) = value else { throw Self.notTelemetry }
        return object
    }

    private static func telemetryPoint(_ object: Object) throws(NodeError) -> TelemetryPoint {
        let moment = try Self.telemetryMoment(object)
        return TelemetryPoint(timestamp: moment.timestamp, values: moment.values.withoutNulls)
    }

    /// The time that one element of telemetry gives, if it does, and its values.
    private static func telemetryMoment(
        _ object: Object
    ) throws(NodeError) -> (timestamp: Timestamp?, values: Object) {
        guard let ts = object["ts"], let values = object["values"] else { return (nil, object) }
        guard case .integer(let milliseconds) = ts, case .object(let values) = values else {
            throw NodeError(.badRequest, "'ts' must be an integer of milliseconds and 'values' an object")
        }
        return (Timestamp(milliseconds: milliseconds), values)
    }

    /// The value that telemetry in any of its forms gives for a key; in an array the last element that has it counts.
    func telemetryValue(forKey key: String) -> JSON? {
        switch self {
        case .object(let object):
            return object[key] ?? object["values"]?[key]
        case .array(let elements):
            for element in elements.reversed() {
                guard case .object = element else { continue }
                if let value = element.telemetryValue(forKey: key) { return value }
            }
            return nil
        default:
            return nil
        }
    }
}

extension JSON.Object {
    /// The object without members whose value is `null`.
    public var withoutNulls: JSON.Object {
        guard self.members.contains(where: { $0.value.isNull }) else { return self }
        return self.filtered { !$0.value.isNull }
    }
}
