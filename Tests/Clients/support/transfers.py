"""Downloads that go on through whatever happens to the host, one class for each transport."""

import time

import paho.mqtt.client as paho
import requests
from aiocoap.numbers.codes import Code

from .coap_device import CoAPDevice
from .http_device import HTTPDevice
from .mqtt_device import Disconnected, MQTTDevice

CHUNK = 1024


class HTTPTransfer:
    """Fetches over HTTP; keeps its connection as long as the server does."""

    failures = (requests.RequestException,)

    def __init__(self, host, device, package):
        self.package = package
        self.client = HTTPDevice(host, device["token"])

    def chunk(self, index):
        reply = self.client.firmware(self.package["title"], self.package["version"], size=CHUNK, chunk=index)
        assert reply.status_code == 200, f"chunk {index}: {reply.status_code} {reply.text[:200]}"
        return reply.content

    def report(self, body):
        reply = self.client.telemetry(body)
        assert reply.status_code == 200, f"telemetry: {reply.status_code} {reply.text[:200]}"

    def close(self):
        self.client.close()


class MQTTTransfer:
    """Fetches over MQTT in one session."""

    failures = (Disconnected, OSError)

    def __init__(self, host, device, package, protocol=paho.MQTTv5):
        self.client = MQTTDevice(host, device["token"], protocol)

    def chunk(self, index):
        return self.client.chunk(1, index, CHUNK)

    def report(self, body):
        self.client.telemetry(body)

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
