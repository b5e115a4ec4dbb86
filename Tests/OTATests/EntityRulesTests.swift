import NodeKit
import OTA
import Testing

/// The sentence of the rule that is broken; `nil` if none is.
func refusal(sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch let error as NodeError {
        #expect(error.code == .badRequest, sourceLocation: sourceLocation)
        return error.message
    } catch {
        Issue.record("not a NodeError: \(error)", sourceLocation: sourceLocation)
        return nil
    }
}

@Suite struct EntityRulesTests {
    @Test("a missing entity of any kind is named in the words of ThingsBoard")
    func missing() throws {
        func expect<Entity: NamedEntity>(_ kind: Entity.Type, _ noun: String) throws {
            let id = EntityID<Entity>.random()
            let error = EntityRules.missing(id)
            #expect(error.message == "\(noun) with id [\(id)] is not found" && error.code == .notFound)
            #expect(throws: NodeError.self) { _ = try EntityRules.found(nil as Int?, id) }
            #expect(try EntityRules.found(7, id) == 7)
        }
        try expect(Tenant.self, "Tenant")
        try expect(User.self, "User")
        try expect(ApiKey.self, "API key")
        try expect(Device.self, "Device")
        try expect(DeviceProfile.self, "Device profile")
        try expect(OtaPackage.self, "Ota package")
        try expect(PersistentCallEntity.self, "Rpc")
    }

    @Test(
        "a name that is missing, empty or blank is refused, and only where blank is enough it passes",
        arguments: [(nil, false, false), ("", false, false), (" \n", false, true), ("x", true, true)]
            as [(String?, Bool, Bool)]
    )
    func given(text: String?, isGiven: Bool, isGivenIfBlankIsEnough: Bool) {
        let sentence = "Device name should be specified!"
        #expect(refusal { try EntityRules.checkGiven(text, "Device name") } == (isGiven ? nil : sentence))
        #expect(
            refusal { try EntityRules.checkGiven(text, "Device name", isBlankEnough: true) }
                == (isGivenIfBlankIsEnough ? nil : sentence)
        )
    }

    @Test("a text has at most as many characters as the limit says, counted as databases do")
    func lengths() {
        #expect(refusal { try EntityRules.checkLength(nil, of: "label") } == nil)
        for character in ["x", "é", "\u{1F680}"] {
            #expect(
                refusal { try EntityRules.checkLength(String(repeating: character, count: 255), of: "label") } == nil
            )
            #expect(
                refusal { try EntityRules.checkLength(String(repeating: character, count: 256), of: "label") }
                    == "label length must be equal or less than 255"
            )
        }
        // One letter with a mark is two.
        #expect(
            refusal { try EntityRules.checkLength(String(repeating: "e\u{301}", count: 3), of: "tag", max: 5) }
                == "tag length must be equal or less than 5"
        )
    }

    @Test("what is taken, refers to nothing, or is used, is refused")
    func others() {
        #expect(refusal { try EntityRules.checkUnique("Device with such name", isTaken: false) } == nil)
        #expect(
            refusal { try EntityRules.checkUnique("Device with such name", isTaken: true) }
                == "Device with such name already exists!"
        )
        #expect(refusal { try EntityRules.checkReference(from: "User", to: "tenant", exists: true) } == nil)
        #expect(
            refusal { try EntityRules.checkReference(from: "User", to: "tenant", exists: false) }
                == "User is referencing to non-existent tenant!"
        )
        #expect(refusal { try EntityRules.checkUnused("software", by: "devices", isUsed: false) } == nil)
        #expect(
            refusal { try EntityRules.checkUnused("software", by: "devices", isUsed: true) }
                == "The software referenced by the devices cannot be deleted!"
        )
    }
}
