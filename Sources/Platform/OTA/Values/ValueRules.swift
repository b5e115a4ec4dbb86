public import NodeKit

/// The rules of attributes and time series, with the sentences that ThingsBoard answers when one is broken.
public enum ValueRules {
    /// Checks the names of attributes or time series; asked for each report.
    ///
    /// - Throws: ``NodeError`` with ``NodeError/Code/badRequest`` if one is empty, or longer than ``EntityRules/textLengthMax``.
    public static func checkKeys(_ values: JSON.Object) throws(NodeError) {
        for (key, _) in values.members {
            guard !key.isEmpty else { throw EntityRules.broken("Key can't be empty!") }
            try EntityRules.checkLength(key, of: "key")
        }
    }
}
