/// Fills `${NAME}` and `${NAME:-default}` in attribute values from the environment; `$${` stands for `${`.
struct EnvironmentText {
    /// Why a text cannot be filled.
    struct Fault: Error {
        let code: String
        let message: String
        let help: String
    }

    let environment: [String: String]

    /// Fills a text.
    ///
    /// As in a shell, an empty value counts as unset where there is a default.
    func fill(_ text: String) throws(Fault) -> String {
        guard text.contains("${") else { return text }
        var filled = ""
        var rest = text[...]
        while let reference = rest.firstRange(of: "${") {
            if rest[..<reference.lowerBound].hasSuffix("$") {
                filled += rest[..<reference.lowerBound].dropLast() + "${"
                rest = rest[reference.upperBound...]
                continue
            }
            filled += rest[..<reference.lowerBound]
            rest = rest[reference.upperBound...]
            guard let end = rest.firstIndex(of: "}") else {
                throw Fault(
                    code: "bad-environment-reference",
                    message: "'${' has no '}'",
                    help: "write ${NAME} or ${NAME:-default}, or $${ for the characters themselves"
                )
            }
            filled += try self.value(of: rest[..<end])
            rest = rest[rest.index(after: end)...]
        }
        return filled + rest
    }

    private func value(of reference: Substring) throws(Fault) -> String {
        let separator = reference.firstRange(of: ":-")
        let name = String(separator.map { reference[..<$0.lowerBound] } ?? reference)
        guard let first = name.unicodeScalars.first, !("0"..."9").contains(first),
            name.unicodeScalars.allSatisfy({
                $0 == "_" || ($0.isASCII && $0.properties.isAlphabetic) || ("0"..."9").contains($0)
            })
        else {
            throw Fault(
                code: "bad-environment-reference",
                message: "'\(name)' is not the name of an environment variable",
                help: "write ${NAME} or ${NAME:-default}, or $${ for the characters themselves"
            )
        }
        if let separator {
            if let value = self.environment[name], !value.isEmpty { return value }
            return String(reference[separator.upperBound...])
        }
        guard let value = self.environment[name] else {
            throw Fault(
                code: "unset-environment",
                message: "the environment variable '\(name)' is not set",
                help: "set it, or give a default with ${\(name):-…}"
            )
        }
        return value
    }
}
