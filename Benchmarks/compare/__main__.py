"""See Benchmarks/run --help."""
import argparse
import contextlib
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import campaigns
import chain
import durability
import fleet
import functions
import ingest
import management
import serving
from measure import Load, Table, core_name
from processes import ROOT, Windlass, wait_until

BUILT = ROOT / ".build/benchmarks"
DEVICES = 1000


class Bench:
    """What the parts share: the table, a host with devices and a package, and what ends with a part."""

    def __init__(self, table, folder, seconds, rounds):
        self.table, self.folder, self.seconds, self.rounds = table, folder, seconds, rounds
        self.fleets = [10_000, 100_000]
        self.firmware = folder / "firmware.bin"
        self.firmware.write_bytes(random.Random(5).randbytes(1 << 20))
        self.data = folder / "data"
        self._exits = contextlib.ExitStack()

    def enter(self, server):
        return self._exits.enter_context(server)

    def end(self):
        self._exits.close()

    def load(self, protocol, server, port, **options):
        return Load(BUILT / "load", protocol, server, port, **options)

    def prepare(self, data):
        """Makes the devices in a folder and assigns the package to them, as in the field."""
        with Windlass(data) as host:
            package = host.upload(self.firmware)
        fleet.add_devices(data, DEVICES)
        with Windlass(data) as host:
            host.assign(package)
            wait_until(lambda: fleet.count(data, campaigns.WAITING) == 0, "all devices to be told")

    def host(self, **environment):
        if not self.data.exists():
            self.prepare(self.data)
        return self.enter(Windlass(self.data, **environment))


def connections(bench):
    """Idle MQTT connections have a program of their own."""
    program = ROOT / "Benchmarks/idle_connections.py"
    if program.exists():
        told = subprocess.run([sys.executable, program], capture_output=True, text=True)
        bench.table.say(f"\n### Idle MQTT connections\n\n{(told.stdout + told.stderr).rstrip()}")


PARTS = {
    "http": serving.http,
    "cores": serving.http_both_cores,
    "mqtt": serving.mqtt,
    "coap": serving.coap,
    "tls": serving.tls,
    "ingest": ingest.ingest,
    "durability": durability.durability,
    "campaign": serving.campaign,
    "chain": lambda bench: chain.chain(bench, BUILT / "plugins"),
    "functions": functions.functions,
    "fleet": lambda bench: campaigns.run(bench, bench.fleets),
    "management": management.management,
    "connections": connections,
    "start": lambda bench: campaigns.start(bench, [0] + bench.fleets[1:]),
}


def main():
    parser = argparse.ArgumentParser(
        prog="Benchmarks/run",
        description="Measures Windlass beside nginx, mosquitto and libcoap on this machine and prints one table. "
        "Servers have the first core, the load has the second. Needs the release build, which it makes.",
    )
    parser.add_argument("parts", nargs="*", help=f"which parts, all unless told otherwise: {' '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=3, help="how long each run lasts (3)")
    parser.add_argument("--rounds", type=int, default=3, help="how many runs of each, of which the median counts (3)")
    parser.add_argument("--million", action="store_true", help="with a fleet of 1,000,000 devices, too")
    parser.add_argument("--output", help="also write the table to this file")
    arguments = parser.parse_args()
    for name in arguments.parts:
        if name not in PARTS:
            parser.error(f"no part is called '{name}'")
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")

    table = Table(arguments.output)
    table.say(f"{core_name()}, {os.cpu_count()} cores, Linux {os.uname().release}; load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="windlass-benchmark-") as folder:
        bench = Bench(table, pathlib.Path(folder), arguments.seconds, arguments.rounds)
        if arguments.million:
            bench.fleets.append(1_000_000)
        for name in arguments.parts or PARTS:
            try:
                PARTS[name](bench)
            finally:
                bench.end()


main()
