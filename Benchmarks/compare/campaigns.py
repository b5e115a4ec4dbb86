"""A package for a whole fleet, and how long a host with a fleet takes to start."""
import shutil
import time

import fleet
from processes import Windlass, wait_until

QUEUED = "SELECT count(*) FROM update_record"
WAITING = "SELECT (SELECT count(*) FROM assignment) + (SELECT count(*) FROM message_queue)"
TOLD = "SELECT count(*) FROM update_record WHERE state = 'INITIATED'"


def stocked(bench, devices):
    """A data folder with a package and devices, not assigned."""
    data = bench.folder / f"fleet-{devices}"
    with Windlass(data) as host:
        package = host.upload(bench.firmware)
    fleet.add_devices(data, devices)
    return data, package


def run(bench, sizes):
    bench.table.section(
        "A package is assigned to a profile, and all its devices are told; one core",
        ("s to ready", "s to all QUEUED", "s to all told", "told/s", "CPU µs/device", "peak MiB"),
    )
    for devices in sizes:
        data, package = stocked(bench, devices)
        with Windlass(data) as host:
            ready = host.start_seconds
            host.call("GET", "/api/deviceProfileInfo/default")
            host.reset_peak()
            used = cpu_seconds(host)
            started = time.monotonic()
            host.assign(package)
            # The records of all but the first devices follow the answer.
            wait_until(lambda: fleet.count(data, QUEUED) == devices, "all devices to be queued", 3600, 0.05)
            queued = time.monotonic() - started
            wait_until(lambda: fleet.count(data, WAITING) == 0, "all devices to be told", 3600, 0.25)
            told = time.monotonic() - started
            if (count := fleet.count(data, TOLD)) != devices:
                raise SystemExit(f"{count} of {devices} devices were told")
            used = cpu_seconds(host) - used
            bench.table.row(
                f"{devices:,} devices", "windlass", ready, queued, told, devices / (told - queued),
                used / devices * 1e6, host.memory("VmHWM"),
            )
        shutil.rmtree(data)


def start(bench, sizes):
    """Time to `ready`, the best of three: the others waited for something else."""
    bench.table.section("Start", ("s to ready", "MiB"))
    for devices in sizes:
        data, _ = stocked(bench, devices)
        seconds, memory = [], []
        for _ in range(3):
            with Windlass(data) as host:
                seconds.append(host.start_seconds)
                memory.append(host.memory())
        bench.table.row(f"{devices:,} devices stored", "windlass", min(seconds), min(memory))
        shutil.rmtree(data)


def cpu_seconds(host):
    """What all threads used, in seconds (proc(5), fields utime and stime)."""
    fields = open(f"/proc/{host.process.pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
