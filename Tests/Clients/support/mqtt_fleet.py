"""Many devices that listen for their attributes over MQTT 3.1.1, on one thread."""

import contextlib
import json
import selectors
import socket
import struct
import threading
import time

from .mqtt_device import ATTRIBUTES

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
KEEP_ALIVE_SECONDS = 600
RETRY_SECONDS = 0.05


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def packet(kind, body):
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


class Listener:
    """A device: what it is notified of, over all its connections."""

    def __init__(self, name, token):
        self.name = name
        self.token = token
        # When packages were named to it, by the clock of time.time(), and which.
        self.pushes = []
        self.connection = None
        self.is_subscribed = False
        self.unread = b""


class MQTTFleet:
    """Devices that stay connected: one that loses its connection tries again until the `with` block ends."""

    def __init__(self, host, devices):
        self.host = host
        self.listeners = [Listener(device["name"], device["token"]) for device in devices]
        self._selector = selectors.DefaultSelector()
        self._away = list(self.listeners)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def subscribed(self):
        """How many listen now."""
        return sum(listener.is_subscribed for listener in self.listeners)

    def notified(self, title):
        """How many were notified of a package."""
        return len(self.listeners) - len(self.missing(title))

    def missing(self, title):
        """The names of those that were not notified of a package."""
        return [
            listener.name for listener in self.listeners if all(pushed != title for _, pushed in listener.pushes)
        ]

    def _run(self):
        next_try = 0
        events = []
        # What came is read to the end.
        while events or not self._is_over.is_set():
            if self._away and time.monotonic() >= next_try:
                self._connect_all()
                next_try = time.monotonic() + RETRY_SECONDS
            events = self._selector.select(RETRY_SECONDS)
            for key, _ in events:
                self._read(key.data)
        for listener in self.listeners:
            if listener.connection is not None:
                listener.connection.close()
        self._selector.close()

    def _connect_all(self):
        while self._away and self._connect(self._away[-1]):
            self._away.pop()

    def _connect(self, listener):
        try:
            connection = socket.create_connection(self.host.addresses["mqtt"], timeout=20)
        except OSError:
            return False
        listener.connection = connection
        listener.unread = b""
        self._selector.register(connection, selectors.EVENT_READ, listener)
        body = text("MQTT") + bytes([4, 0b1000_0010]) + struct.pack(">H", KEEP_ALIVE_SECONDS)
        self._send(
            listener,
            packet(CONNECT, body + text("") + text(listener.token))
            + packet(SUBSCRIBE, struct.pack(">H", 1) + text(ATTRIBUTES) + b"\1"),
        )
        return True

    @staticmethod
    def _send(listener, data):
        # That the host is gone shows when the connection is read to its end.
        with contextlib.suppress(OSError):
            listener.connection.sendall(data)

    def _read(self, listener):
        try:
            received = listener.connection.recv(65536)
        except OSError:
            received = b""
        if not received:
            return self._disconnect(listener)
        listener.unread += received
        while (end := self._take(listener)) is not None:
            listener.unread = listener.unread[end:]

    def _disconnect(self, listener):
        self._selector.unregister(listener.connection)
        listener.connection.close()
        listener.connection = None
        listener.is_subscribed = False
        self._away.append(listener)

    def _take(self, listener):
        """Handles the packet that begins what is unread; returns where it ends, or `None` if it is not all there."""
        length, shift, start = 0, 0, 1
        while True:
            if start >= len(listener.unread):
                return None
            byte = listener.unread[start]
            length |= (byte & 127) << shift
            shift, start = shift + 7, start + 1
            if byte < 128:
                break
        end = start + length
        if len(listener.unread) < end:
            return None
        kind, body = listener.unread[0], listener.unread[start:end]
        if kind == SUBACK:
            listener.is_subscribed = True
        elif kind & 0xF0 == PUBLISH:
            self._received(listener, kind, body)
        return end

    def _received(self, listener, kind, body):
        topic_end = 2 + struct.unpack(">H", body[:2])[0]
        has_number = kind & 0b110 != 0
        values = json.loads(body[topic_end + 2 * has_number:])
        if "fw_title" in values:
            listener.pushes.append((time.time(), values["fw_title"]))
        if has_number:
            self._send(listener, packet(PUBACK, body[topic_end:topic_end + 2]))
