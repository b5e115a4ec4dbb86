import FoundationEssentials

/// A certificate with its private key, for tests of TLS; valid until the year 2126 and worth nothing elsewhere.
public struct TestCertificate: Sendable {
    /// The certificate in PEM form.
    public let certificate: String
    /// Its private key in PEM form.
    public let privateKey: String

    /// Writes both as files.
    ///
    /// - Parameters:
    ///   - folder: An existing folder.
    ///   - name: What the files are called, before `.pem` and `.key`.
    /// - Returns: The paths of certificate and key.
    /// - Throws: What writing a file throws.
    public func write(to folder: String, as name: String) throws -> (certificate: String, privateKey: String) {
        let paths = ("\(folder)/\(name).pem", "\(folder)/\(name).key")
        try Data(self.certificate.utf8).write(to: URL(filePath: paths.0), options: .atomic)
        try Data(self.privateKey.utf8).write(to: URL(filePath: paths.1), options: .atomic)
        return paths
    }

    /// The authority that issued ``server``, ``renewed`` and ``client``.
    public static let authority = TestCertificate(
        certificate: """
            -----BEGIN CERTIFICATE-----
            MIIBnDCCAUGgAwIBAgIUI1wrZZb0C+Z3/Y+Sxmk3gQ3EmHkwCgYIKoZIzj0EAwIw
            IjEgMB4GA1UEAwwXV2luZGxhc3MgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTI1MTU0
            NTEwWhgPMjEyNjExMDExNTQ1MTBaMCIxIDAeBgNVBAMMF1dpbmRsYXNzIHRlc3Qg
            YXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoHjOyftYfJPp4j2Q
            FeBFXzc4NZ4Td9j3tjEbMoB0PXbCXXs4dHYu0Xmb8ez2jLFIC1W4kwrk0q2cr9qq
            i2tQp6NTMFEwHQYDVR0OBBYEFFqaJdYpvmgk+UXgNtd2uDBIegEXMB8GA1UdIwQY
            MBaAFFqaJdYpvmgk+UXgNtd2uDBIegEXMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZI
            zj0EAwIDSQAwRgIhAIsN0CemION47Skj9DTOxr91UiTOG/986lVIICXjPDaVAiEA
            gRHDm1WJ2cI57rkGf21uY+blNQzV1DSehdrbspLfFyw=
            -----END CERTIFICATE-----

            """,
        privateKey: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtqOxgf9OxQ2tq2k+
            yvAT8Ji88F218TEtParU9STTC2KhRANCAASgeM7J+1h8k+niPZAV4EVfNzg1nhN3
            2Pe2MRsygHQ9dsJdezh0di7ReZvx7PaMsUgLVbiTCuTSrZyv2qqLa1Cn
            -----END PRIVATE KEY-----

            """
    )

    /// A server named `localhost`, `127.0.0.1` and `::1`.
    public static let server = TestCertificate(
        certificate: """
            -----BEGIN CERTIFICATE-----
            MIIBuDCCAV2gAwIBAgIUfF5Y2qGr3I6ojeV6eAIOXbDsHM4wCgYIKoZIzj0EAwIw
            IjEgMB4GA1UEAwwXV2luZGxhc3MgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTI1MTU0
            NTEwWhgPMjEyNjExMDExNTQ1MTBaMBYxFDASBgNVBAMMC3NlcnZlci50ZXN0MFkw
            EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9wDLA3SLSuXFILxpnIggzCJ4Lm6lD/nI
            Kn8PhR3nunKWkqp4GDzWxWK/jWtSITltvP7lRwncTTwfGC7BDAuviaN7MHkwLAYD
            VR0RBCUwI4IJbG9jYWxob3N0hwR/AAABhxAAAAAAAAAAAAAAAAAAAAABMAkGA1Ud
            EwQCMAAwHQYDVR0OBBYEFPLAMsAq8RK6Lfeq+2dn8VWRRQivMB8GA1UdIwQYMBaA
            FFqaJdYpvmgk+UXgNtd2uDBIegEXMAoGCCqGSM49BAMCA0kAMEYCIQCESSzl4Rw1
            V7IEiOIjBHZBYJLPpOL/dBTz7zSDe6MCsQIhAOn3I6W5KhxNppMMNjwyjK322hFY
            cZ3V1XI3UVHSyPfE
            -----END CERTIFICATE-----

            """,
        privateKey: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg75bEi0nCWyQYh1QL
            2lNz3hu9K1PfmM9zPy7qL4QG+EWhRANCAAT3AMsDdItK5cUgvGmciCDMIngubqUP
            +cgqfw+FHee6cpaSqngYPNbFYr+Na1IhOW28/uVHCdxNPB8YLsEMC6+J
            -----END PRIVATE KEY-----

            """
    )

