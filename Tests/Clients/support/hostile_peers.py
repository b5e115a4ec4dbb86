"""Peers that mean harm, on loopback only and bounded in number, rate and time; each runs until told to stop.

Only the standard library. `python3 hostile_peers.py NAME COUNT SECONDS ADDRESSES TOKENS` runs one of them in a process of
its own, so that it takes no time of the device that is measured; `Peers` starts and ends such processes.
"""

import contextlib
import errno
import itertools
import json
import random
import resource
import selectors
import socket
import struct
import subprocess
import sys
import time

try:
    from .plain_device import coap_message, mqtt_connect, mqtt_packet, mqtt_publish, mqtt_text
except ImportError:
    from plain_device import coap_message, mqtt_connect, mqtt_packet, mqtt_publish, mqtt_text

SOURCES = [f"127.0.0.{last}" for last in range(2, 10)]
# A host that refuses most of a crowd has to stand what there is of it.
FORCE_SECONDS_MAX = 30
GONE = (ConnectionError, TimeoutError, BlockingIOError)


def connect(address, source):
    """Begins to connect; what becomes of it shows when the socket is used."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    # The port is chosen when connecting, so that one port can serve several destinations.
    connection.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    connection.bind((source, 0))
    with contextlib.suppress(BlockingIOError):
        connection.connect(address)
    return connection


class Crowd:
    """Keeps a number of connections open to some addresses, opening closed ones again, so many in a second."""

    PER_SECOND = 1000

    def __init__(self, addresses, count):
        self.addresses = itertools.cycle(addresses)
        self.sources = itertools.cycle(SOURCES)
        self.count = count
        self.open = {}
        self.selector = selectors.DefaultSelector()
        self.opened = 0
        self.started = time.monotonic()

    @property
    def is_complete(self):
        return len(self.open) > 0.95 * self.count

    def keep(self, seconds):
        """Works for so long; what the host sends is read and forgotten."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            allowed = (time.monotonic() - self.started) * self.PER_SECOND
            while len(self.open) < self.count and self.opened < allowed:
                address = next(self.addresses)
                try:
                    connection = connect(address, next(self.sources))
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.EADDRNOTAVAIL):
                        break
                    raise
                self.opened += 1
                self.open[connection] = address
                self.selector.register(connection, selectors.EVENT_READ)
            for key, _ in self.selector.select(min(left, 0.02)):
                try:
                    if key.fileobj.recv(65_536):
                        continue
                except GONE:
                    pass
                self.drop(key.fileobj)

    def send(self, connection, data):
        """Sends a few bytes to a connection if it is still there."""
        try:
            connection.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self.drop(connection)

    def drop(self, connection):
        self.selector.unregister(connection)
        self.open.pop(connection)
        connection.close()


def half_open(addresses, count, _):
    """Connections that never say anything."""
    crowd = Crowd([addresses["http"], addresses["mqtt"]], count)
    while True:
        crowd.keep(0.5)
        yield crowd.is_complete


def slow(address, count, text):
    """A request that comes a byte at a time and never ends."""
    crowd = Crowd([address], count)
    places = {}
    while True:
        crowd.keep(0.5)
        for connection in list(crowd.open):
            place = places.get(connection, 0)
            places[connection] = place + 1
            crowd.send(connection, text[place : place + 1] or b"x")
        places = {connection: place for connection, place in places.items() if connection in crowd.open}
        yield crowd.is_complete


def slow_http(addresses, count, _):
    """Slow loris: heads that never end."""
    return slow(addresses["http"], count, b"POST /api/v1/x/telemetry HTTP/1.1\r\nHost: x\r\nX-A: ")


def slow_mqtt(addresses, count, _):
    """Slow loris: a CONNECT that never ends."""
    packet = mqtt_packet(0x10, mqtt_text("MQTT") + b"\4\2\0\x3c" + struct.pack(">H", 30_000))
    return slow(addresses["mqtt"], count, packet)


def never_reads(addresses, count, tokens):
    """Devices that ask for their whole package again and again, and read nothing of it."""
    connections = {}
    while True:
        for token in tokens[:count]:
            connection = connections.get(token)
            try:
                if connection is None:
                    connection = connections[token] = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    connection.settimeout(5)
                    connection.connect(addresses["mqtt"])
                    connection.sendall(mqtt_connect(token, client=token))
                    connection.setblocking(False)
                for chunk in range(20):
                    connection.send(mqtt_publish(f"v2/fw/request/{chunk}/chunk/0", b"", chunk + 1))
            except BlockingIOError:
                pass
            except OSError:
                connection.close()
                connections.pop(token, None)
        time.sleep(0.1)
        yield True


