"""A device that talks MQTT with paho-mqtt."""

import json
import queue
import socket
import struct
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

TIMEOUT = 20
ATTRIBUTES = "v1/devices/me/attributes"
TELEMETRY = "v1/devices/me/telemetry"


class Disconnected(Exception):
    """The connection ended while something was expected from it."""


class MQTTDevice:
    """One connection; what the server publishes waits in a queue."""

    def __init__(self, host, token, protocol=paho.MQTTv311, subscriptions=(ATTRIBUTES, f"{ATTRIBUTES}/response/+")):
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="", protocol=protocol, reconnect_on_failure=False
        )
        self.client.username_pw_set(token)
        self.events = queue.Queue()
        self.disconnections = []
        self._requests = 0
        self.client.on_connect = lambda client, data, flags, reason, _: self.events.put(("connect", reason))
        self.client.on_disconnect = self._disconnected
        self.client.on_subscribe = lambda client, data, mid, reasons, _: self.events.put(("subscribe", reasons))
        self.client.on_message = lambda client, data, message: self.events.put((message.topic, message.payload))
        # Without this, the system holds a request back while the acknowledgement before it is not acknowledged: 40 ms.
        self.client.on_socket_open = lambda client, data, opened: opened.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self.client.connect(*host.addresses["mqtt"], keepalive=60)
        self.client.loop_start()
        self.reason = self._next("connect")
        if not self.reason.is_failure and subscriptions:
            self.client.subscribe([(filter, 1) for filter in subscriptions])
            self.granted = self._next("subscribe")

    def _disconnected(self, client, data, flags, reason, properties):
        self.disconnections.append(str(reason))
        self.events.put(("disconnect", reason))

    def _next(self, kind):
        while True:
            topic, content = self._take()
            if topic == kind:
                return content

    def _take(self, timeout=TIMEOUT):
        try:
            topic, content = self.events.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"nothing came within {timeout} s") from None
        if topic == "disconnect":
            self.events.put((topic, content))
            raise Disconnected(str(content))
        return topic, content

    def publish(self, topic, payload, qos=1):
        """Publishes and, at quality of service 1, waits for the acknowledgement."""
        if not isinstance(payload, (bytes, str)):
            payload = json.dumps(payload)
        info = self.client.publish(topic, payload, qos=qos)
        deadline = time.monotonic() + TIMEOUT
        try:
            while not info.is_published():
                # paho-mqtt waits on when the connection is gone, so look at both.
                if self.disconnections or time.monotonic() > deadline:
                    raise Disconnected(f"no acknowledgement; {self.disconnections}")
                info.wait_for_publish(timeout=0.1)
        except RuntimeError as error:
            # The connection was gone already.
            raise Disconnected(str(error)) from None

    def telemetry(self, body):
        self.publish(TELEMETRY, body)

    def receive(self, timeout=TIMEOUT):
        """The next message: topic and payload."""
        return self._take(timeout)

    def ask_attributes(self, **keys):
        """Asks for attributes; returns the messages that came before the answer, and the answer."""
        self._requests += 1
        self.publish(f"{ATTRIBUTES}/request/{self._requests}", keys)
        before = []
        while True:
            topic, payload = self._take()
            if topic == f"{ATTRIBUTES}/response/{self._requests}":
                return before, json.loads(payload)
            before.append((topic, payload))

    def chunk(self, request, index, size):
        """One chunk; the text of the error topic raises."""
        self.publish(f"v2/fw/request/{request}/chunk/{index}", "" if size == 0 else str(size))
        while True:
            topic, payload = self._take()
            if topic == f"v2/fw/response/{request}/chunk/{index}":
                return payload
            if topic == "v2/fw/error":
                raise LookupError(payload.decode())

    def download(self, request, total, size):
        """All chunks in order."""
        data = b""
        index = 0
        while len(data) < total:
            chunk = self.chunk(request, index, size)
            assert chunk, f"chunk {index} is empty after {len(data)} of {total} bytes"
            data += chunk
            index += 1
        return data

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def connack(host, token, level):
    """What the server answers to CONNECT of the protocol level (4 is 3.1.1, 5 is 5), byte for byte."""
    def text(value):
        return struct.pack(">H", len(value)) + value.encode()

    body = text("MQTT") + bytes([level, 0b1000_0010]) + struct.pack(">H", 60)
    body += (b"\0" if level == 5 else b"") + text("raw") + text(token)
    with socket.create_connection(host.addresses["mqtt"], timeout=TIMEOUT) as connection:
        connection.sendall(bytes([0x10, len(body)]) + body)
        answer = b""
        while len(answer) < 2 or len(answer) < 2 + answer[1]:
            received = connection.recv(256)
            if not received:
                break
            answer += received
    return answer
