"""Certificates for hosts on loopback and for devices, made anew in every run."""

import trustme


class Authority:
    """An authority of the test's own, with its certificate in a file for clients."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = trustme.CA()
        self.file = folder / "authority.pem"
        self.authority.cert_pem.write_to_path(self.file)

    def server(self, name="server"):
        """Writes a certificate for `localhost` and loopback addresses; returns the paths of certificate and key."""
        return self._write(self.authority.issue_cert("localhost", "127.0.0.1", "::1"), name)

    def client(self, name):
        """Writes a certificate for a device; returns the paths of certificate and key."""
        return self._write(self.authority.issue_cert(f"{name}.test", common_name=name), name)

    def _write(self, certificate, name):
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(key)
        return chain, key