    /// Another certificate for the same server.
    public static let renewed = TestCertificate(
        certificate: """
            -----BEGIN CERTIFICATE-----
            MIIBuDCCAV6gAwIBAgIUfF5Y2qGr3I6ojeV6eAIOXbDsHM8wCgYIKoZIzj0EAwIw
            IjEgMB4GA1UEAwwXV2luZGxhc3MgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTI1MTU0
            NTEwWhgPMjEyNjExMDExNTQ1MTBaMBcxFTATBgNVBAMMDHJlbmV3ZWQudGVzdDBZ
            MBMGByqGSM49AgEGCCqGSM49AwEHA0IABO6CCKBLAlxvtdZE+TaMptbIXyJ4/IPz
            Rm2zxLxYV2CHt+bTb14RmrreyVJHUXWa61D+YqlwmSHC1agh5nfuSmujezB5MCwG
            A1UdEQQlMCOCCWxvY2FsaG9zdIcEfwAAAYcQAAAAAAAAAAAAAAAAAAAAATAJBgNV
            HRMEAjAAMB0GA1UdDgQWBBR1B66MttPFrwNooMleqT7wZ0AZODAfBgNVHSMEGDAW
            gBRamiXWKb5oJPlF4DbXdrgwSHoBFzAKBggqhkjOPQQDAgNIADBFAiAGiGc0HgLU
            kFoq9kKQB51N2uPooDC46A18BJshhDUFYgIhAK04Ux+3lWL5z0yEFWbWAjNCzdjw
            PJhJ3o663Xsy7nYq
            -----END CERTIFICATE-----

            """,
        privateKey: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmoy4HIwQQTX48JSN
            nPfEj6Qls3pNgOngJl3wH3QqTyWhRANCAATuggigSwJcb7XWRPk2jKbWyF8iePyD
            80Zts8S8WFdgh7fm029eEZq63slSR1F1mutQ/mKpcJkhwtWoIeZ37kpr
            -----END PRIVATE KEY-----

            """
    )

    /// A client.
    public static let client = TestCertificate(
        certificate: """
            -----BEGIN CERTIFICATE-----
            MIIBtjCCAV2gAwIBAgIUfF5Y2qGr3I6ojeV6eAIOXbDsHNAwCgYIKoZIzj0EAwIw
            IjEgMB4GA1UEAwwXV2luZGxhc3MgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTI1MTU0
            NTEwWhgPMjEyNjExMDExNTQ1MTBaMBYxFDASBgNVBAMMC2NsaWVudC50ZXN0MFkw
            EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVXOlwPN/R4IqgQqdD+IFBMUwDk2QXEZ6
            Vjo3RiQJ1VysGUYsZHTRtq5j94ZKNjUOWx8l5IVPLS45YmSinKe13qN7MHkwLAYD
            VR0RBCUwI4IJbG9jYWxob3N0hwR/AAABhxAAAAAAAAAAAAAAAAAAAAABMAkGA1Ud
            EwQCMAAwHQYDVR0OBBYEFEmcfkOJSiZH1YfF6zt6K8+Aq72mMB8GA1UdIwQYMBaA
            FFqaJdYpvmgk+UXgNtd2uDBIegEXMAoGCCqGSM49BAMCA0cAMEQCIDydz2AruwBT
            NwNw5+ANvPzw81ZsCwRtWZI7tp2jb8/7AiAHzO03YlIggdBWpUpAbX5cESwpc1Ac
            M0Z5PMTN8w6mfg==
            -----END CERTIFICATE-----

            """,
        privateKey: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYLqdSOVWp3Hb+KqP
            WEZtXrFhO6N8Fc5h6gg3cB6P6HqhRANCAARVc6XA839HgiqBCp0P4gUExTAOTZBc
            RnpWOjdGJAnVXKwZRixkdNG2rmP3hko2NQ5bHyXkhU8tLjliZKKcp7Xe
            -----END PRIVATE KEY-----

            """
    )

    /// A client that signed its certificate itself.
    public static let stranger = TestCertificate(
        certificate: """
            -----BEGIN CERTIFICATE-----
            MIIBhjCCAS2gAwIBAgIUF/HyZZtKgMipKKwrm6J9YlKo03QwCgYIKoZIzj0EAwIw
            GDEWMBQGA1UEAwwNc3RyYW5nZXIudGVzdDAgFw0yNjExMjUxNTQ1MTBaGA8yMTI2
            MTEwMTE1NDUxMFowGDEWMBQGA1UEAwwNc3RyYW5nZXIudGVzdDBZMBMGByqGSM49
            AgEGCCqGSM49AwEHA0IABCOLAEzEOaW1B7g7y1YskLtRyBtk5RFB9V3s4Xty255L
            qggZ0LNFIimlfNODJhWucpxW+sAa186joiWv9lxVgoyjUzBRMB0GA1UdDgQWBBTM
            4CGI32SPQb+Aywv543ixuu862zAfBgNVHSMEGDAWgBTM4CGI32SPQb+Aywv543ix
            uu862zAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIAYmmtyaXB5s
            Lsv33nGzLBclJiFKlXgh30X/j+tiqK/9AiAb1OGRXeGcHaVHK6ERW1dVtMqfIWiX
            3vV2mhGvp+XE5w==
            -----END CERTIFICATE-----

            """,
        privateKey: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjCFP/Q10+jvfJpmY
            kuad4+rh2HfQKAq1201qjwIXaTahRANCAAQjiwBMxDmltQe4O8tWLJC7UcgbZOUR
            QfVd7OF7ctueS6oIGdCzRSIppXzTgyYVrnKcVvrAGtfOo6Ilr/ZcVYKM
            -----END PRIVATE KEY-----

            """
    )
}
