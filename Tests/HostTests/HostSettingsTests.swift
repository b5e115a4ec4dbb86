import Host
import IngressKit
import NodeKit
import OTA
import Testing

@Suite struct HostSettingsTests {
    @Test("a value comes from --set, else from the environment, else it is the default")
    func order() throws {
        let none = try HostSettings(environment: ["PATH": "/bin"])
        #expect(none.retention == Retention())
        #expect(try none.externalPackages() == ExternalPackages())
        let environment = [
            "RETENTION_TIMESERIES_DAYS": "30", "RETENTION_TIMESERIES_COUNT": "1000", "RETENTION_HISTORY_DAYS": "365",
            "OTA_EXTERNAL_ENABLED": "false", "OTA_EXTERNAL_URL_PATTERN": "https://x/{title}",
        ]
        let given = ["retention.history.days=0", "retention.timeseries.days=1", "retention.timeseries.days=2"]
        let settings = try HostSettings(given: given, environment: environment)
        #expect(settings.retention == Retention(timeseriesAge: .seconds(2 * 86400), timeseriesCount: 1000))
        #expect(
            try settings.externalPackages() == ExternalPackages(isEnabled: false, urlPattern: "https://x/{title}")
        )
    }

    @Test(
        "an unknown setting and a value that does not fit are refused with what would fit",
        arguments: [
            ("nothing=1", "known are ota.external.enabled"), ("ota.external.enabled", "gives no value"),
            ("ota.external.enabled=yes", "must be true or false, not 'yes'"),
            ("retention.timeseries.days=-1", "a whole number from 0 to 36500"),
            ("retention.timeseries.days=36501", "a whole number from 0 to 36500"),
            ("retention.timeseries.count=1000001", "RETENTION_TIMESERIES_COUNT"),
            ("retention.audit.count=0", "a whole number from 1 to 100000000"),
            ("retention.audit.count=100000001", "a whole number from 1 to 100000000"),
            (
                "ota.external.url.pattern=https://x/\u{0}",
                "'ota.external.url.pattern' must not have the character U+0000 in it"
            ),
        ]
    )
    func refused(given: String, text: String) {
        let error = #expect(throws: NodeError.self) { try HostSettings(given: [given], environment: [:]) }
        #expect(error?.message.contains(text) == true, "\(error?.message ?? "")")
    }

    @Test("of the audit log a year is kept, unless told otherwise")
    func audit() throws {
        let none = try HostSettings(environment: [:]).retention
        #expect(none.auditAge == .seconds(365 * 86400))
        #expect(none.auditCount == 100_000)
        let given = ["retention.audit.days=0"]
        let retention = try HostSettings(given: given, environment: ["RETENTION_AUDIT_COUNT": "1"]).retention
        #expect(retention == Retention(auditAge: nil, auditCount: 1))
    }

    @Test("the data folder is its user's alone and 64 MiB are kept free by default", .bug(id: "D2.2"))
    func dataFolder() throws {
        let none = try HostSettings(environment: [:])
        #expect(!none.isGroupReadable)
        #expect(none.reserveBytes == 67_108_864)
        #expect(none.signingKeyFile == nil)
        #expect(none.timestampAheadMax == .seconds(86_400))
        let given = ["data.group.read=true", "data.reserve.bytes=0", "timeseries.ahead.seconds=0"]
        let settings = try HostSettings(given: given, environment: ["SIGNING_KEY_FILE": "/run/secrets/key"])
        #expect(settings.isGroupReadable)
        #expect(settings.reserveBytes == 0)
        #expect(settings.signingKeyFile == "/run/secrets/key")
        #expect(settings.timestampAheadMax == nil)
    }

    @Test("the management API has a certificate if it and its key are named")
    func managementTLS() throws {
        #expect(try HostSettings(environment: [:]).managementTLS() == nil)
        let certificate = "management.tls.certificate.file=/c.pem"
        let both = try HostSettings(given: [certificate, "management.tls.key.file=/k.pem"], environment: [:])
        #expect(try both.managementTLS() == TLSSettings(certificateFile: "/c.pem", privateKeyFile: "/k.pem"))
        let error = #expect(throws: NodeError.self) {
            try HostSettings(given: [certificate], environment: [:]).managementTLS()
        }
        #expect(error?.message.contains("management.tls.key.file") == true)
    }

    @Test("the greatest values that are allowed are taken")
    func limits() throws {
        let given = [
            "retention.timeseries.days=36500", "retention.timeseries.count=1000000", "retention.audit.count=100000000",
        ]
        #expect(try HostSettings(given: given, environment: [:]).retention.timeseriesCount == 1_000_000)
        // A variable that is set to nothing counts as absent.
        #expect(try HostSettings(environment: ["OTA_EXTERNAL_ENABLED": ""]).externalPackages().isEnabled)
    }
}
