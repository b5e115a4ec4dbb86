"""A device that talks HTTP."""

import requests

TIMEOUT = 30


class HTTPDevice:
    """A keep-alive connection under one access token."""

    def __init__(self, host, token):
        self.base = f"{host.url('http')}/api/v1/{token}"
        self.session = requests.Session()

    def telemetry(self, body):
        return self.session.post(f"{self.base}/telemetry", json=body, timeout=TIMEOUT)

    def attributes(self, **query):
        return self.session.get(f"{self.base}/attributes", params=query, timeout=TIMEOUT)

    def firmware(self, title, version, **query):
        query = {"title": title, "version": version, **query}
        return self.session.get(f"{self.base}/firmware", params=query, timeout=TIMEOUT)

    def close(self):
        self.session.close()
