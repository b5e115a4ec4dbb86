#!/usr/bin/env python3
"""Times a device that updates itself, alone and beside hostile peers of each kind, over HTTP, MQTT and CoAP.

    bin/windlass --version && python3 Benchmarks/hostile.py [BYTES]

Needs Linux, the release build (WINDLASS_BIN names another) and nothing but Python. Everything is on loopback and stops by
itself. The peers are those of `Tests/Clients/test_hostile.py`, in larger numbers; the bytes that the device gets are
checked. A time is the median of five; aim: no ratio above 2.
"""
import hashlib
import http.client
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Tests/Clients"))
sys.dont_write_bytecode = True

from support.host import ADMIN, PASSWORD, Host  # noqa: E402
from support.hostile_peers import Peers, raise_file_limit  # noqa: E402
from support.plain_device import UPDATES  # noqa: E402

BINARY = pathlib.Path(os.environ.get("WINDLASS_BIN", ROOT / ".build/release/windlass")).resolve()
TRANSPORTS = list(UPDATES)
VICTIMS = 20
RUNS = 5
RECOVERY_SECONDS = 90
# What the store opens the first time that so many read at once, and keeps: four connections with a file and its log each.
READER_FILES = 8


class Administrator:
    """The few calls of the management API that are needed."""

    def __init__(self, host):
        self.connection = http.client.HTTPConnection(*host.addresses["management"])
        self.auth = {}
        login = self.call("POST", "/api/auth/login", {"username": ADMIN, "password": PASSWORD})
        self.auth = {"X-Authorization": "Bearer " + login["token"]}

    def call(self, method, path, body=None, data=None, headers=None):
        data = json.dumps(body) if data is None else data
        self.connection.request(method, path, data, self.auth | (headers or {}))
        response = self.connection.getresponse()
        text = response.read()
        if response.status != 200:
            sys.exit(f"{method} {path}: {response.status} {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def package(self, data):
        profile = self.call("GET", "/api/deviceProfileInfo/default")["id"]
        body = {"title": "big", "version": "1", "type": "FIRMWARE", "deviceProfileId": profile}
        package = self.call("POST", "/api/otaPackage", body)["id"]
        form = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n' + data + b"\r\n--edge--\r\n"
        self.call(
            "POST", f"/api/otaPackage/{package['id']}?checksumAlgorithm=SHA256", data=form,
            headers={"Content-Type": "multipart/form-data; boundary=edge"},
        )
        return package

    def device(self, name, package):
        self.call("POST", f"/api/device?accessToken={name}", {"name": name, "firmwareId": package})
        return name


def status(host, name):
    """A figure of /proc/PID/status, in MiB."""
    for line in open(f"/proc/{host.process.pid}/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024


def files(host):
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))


class Bench:
    def __init__(self, host, size):
        self.host, self.size = host, size
        data = hashlib.shake_256(b"windlass").digest(size)
        self.digest = hashlib.sha256(data).hexdigest()
        administrator = Administrator(host)
        package = administrator.package(data)
        self.tokens = {name: administrator.device(f"good-{name}", package) for name in TRANSPORTS}
        self.victims = [administrator.device(f"hostile-{number}", package) for number in range(VICTIMS)]

    def seconds(self):
        """How long an update takes over each transport; the median of some."""
        medians = {}
        for name, update in UPDATES.items():
            times = []
            for _ in range(RUNS):
                device = update(self.host.addresses, self.tokens[name], "big", "1", self.size)
                started = time.monotonic()
                if device.run() != self.digest:
                    sys.exit(f"over {name} other bytes came than were uploaded")
                times.append(time.monotonic() - started)
            medians[name] = statistics.median(times)
        return medians

    def beside(self, label, kinds):
        """One row: an update alone, beside such peers, and whether all is as before once they are gone."""
        alone, files_before, memory_before = self.seconds(), files(self.host), status(self.host, "VmRSS")
        pathlib.Path(f"/proc/{self.host.process.pid}/clear_refs").write_text("5")
        with Peers(kinds, self.host.addresses, self.victims):
            most = files(self.host)
            beside = self.seconds()
            most = max(most, files(self.host)) - files_before
        peak = status(self.host, "VmHWM")
        ended, recovered = time.monotonic(), None
        while recovered is None and time.monotonic() - ended < RECOVERY_SECONDS:
            if files(self.host) <= files_before + READER_FILES:
                recovered = time.monotonic() - ended
            time.sleep(0.05)
        after = self.seconds()
        ratios = {name: beside[name] / alone[name] for name in TRANSPORTS}
        cells = [f"{alone[name]:6.2f} {beside[name]:6.2f} {ratios[name]:5.2f}" for name in TRANSPORTS]
        # Afterwards a device takes as long as before, but for chance.
        is_as_before = recovered is not None and all(after[name] < 2 * alone[name] + 0.5 for name in TRANSPORTS)
        memory = f"{memory_before:6.0f} {peak:6.0f} {status(self.host, 'VmRSS'):6.0f}"
        word = f"in {recovered:.1f} s" if is_as_before else "NO"
        print(f"{label:<34} {' | '.join(cells)} | {most:6} | {memory} | {word}", flush=True)
        return max(ratios.values()), is_as_before


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 8 << 20
    limit = raise_file_limit()
    connections = min(10_000, limit * 9 // 10)
    if not BINARY.exists():
        sys.exit(f"there is no {BINARY}; build it, or name another with WINDLASS_BIN")
    print(f"host {BINARY}, {os.cpu_count()} cores, package of {size / (1 << 20):g} MiB, at most {limit} open files")
    with tempfile.TemporaryDirectory(prefix="windlass-hostile-") as folder:
        host = Host(BINARY, pathlib.Path(folder), ROOT / "chains").start()
        try:
            bench = Bench(host, size)
            title = " | ".join(f"{name + ', seconds':^20}" for name in TRANSPORTS)
            print(f"{'':<34} {title} | opened | memory, MiB           | as before")
            print(f"{'peers':<34} {' | '.join(['alone beside ratio'.rjust(20)] * 3)} |        | before   peak  after |")
            rows = [
                ("nobody", {}),
                ("slow loris, 500 on HTTP", {"slow_http": 500}),
                ("slow loris, 500 on MQTT", {"slow_mqtt": 500}),
                (f"{connections:,} half-open connections", {"half_open": connections}),
                (f"{VICTIMS} MQTT clients that never read", {"never_reads": VICTIMS}),
                ("CoAP flood, 2,000 datagrams/s", {"coap_flood": 2000}),
                ("oversized and truncated, 100/s", {"wrong": 100}),
                ("all of them", {
                    "slow_http": 500, "slow_mqtt": 500, "half_open": connections // 2, "never_reads": VICTIMS,
                    "coap_flood": 2000, "wrong": 100,
                }),
            ]
            results = [bench.beside(label, kinds) for label, kinds in rows]
        finally:
            host.stop()
    worst = max(ratio for ratio, _ in results)
    print(f"worst ratio {worst:.2f} (aim: 2), {'everything recovered' if all(ok for _, ok in results) else 'NOT everything recovered'}")


main()
