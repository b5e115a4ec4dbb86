"""Devices of the standard library alone: each downloads its package over one transport, checks it, and reports UPDATED."""

import hashlib
import http.client
import json
import random
import socket
import struct
import time

TIMEOUT = 120


class HTTPUpdate:
    """Over one connection that is kept, in chunks."""

    CHUNK = 65_536

    def __init__(self, addresses, token, title, version, size):
        self.address = addresses["http"]
        self.token, self.title, self.version, self.size = token, title, version, size

    def run(self):
        """Updates; returns the SHA-256 of what came."""
        connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT)
        digest = hashlib.sha256()
        path = f"/api/v1/{self.token}"
        query = f"title={self.title}&version={self.version}&size={self.CHUNK}"
        for chunk in range(-(-self.size // self.CHUNK)):
            digest.update(self._call(connection, "GET", f"{path}/firmware?{query}&chunk={chunk}"))
        self._call(connection, "POST", f"{path}/telemetry", json.dumps({"fw_state": "UPDATED"}))
        connection.close()
        return digest.hexdigest()

    def _call(self, connection, method, path, body=None):
        connection.request(method, path, body)
        response = connection.getresponse()
        data = response.read()
        assert response.status == 200, f"{method} {path}: {response.status} {data[:200]}"
        return data


def mqtt_text(value):
    return struct.pack(">H", len(value)) + value.encode()


def mqtt_packet(first, body):
    length, digits = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        digits += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([first]) + digits + body


def mqtt_connect(token, client="plain", keep_alive=60):
    """CONNECT of MQTT 3.1.1, clean, with a user name."""
    body = mqtt_text("MQTT") + bytes([4, 0b1000_0010]) + struct.pack(">H", keep_alive)
    return mqtt_packet(0x10, body + mqtt_text(client) + mqtt_text(token))


def mqtt_publish(topic, payload, packet_id=1):
    """PUBLISH of QoS 1."""
    return mqtt_packet(0x32, mqtt_text(topic) + struct.pack(">H", packet_id) + payload)


class MQTTUpdate:
    """One chunk request after another; each is acknowledged before its answer comes."""

    CHUNK = 16_384

    def __init__(self, addresses, token, title, version, size):
        self.address = addresses["mqtt"]
        self.token, self.size = token, size

    def run(self):
        """Updates; returns the SHA-256 of what came."""
        with socket.create_connection(self.address, timeout=TIMEOUT) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.stream = connection.makefile("rb")
            connection.sendall(mqtt_connect(self.token))
            assert self._packet() == (0x20, b"\0\0"), "the connection was refused"
            topics = b"".join(mqtt_text(topic) + b"\0" for topic in ("v2/fw/response/+/chunk/+", "v2/fw/error"))
            connection.sendall(mqtt_packet(0x82, struct.pack(">H", 1) + topics))
            assert self._packet() == (0x90, b"\0\1\0\0"), "the subscription was refused"
            digest = hashlib.sha256()
            for chunk in range(-(-self.size // self.CHUNK)):
                connection.sendall(mqtt_publish(f"v2/fw/request/1/chunk/{chunk}", str(self.CHUNK).encode()))
                digest.update(self._answer(f"v2/fw/response/1/chunk/{chunk}"))
            connection.sendall(mqtt_publish("v1/devices/me/telemetry", b'{"fw_state":"UPDATED"}', 2))
            assert self._packet() == (0x40, b"\0\2"), "the report was not acknowledged"
            connection.sendall(b"\xe0\0")
        return digest.hexdigest()

    def _answer(self, topic):
        while True:
            first, body = self._packet()
            if first == 0x40:
                continue
            length = struct.unpack(">H", body[:2])[0]
            assert (first, body[2 : 2 + length].decode()) == (0x30, topic), f"{first:x} {body[:60]}"
            return body[2 + length :]

    def _packet(self):
        first = self.stream.read(1)
        assert first, "the connection was closed"
        length, shift = 0, 0
        while True:
            digit = self.stream.read(1)[0]
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return first[0], self.stream.read(length)


def coap_message(code, message_id, token, options, payload=b"", kind=0):
    """A message; `options` are pairs of number and value."""
    data, last = bytes([0x40 | kind << 4 | len(token), code]) + struct.pack(">H", message_id) + token, 0
    for number, value in sorted(options, key=lambda option: option[0]):
        halves, extensions = [], b""
        for part in (number - last, len(value)):
            halves.append(part if part < 13 else 13)
            extensions += b"" if part < 13 else bytes([part - 13])
        data += bytes([halves[0] << 4 | halves[1]]) + extensions + value
        last = number
    return data + (b"\xff" + payload if payload else b"")


class CoAPUpdate:
    """Block after block of 1024 bytes, confirmable, repeated as RFC 7252 §4.2 says."""

    ACK_TIMEOUT, MAX_RETRANSMIT = 2.0, 4

    def __init__(self, addresses, token, title, version, size):
        self.address = addresses["coap"]
        self.token, self.size = token, size
        self.message_id = random.randrange(1 << 16)
        self.repetitions = 0

    def run(self):
        """Updates; returns the SHA-256 of what came."""
        digest = hashlib.sha256()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as self.socket:
            self.socket.connect(self.address)
            path = [(11, part.encode()) for part in ("fw", self.token)]
            for number in range(-(-self.size // 1024)):
                block = (number << 4 | 6).to_bytes(3, "big").lstrip(b"\0")
                code, payload = self._exchange(1, [*path, (23, block)])
                assert code == 0x45, f"block {number}: {code >> 5}.{code & 31:02}"
                digest.update(payload)
            path = [(11, part.encode()) for part in ("api", "v1", self.token, "telemetry")]
            code, _ = self._exchange(2, path, b'{"fw_state":"UPDATED"}')
            assert code >> 5 == 2, f"report: {code >> 5}.{code & 31:02}"
        return digest.hexdigest()

    def _exchange(self, code, options, payload=b""):
        self.message_id = (self.message_id + 1) % (1 << 16)
        token = struct.pack(">H", self.message_id)
        message = coap_message(code, self.message_id, token, options, payload)
        wait = self.ACK_TIMEOUT * random.uniform(1, 1.5)
        for attempt in range(self.MAX_RETRANSMIT + 1):
            self.repetitions += attempt > 0
            self.socket.send(message)
            answer = self._answer(token, wait)
            if answer is not None:
                return answer
            wait *= 2
        raise TimeoutError("no answer from the host")

    def _answer(self, token, wait):
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65_536)
            except socket.timeout:
                return None
            kind, length = data[0] >> 4 & 3, data[0] & 15
            if data[1] == 0:
                # Acknowledged, the answer comes later; it has as much time again.
                end = time.monotonic() + TIMEOUT
                continue
            if kind == 0:
                self.socket.send(bytes([0x60, 0]) + data[2:4])
            if data[4 : 4 + length] == token:
                return data[1], coap_payload(data)
        return None


def coap_payload(data):
    """What follows the options."""
    position = 4 + (data[0] & 15)

    def extended(half):
        nonlocal position
        size = {13: 1, 14: 2}.get(half, 0)
        position += size
        return int.from_bytes(data[position - size : position], "big") + {13: 13, 14: 269}.get(half, half)

    while position < len(data) and data[position] != 0xFF:
        header = data[position]
        position += 1
        extended(header >> 4)
        position += extended(header & 15)
    return data[position + 1 :]


UPDATES = {"HTTP": HTTPUpdate, "MQTT": MQTTUpdate, "CoAP": CoAPUpdate}
