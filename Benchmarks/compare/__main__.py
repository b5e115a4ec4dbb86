"""See Benchmarks/run --help."""
import argparse
import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import against
import build
import campaigns
import chain
import durability
import fleet
import functions
import ingest
import management
import serving
from measure import Load, Table, core_name
from processes import BINARY, MEASURED, ROOT, Windlass, wait_until

DEVICES = 1000


class Bench:
    """What the parts share: the table, a host with devices and a package, and what ends with a part."""

    def __init__(self, table, folder, seconds, rounds, alone):
        self.table, self.folder, self.seconds, self.rounds, self.alone = table, folder, seconds, rounds, alone
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
        return Load(build.LOAD, protocol, server, port, **options)

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
    "chain": lambda bench: chain.chain(bench, build.plugins(MEASURED)),
    "functions": functions.functions,
    "fleet": lambda bench: campaigns.run(bench, bench.fleets),
    "waiting": lambda bench: campaigns.waiting(bench, bench.fleets[1]),
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
    parser.add_argument("--rounds", type=int, help="how many runs of each, of which the median counts (3; with --against 1)")
    parser.add_argument("--million", action="store_true", help="with a fleet of 1,000,000 devices, too")
    parser.add_argument("--output", help="also write the table to this file")
    parser.add_argument(
        "--against", metavar="REV",
        help="measure this checkout beside another revision instead of the peers: prints for each row the ratio of this one's "
        "figure to the other's, and exits with 1 if a row is worse beyond noise. A folder names a checkout with a release "
        "build; a revision is built in .build/against, which takes about ten minutes and 1 GB once for each commit",
    )
    parser.add_argument("--repeat", type=int, default=5, help="with --against: how many pairs of runs (5, at least 2)")
    # One side of a comparison: without peers, and with its figures in a file.
    parser.add_argument("--figures", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.parts:
        if name not in PARTS:
            parser.error(f"no part is called '{name}'")
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the server, one for the load")

    table = Table(arguments.output)
    if not arguments.figures:
        build.load()
        build.pump(MEASURED, BINARY.parent)
        table.say(f"{core_name()}, {os.cpu_count()} cores, Linux {os.uname().release}; load average {os.getloadavg()[0]:.1f}")
    if arguments.against:
        names = arguments.parts or [name for name in PARTS if name not in against.LEFT_OUT]
        if left_out := [name for name in names if name in against.LEFT_OUT]:
            parser.error(f"--against does not compare {' and '.join(left_out)}: {against.LEFT_OUT[left_out[0]]}")
        if not 2 <= arguments.repeat <= against.REPEATS_MAX:
            parser.error(f"--repeat must be 2 to {against.REPEATS_MAX}")
        options = ["--seconds", str(arguments.seconds), "--rounds", str(arguments.rounds or 1)]
        options += ["--million"] * arguments.million
        sys.exit(against.compare(table, names, arguments.against, arguments.repeat, options))
    with tempfile.TemporaryDirectory(prefix="windlass-benchmark-") as folder:
        alone = arguments.figures is not None
        bench = Bench(table, pathlib.Path(folder), arguments.seconds, arguments.rounds or 3, alone)
        if arguments.million:
            bench.fleets.append(1_000_000)
        for name in arguments.parts or PARTS:
            try:
                PARTS[name](bench)
            finally:
                bench.end()
    if arguments.figures:
        pathlib.Path(arguments.figures).write_text(json.dumps(table.figures))


main()
