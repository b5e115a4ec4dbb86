#!/usr/bin/env python3
"""Holds idle MQTT connections to a host, and to mosquitto where it is installed, and prints what they cost.

    bin/windlass --version && python3 Benchmarks/idle_connections.py [COUNT]

COUNT is 20000 unless told otherwise, or what the limit of open files allows. Each connection is a device of its own that
has subscribed to its attributes and then is silent; they come from several addresses of the loopback network. Printed
are connections per second, resident memory per connection (VmRSS, and PSS, which shares what several processes map),
and processor time of the server while all are idle for 30 seconds. Aim: at most twice mosquitto's memory.

Needs Linux, the release build (WINDLASS_BIN names another) and nothing but Python; `apt-get install mosquitto` for the
comparison, which runs one of its own that ends with the benchmark.
"""
import concurrent.futures
import http.client
import json
import os
import pathlib
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Tests/Clients"))
sys.dont_write_bytecode = True

from support.host import ADMIN, PASSWORD, Host  # noqa: E402
from support.plain_device import mqtt_connect, mqtt_packet, mqtt_text  # noqa: E402

BINARY = pathlib.Path(os.environ.get("WINDLASS_BIN", ROOT / ".build/release/windlass")).resolve()
IDLE_SECONDS = 30
KEEP_ALIVE = 600
# How many connections are being made at the same time, by each of the processes that make them.
AT_ONCE = 100
PROCESSES = 2
SUBSCRIBE = mqtt_packet(0x82, b"\0\1" + mqtt_text("v1/devices/me/attributes") + b"\1")
ANSWER_BYTES = 4 + 5


def connect_all(port, first, count):
    """Runs in a process of its own: makes the connections, says so, and holds them until its input ends."""
    epoll, states = select.epoll(), {}
    started, made, done = time.monotonic(), 0, 0
    held = []
    while done < count:
        while made < count and made - done < AT_ONCE:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            connection.bind((f"127.0.0.{2 + made % 16}", 0))
            try:
                connection.connect(("127.0.0.1", port))
            except BlockingIOError:
                pass
            states[connection.fileno()] = [connection, f"idle-{first + made}", 0]
            epoll.register(connection, select.EPOLLOUT)
            made += 1
        for number, event in epoll.poll(10):
            state = states[number]
            if event & (select.EPOLLERR | select.EPOLLHUP):
                sys.exit(f"a connection was refused after {done}")
            if event & select.EPOLLOUT:
                state[0].send(mqtt_connect(state[1], client=state[1], keep_alive=KEEP_ALIVE) + SUBSCRIBE)
                epoll.modify(number, select.EPOLLIN)
            else:
                data = state[0].recv(64)
                state[2] += len(data)
                if not data:
                    sys.exit(f"a connection was closed after {done}")
                if state[2] >= ANSWER_BYTES:
                    epoll.unregister(number)
                    held.append(states.pop(number)[0])
                    done += 1
    print(f"{time.monotonic() - started}", flush=True)
    sys.stdin.read()


def memory(pid):
    """VmRSS and PSS in bytes."""
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        found[name] = int(value) * 1024
    return found["Rss:"], found["Pss:"]


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name, pid, port, count):
    """Connects to one server, and prints and returns what that costs it."""
    before = memory(pid)
    share = count // PROCESSES
    makers = [
        subprocess.Popen(
            [sys.executable, __file__, "--connect", str(port), str(number * share), str(share)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        times = [maker.stdout.readline() for maker in makers]
        if not all(times):
            sys.exit(f"{name}: not all connections were made")
        rate = PROCESSES * share / max(map(float, times))
        time.sleep(2)
        after = memory(pid)
        processor = processor_seconds(pid)
        time.sleep(IDLE_SECONDS)
        processor = processor_seconds(pid) - processor
    finally:
        for maker in makers:
            maker.stdin.close()
            maker.wait(timeout=60)
    resident, proportional = ((then - now) / (PROCESSES * share) for now, then in zip(before, after))
    print(f"{name:<12} {rate:10,.0f} {resident:14,.0f} {proportional:12,.0f} {processor:12.2f}", flush=True)
    return rate, resident, proportional, processor


def windlass(count):
    with tempfile.TemporaryDirectory(prefix="windlass-idle-") as folder:
        host = Host(BINARY, pathlib.Path(folder), ROOT / "chains").start()
        try:
            make_devices(host, count)
            return measure("windlass", host.process.pid, host.addresses["mqtt"][1], count)
        finally:
            host.stop()


def make_devices(host, count):
    """One device for each connection, as a second one of a device takes the place of the first."""
    connection = http.client.HTTPConnection(*host.addresses["management"])
    connection.request("POST", "/api/auth/login", json.dumps({"username": ADMIN, "password": PASSWORD}))
    auth = {"X-Authorization": "Bearer " + json.loads(connection.getresponse().read())["token"]}

    def some(numbers):
        connection = http.client.HTTPConnection(*host.addresses["management"])
        for number in numbers:
            body = json.dumps({"name": f"idle {number}"})
            connection.request("POST", f"/api/device?accessToken=idle-{number}", body, auth)
            response = connection.getresponse()
            if response.status != 200:
                sys.exit(f"device: {response.status} {response.read()}")
            response.read()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for made in [pool.submit(some, range(first, count, 8)) for first in range(8)]:
            made.result()


def mosquitto(count):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as configuration:
        configuration.write(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_connections -1\npersistence false\n"
            "log_type error\nuser root\n"
        )
        configuration.flush()
        process = subprocess.Popen([shutil.which("mosquitto", path=SEARCH), "-c", configuration.name])
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline:
                        sys.exit("mosquitto did not start")
                    time.sleep(0.05)
            return measure("mosquitto", process.pid, port, count)
        finally:
            process.terminate()
            process.wait(timeout=30)


SEARCH = os.environ.get("PATH", "") + ":/usr/sbin"


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    # A server needs some files beside the connections.
    count = min(wanted, hard - 200) // PROCESSES * PROCESSES
    if not BINARY.exists():
        sys.exit(f"there is no {BINARY}; build it, or name another with WINDLASS_BIN")
    print(f"host {BINARY}, {os.cpu_count()} cores, {count:,} connections, at most {hard} open files")
    print(f"{'':<12} {'connects/s':>10} {'RSS/connection':>14} {'PSS/conn.':>12} {f'CPU s in {IDLE_SECONDS} s':>12}")
    ours = windlass(count)
    if shutil.which("mosquitto", path=SEARCH) is None:
        return print("mosquitto is not installed, so there is nothing to compare with")
    theirs = mosquitto(count)
    ratios = [f"{a / b:.2f}" if b > 0 else "-" for a, b in zip(ours, theirs)]
    print(f"{'ratio':<12} {ratios[0]:>10} {ratios[1]:>14} {ratios[2]:>12} {ratios[3]:>12}")


if sys.argv[1:2] == ["--connect"]:
    connect_all(*map(int, sys.argv[2:]))
else:
    main()