def coap_flood(addresses, count, tokens):
    """So many datagrams in a second, from a new port every few: requests, pings, answers to nothing, and rubbish."""
    generator = random.Random(1)
    started, sent, flood = time.monotonic(), 0, None
    while True:
        while sent < (time.monotonic() - started) * count:
            if sent % 20 == 0:
                if flood is not None:
                    flood.close()
                flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                flood.bind((generator.choice(SOURCES), 0))
                flood.setblocking(False)
            message_id = generator.randrange(1 << 16)
            datagram = generator.choice([
                coap_message(1, message_id, b"t", [(11, b"fw"), (11, b"nobody")]),
                coap_message(1, message_id, b"t", [(11, b"fw"), (11, tokens[0].encode()), (23, b"\6")]),
                coap_message(2, message_id, b"t", [(11, b"api"), (11, b"v1"), (11, b"x"), (11, b"telemetry"), (27, b"\x0e")], b"x" * 1024),
                coap_message(0, message_id, b"", []),
                coap_message(0x45, message_id, b"t", [], b"x"),
                generator.randbytes(generator.randrange(1, 200)),
            ])
            with contextlib.suppress(OSError):
                flood.sendto(datagram, tuple(addresses["coap"]))
            sent += 1
        time.sleep(0.005)
        yield True


HTTP_WRONG = [
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"POST /api/v1/x/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /api/v1/x/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 52428800\r\n\r\n" + b"[" * 200_000,
    b"POST /api/v1/x/telemetry HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + b"x" * 1000,
    b"POST /api/v1/x/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/x/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000,
    b"GET /api/v1/x/firm",
    b"\0\1\2\3" * 1000,
]
MQTT_WRONG = [
    mqtt_connect("nobody"),
    b"\x10\xff\xff\xff\x7f" + b"x" * 200_000,
    b"\x10\xff\xff\xff\xff\xff",
    mqtt_packet(0x10, mqtt_text("MQTT") + b"\4\2\0\x3c" + mqtt_text("c" * 60_000)),
    mqtt_connect("nobody")[:-3],
    mqtt_publish("v1/devices/me/telemetry", b"{}"),
    mqtt_packet(0x10, b"\xff\xffMQTT"),
    b"\0" * 1000,
]


def wrong(addresses, count, tokens):
    """So many times in a second something oversized, truncated or senseless, over each protocol."""
    open_connections = []
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setblocking(False)
    coap_wrong = [
        bytes(60_000),
        coap_message(2, 1, b"t", [(11, b"api")], b"x" * 60_000),
        coap_message(1, 2, b"t", [(11, b"a" * 200)] * 250),
        *(coap_message(1, 3, b"token", [(11, b"fw"), (11, tokens[0].encode())])[:end] for end in range(1, 20)),
    ]
    good = mqtt_connect(tokens[0], client="w")
    http, mqtt, coap = itertools.cycle(HTTP_WRONG), itertools.cycle(MQTT_WRONG), itertools.cycle(coap_wrong)
    after = itertools.cycle([b"\x32\xff\xff\x7f" + b"y" * 100_000, b"\x30\0", b"\xf0\0", good, b"\x82\2\0\1"])
    while True:
        for address, data in [
            (addresses["http"], next(http)), (addresses["mqtt"], next(mqtt)), (addresses["mqtt"], good + next(after)),
        ]:
            try:
                connection = socket.create_connection(tuple(address), timeout=2)
                connection.setblocking(False)
                connection.send(data)
                open_connections.append(connection)
            except OSError:
                pass
        with contextlib.suppress(OSError):
            datagrams.sendto(next(coap), tuple(addresses["coap"]))
        # Some are closed at once, most a little later.
        while len(open_connections) > 50:
            open_connections.pop(random.randrange(len(open_connections))).close()
        time.sleep(1 / count)
        yield True


KINDS = {
    function.__name__: function
    for function in (slow_http, slow_mqtt, half_open, never_reads, coap_flood, wrong)
}


def raise_file_limit():
    """Lets this process open as many files as it may; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Peers:
    """Hostile peers of some kinds, each kind in a process of its own, while the block runs."""

    def __init__(self, kinds, addresses, tokens, seconds=600):
        self.kinds, self.addresses, self.tokens, self.seconds = kinds, addresses, tokens, seconds
        self.processes = []

    def __enter__(self):
        for kind, count in self.kinds.items():
            command = [sys.executable, __file__, kind, str(count), str(self.seconds)]
            command += [json.dumps(self.addresses), json.dumps(self.tokens)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.processes.append(process)
        for process in self.processes:
            # Said in full force, a second after the start at the earliest.
            process.stdout.readline()
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            process.stdin.close()
            process.stdout.close()


def main():
    kind, count, seconds, addresses, tokens = sys.argv[1:]
    addresses = {scheme: tuple(address) for scheme, address in json.loads(addresses).items()}
    assert all(host.startswith("127.") for host, _ in addresses.values()), "only this machine is a target"
    raise_file_limit()
    started, said = time.monotonic(), False
    # Ends by itself, also when whoever started it is gone: its standard input is closed then.
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin, selectors.EVENT_READ)
    for is_in_force in KINDS[kind](addresses, int(count), json.loads(tokens)):
        elapsed = time.monotonic() - started
        if not said and elapsed > 1 and (is_in_force or elapsed > FORCE_SECONDS_MAX):
            said = True
            print("ready", flush=True)
        if elapsed > float(seconds) or watch.select(0):
            return


if __name__ == "__main__":
    main()
