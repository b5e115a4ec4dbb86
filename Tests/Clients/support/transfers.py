"""Downloads that go on through whatever happens to the host, one class for each transport."""

import http.client
import time
import urllib.parse

import paho.mqtt.client as paho
from aiocoap.numbers.codes import Code

from .coap_device import CoAPDevice
from .mqtt_device import Disconnected, MQTTDevice

CHUNK = 1024


class HTTPTransfer:
    """Fetches over HTTP in one connection: one that the server closes is a failure, not a reason to open another."""

    failures = (OSError, http.client.HTTPException)

    def __init__(self, host, device, package):
        self.query = {"title": package["title"], "version": package["version"], "size": CHUNK}
        self.path = f"/api/v1/{device['token']}"
        self.client = http.client.HTTPConnection(*host.addresses["http"], timeout=30)
        self.client.connect()
        self.client.auto_open = 0

    def _request(self, method, path, body=None):
        self.client.request(method, self.path + path, body=body)
        reply = self.client.getresponse()
        content = reply.read()
        assert reply.status == 200, f"{method} {path}: {reply.status} {content[:200]}"
        return content

    def chunk(self, index):
        return self._request("GET", "/firmware?" + urllib.parse.urlencode({**self.query, "chunk": index}))

    def close(self):
        self.client.close()


class MQTTTransfer:
    """Fetches over MQTT in one session."""

    failures = (Disconnected, OSError)

    def __init__(self, host, device, package, protocol=paho.MQTTv5):
        self.client = MQTTDevice(host, device["token"], protocol)

    def chunk(self, index):
        return self.client.chunk(1, index, CHUNK)

    def close(self):
        self.client.close()


class CoAPTransfer:
    """Fetches over CoAP, a block for each chunk; repeats a request that is not answered."""

    failures = (TimeoutError,)

    def __init__(self, host, device, package):
        self.query = (f"title={package['title']}", f"version={package['version']}")
        self.client = CoAPDevice(host, device["token"])

    def chunk(self, index):
        answer = self.client.firmware(*self.query, block=(index, 6), seconds=60)
        assert answer.code == Code.CONTENT, f"block {index}: {answer.code} {answer.payload[:200]}"
        return answer.payload

    def close(self):
        self.client.close()


TRANSFERS = [HTTPTransfer, MQTTTransfer, CoAPTransfer]


def persistent_download(transfer_type, host, device, package, size, on_chunk, deadline):
    """Fetches a file, opening a new connection after each failure and going on with the chunk that was missing."""
    data = b""
    transfer = None
    try:
        while len(data) < size:
            assert time.monotonic() < deadline, f"{transfer_type.__name__} has {len(data)} of {size} bytes"
            try:
                transfer = transfer or transfer_type(host, device, package)
                data += transfer.chunk(len(data) // CHUNK)
                on_chunk()
            except transfer_type.failures:
                if transfer:
                    transfer.close()
                transfer = None
                time.sleep(0.05)
    finally:
        if transfer:
            transfer.close()
    return data
