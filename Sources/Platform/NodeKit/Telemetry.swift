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
                guard case .object(let object) = element else {
                    throw NodeError(.badRequest, "telemetry must be an object or an array of objects")
                }
                let point = try Self.telemetryPoint(object)
                if !point.values.isEmpty { points.append(point) }
            }
            return points
        default:
            throw NodeError(.badRequest, "telemetry must be an object or an array of objects")
        }
    }

    private static func telemetryPoint(_ object: Object) throws(NodeError) -> TelemetryPoint {
        guard let ts = object["ts"], let values = object["values"] else {
            return TelemetryPoint(timestamp: nil, values: object.withoutNulls)
        }
        guard case .integer(let milliseconds) = ts, case .object(let values) = values else {
            throw NodeError(.badRequest, "'ts' must be an integer of milliseconds and 'values' an object")
        }
        return TelemetryPoint(timestamp: Timestamp(milliseconds: milliseconds), values: values.withoutNulls)
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
