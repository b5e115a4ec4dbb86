import FoundationEssentials
import NodeKit
import OTA
import Testing

@Suite struct CredentialsRulesTests {
    static func credentials(
        _ kind: DeviceCredentials.Kind,
        _ id: String = "",
        _ value: String? = nil
    ) -> DeviceCredentials {
        DeviceCredentials(deviceId: .random(), kind: kind, credentialsId: id, credentialsValue: value)
    }

    @Test(
        "credentials that say too little are refused",
        arguments: [
            (credentials(.accessToken), "Device credentials id should be specified!"),
            (credentials(.mqttBasic, "x"), "Invalid credentials body for simple mqtt credentials!"),
            (credentials(.mqttBasic, "x", "[]"), "Invalid credentials body for simple mqtt credentials!"),
            (credentials(.mqttBasic, "x", #"{"password":"p"}"#), "Both mqtt client id and user name are empty!"),
            (credentials(.mqttBasic, "x", #"{"clientId":""}"#), "Both mqtt client id and user name are empty!"),
            (credentials(.x509Certificate, "x"), "Device credentials value should be specified!"),
            (
                credentials(.x509Certificate, "x", "not base64!"),
                "Device credentials value must be one certificate in PEM form!"
            ),
            (
                credentials(.x509Certificate, "x", "-----BEGIN A\nMAMC\n-----END A\n-----BEGIN B\nAQc=\n-----END B"),
                "Device credentials value must be one certificate in PEM form!"
            ),
        ]
    )
    func incomplete(credentials: DeviceCredentials, sentence: String) {
        #expect(refusal { _ = try CredentialsRules.completed(credentials) } == sentence)
    }

    @Test("U+0000 in the value is refused by name")
    func null() {
        let credentials = Self.credentials(.mqttBasic, "", #"{"clientId":"a\u0000"}"#)
        #expect(refusal { _ = try CredentialsRules.completed(credentials) }?.contains("'credentialsValue'") == true)
    }

    @Test("an access token is looked up by itself and has no value")
    func token() throws {
        let completed = try CredentialsRules.completed(Self.credentials(.accessToken, "t", "v"))
        #expect(completed.credentialsId == "t" && completed.credentialsValue == nil)
    }

    @Test("a certificate is looked up by its bytes, however its PEM text is written")
    func certificates() throws {
        let id = CredentialsRules.lookup(certificate: [48, 3, 2, 1, 7])
        for text in [
            "MAMCAQc=", "-----BEGIN CERTIFICATE-----\nMAMCAQc=\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\r\nMAMC\r\nAQc=\r\n-----END CERTIFICATE-----",
        ] {
            #expect(try CredentialsRules.completed(Self.credentials(.x509Certificate, "", text)).credentialsId == id)
        }
        #expect(CredentialsRules.lookup(certificate: [48, 3, 2, 1, 8]) != id)
    }

    @Test("what credentials are looked up by is short enough and of one device")
    func uniqueness() {
        func sentence(_ count: Int, isTaken: Bool) -> String? {
            let credentials = Self.credentials(.accessToken, String(repeating: "x", count: count))
            return refusal { try CredentialsRules.check(credentials, isTaken: isTaken) }
        }
        #expect(sentence(255, isTaken: false) == nil)
        #expect(sentence(256, isTaken: true) == "credentialsId length must be equal or less than 255")
        #expect(sentence(255, isTaken: true) == "Device credentials are already assigned to another device!")
    }

    @Test(
        "credentials that replace others end sessions only if something else must be presented",
        arguments: [
            (credentials(.accessToken, "t"), credentials(.accessToken, "t"), false),
            (credentials(.accessToken, "t"), credentials(.accessToken, "u"), true),
            (credentials(.accessToken, "t"), credentials(.mqttBasic, "t", "{}"), true),
            (credentials(.mqttBasic, "t", "{}"), credentials(.mqttBasic, "t", #"{"password":"p"}"#), true),
            (credentials(.accessToken, "\u{E9}"), credentials(.accessToken, "e\u{301}"), true),
        ]
    )
    func replacing(old: DeviceCredentials, wanted: DeviceCredentials, isOther: Bool) {
        let replaced = CredentialsRules.replaced(old, by: wanted)
        #expect(replaced.isOther == isOther)
        #expect(replaced.credentials.id == old.id && replaced.credentials.createdTime == old.createdTime)
        #expect(replaced.credentials.kind == wanted.kind)
        #expect(replaced.credentials.credentialsValue == wanted.credentialsValue)
    }

    @Test("random texts are of twenty letters and digits, and none comes twice")
    func random() {
        let texts = (0..<100).map { _ in CredentialsRules.randomText() }
        #expect(Set(texts).count == 100)
        #expect(texts.allSatisfy { $0.count == 20 && $0.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) } })
    }

    // MARK: MQTT

    static let device = Originator(id: UUID.random(), name: "d", type: "t")

    /// Whom a client is taken for, if these credentials are stored.
    private func device(_ login: MQTTLogin, if stored: [DeviceCredentials]) throws -> Originator? {
        var known: [String: KnownCredentials] = [:]
        for credentials in stored {
            let completed = try CredentialsRules.completed(credentials)
            known[completed.credentialsId] = KnownCredentials(
                device: Self.device,
                kind: completed.kind,
                value: completed.credentialsValue
            )
        }
        return login.device(among: login.lookups.map { known[$0] })
    }

    static func basic(_ value: String) -> DeviceCredentials { credentials(.mqttBasic, "", value) }

    @Test(
        "an MQTT client is the device whose credentials it presents in full",
        arguments: [
            (basic(#"{"clientId":"c"}"#), "c", nil, nil, true),
            (basic(#"{"clientId":"c"}"#), "c", "", "any", true),
            (basic(#"{"clientId":"c"}"#), "x", nil, nil, false),
            (basic(#"{"clientId":"c","password":"p"}"#), "c", nil, "p", true),
            (basic(#"{"clientId":"c","password":"p"}"#), "c", nil, nil, false),
            (basic(#"{"userName":"u"}"#), "any", "u", nil, true),
            (basic(#"{"userName":"u","password":"p"}"#), "any", "u", "p", true),
            (basic(#"{"userName":"u","password":"p"}"#), "any", "u", "q", false),
            (basic(#"{"clientId":"c","userName":"u","password":"p"}"#), "c", "u", "p", true),
            (basic(#"{"clientId":"c","userName":"u","password":"p"}"#), "c", "u", "P", false),
            (basic(#"{"clientId":"c","userName":"u","password":"p"}"#), "x", "u", "p", false),
            (basic(#"{"clientId":"c","userName":"u","password":"p"}"#), "c", nil, "p", false),
            (credentials(.accessToken, "t"), "any", "t", nil, true),
            (credentials(.accessToken, "t"), "t", nil, nil, false),
            (credentials(.x509Certificate, "", "MAMCAQc="), "any", "t", nil, false),
        ] as [(DeviceCredentials, String, String?, String?, Bool)]
    )
    func login(
        stored: DeviceCredentials,
        clientId: String,
        userName: String?,
        password: String?,
        isDevice: Bool
    ) throws {
        let login = MQTTLogin(clientId: clientId, userName: userName, password: password)
        #expect(try (self.device(login, if: [stored]) != nil) == isDevice)
    }

    @Test("a wrong password ends a login, so that the user name does not then count as a token")
    func wrongPassword() throws {
        let stored = [
            Self.basic(#"{"clientId":"c","userName":"t","password":"p"}"#), Self.credentials(.accessToken, "t"),
        ]
        func device(_ clientId: String, _ password: String) throws -> Originator? {
            try self.device(MQTTLogin(clientId: clientId, userName: "t", password: password), if: stored)
        }
        #expect(try device("c", "p") == Self.device)
        #expect(try device("c", "q") == nil)
        #expect(try device("other", "q") == Self.device)
    }
}

@Suite struct ProvisioningRulesTests {
    static let device = Device(name: "pump", deviceProfileId: .random())
    static let token = DeviceCredentials(deviceId: device.id, credentialsId: "t")

    static func profile(
        _ kind: ProfileProvisioning.Kind,
        secret: String? = "s",
        id: DeviceProfileId = device.deviceProfileId
    ) -> DeviceProfile {
        DeviceProfile(
            id: id,
            name: "p",
            provisioning: ProfileProvisioning(kind: kind, deviceKey: "k", deviceSecret: secret)
        )
    }

    @Test(
        "a request is admitted if the profile provisions by key and the secret is right",
        arguments: [
            (profile(.allowCreateNewDevices), true), (profile(.checkPreProvisionedDevices), true),
            (profile(.disabled), false), (profile(.x509CertificateChain), false),
            (profile(.allowCreateNewDevices, secret: "S"), false),
            (profile(.allowCreateNewDevices, secret: nil), false),
        ]
    )
    func admission(profile: DeviceProfile, isAdmitted: Bool) {
        let request = ProvisionRequest(deviceName: "pump", deviceKey: "k", deviceSecret: "s")
        #expect(ProvisioningRules.admits(request, to: profile) == isAdmitted)
    }

    private static func known(_ credentials: DeviceCredentials? = token, state: JSON? = nil)
        -> ProvisioningRules.KnownDevice
    {
        ProvisioningRules.KnownDevice(device: device, type: "t", credentials: credentials, state: state)
    }

    @Test(
        "a profile makes devices, or hands out the credentials of those that were made for it, once",
        arguments: [
            (nil, profile(.allowCreateNewDevices), "create"),
            (known(), profile(.allowCreateNewDevices), "pump: a device with this name exists already"),
            (known(), profile(.checkPreProvisionedDevices), "hand out t to pump"),
            (known(state: "other"), profile(.checkPreProvisionedDevices), "hand out t to pump"),
            (
                known(state: AttributeEntry.provisionedState), profile(.checkPreProvisionedDevices),
                "pump: the device has its credentials already"
            ),
            (nil, profile(.checkPreProvisionedDevices), "no device with this name was made for the profile"),
            (known(nil), profile(.checkPreProvisionedDevices), "no device with this name was made for the profile"),
            (
                known(), profile(.checkPreProvisionedDevices, id: .random()),
                "no device with this name was made for the profile"
            ),
        ] as [(ProvisioningRules.KnownDevice?, DeviceProfile, String)]
    )
    func answers(known: ProvisioningRules.KnownDevice?, profile: DeviceProfile, expected: String) {
        let answer =
            switch ProvisioningRules.answer(about: known, in: profile) {
            case nil: "create"
            case .provisioned(let device, let credentials): "hand out \(credentials.credentialsId) to \(device.name)"
            case .refused(let reason, let device): device.map { "\($0.name): \(reason)" } ?? reason
            case .notFound: "not found"
            }
        #expect(answer == expected)
    }

    private func created(_ request: ProvisionRequest) throws -> (device: Device, credentials: DeviceCredentials) {
        try ProvisioningRules.created(
            for: request,
            in: Self.profile(.allowCreateNewDevices),
            at: Timestamp(milliseconds: 5)
        ) { "random" }
    }

    private func request(
        _ name: String = "pump",
        _ credentials: ProvisionRequest.Credentials? = nil,
        isGateway: Bool = false
    ) -> ProvisionRequest {
        ProvisionRequest(
            deviceName: name,
            deviceKey: "k",
            deviceSecret: "s",
            credentials: credentials,
            isGateway: isGateway
        )
    }

    @Test("a device gets the name and the credentials that it wants, or random ones")
    func creation() throws {
        let plain = try self.created(self.request())
        #expect(plain.device.name == "pump" && plain.device.deviceProfileId == Self.device.deviceProfileId)
        #expect(plain.device.createdTime == Timestamp(milliseconds: 5) && plain.device.additionalInfo == nil)
        #expect(plain.credentials.deviceId == plain.device.id && plain.credentials.kind == .accessToken)
        #expect(plain.credentials.credentialsId == "random")
        let gateway = try self.created(self.request("", isGateway: true)).device
        #expect(gateway.name == "random" && gateway.additionalInfo == ["gateway": true])
        #expect(try self.created(self.request("d", .accessToken("mine"))).credentials.credentialsId == "mine")
        let basic = try self.created(self.request("d", .mqttBasic(clientId: "c", userName: nil, password: "p")))
        #expect(basic.credentials.kind == .mqttBasic && !basic.credentials.credentialsId.isEmpty)
        let value = try JSON(parsing: basic.credentials.credentialsValue ?? "")
        #expect(value["clientId"] == "c" && value["password"] == "p" && value["userName"] == .null)
        let certificate = try self.created(self.request("d", .x509Certificate("MAMCAQc="))).credentials
        #expect(certificate.credentialsId == CredentialsRules.lookup(certificate: [48, 3, 2, 1, 7]))
    }

    @Test("a rule that the wanted device or its credentials break is the answer, and no other error is")
    func refusals() {
        #expect(refusal { _ = try self.created(self.request(" ")) } == "Device name should be specified!")
        #expect(
            refusal { _ = try self.created(self.request("d", .accessToken(""))) }
                == "Device credentials id should be specified!"
        )
        guard case .refused("no", nil)? = ProvisioningRules.refusal(by: NodeError(.badRequest, "no")) else {
            Issue.record("not refused")
            return
        }
        let others: [any Error] = [NodeError(.storageFull, "no"), CancellationError()]
        for error in others where ProvisioningRules.refusal(by: error) != nil { Issue.record("\(error) is an answer") }
    }
}
