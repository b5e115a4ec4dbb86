"""A package for a whole fleet, and how long a host with a fleet takes to start."""
import shutil
import time

import fleet
from processes import MEASURED, Windlass, wait_until

QUEUED = "SELECT count(*) FROM update_record"
WAITING = "SELECT (SELECT count(*) FROM assignment) + (SELECT count(*) FROM message_queue)"
TOLD = "SELECT count(*) FROM update_record WHERE state = 'INITIATED'"

# For the part in which half of the devices wait: the node before 'push' in the chain that ships, and the node put in between.
PUSHES = 'interval-milliseconds="${OTA_PUSH_INTERVAL_MS:-600}" to="push"/>'
HOLD = (
    """<flow:hold id="closed" test="number(substring-after($deviceName, 'device ')) mod 2 = 1" retry-seconds="60" """
    """code="closed" reason="closed" to="push"/>"""
)
AFTERWARDS_SECONDS = 30


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


def waiting(bench, devices):
    """Every second device of a fleet waits; ten other devices get one urgent fix during the campaign and one after it."""
    bench.table.section(
        "A package is assigned to a profile; the chain holds back half of its devices and asks again each minute; one core",
        (
            "s to all others notified", "CPU s", "CPU µs/device", "peak MiB", "s to an urgent fix, during that",
            "s to an urgent fix, afterwards", "CPU % afterwards",
        ),
    )
    chains = bench.folder / "waiting-chains"
    chains.mkdir()
    text = (MEASURED / "chains/ota.xml").read_text()
    if text.count(PUSHES) != 1:
        raise SystemExit("chains/ota.xml has another way to 'push' than this part knows")
    (chains / "ota.xml").write_text(text.replace(PUSHES, PUSHES.replace('"push"', '"closed"') + HOLD))
    data, package = stocked(bench, devices)
    with Windlass(data, chains=chains) as host:
        urgent = host.profile("urgent")
        for number in range(10):
            profile = {"entityType": "DEVICE_PROFILE", "id": urgent}
            host.call("POST", "/api/device", {"name": f"urgent {number}", "deviceProfileId": profile})
        fixes = [host.upload(bench.firmware, urgent, f"fix {number}") for number in (1, 2)]
        host.reset_peak()
        used = cpu_seconds(host)
        started = time.monotonic()
        host.assign(package)
        wait_until(lambda: fleet.count(data, TOLD) >= devices / 10, "the campaign to be under way", 3600, 0.25)
        meanwhile = seconds_to_first(host, data, fixes[0], urgent)
        # Beside the half of the fleet, the ten devices that have the first fix.
        wait_until(lambda: fleet.count(data, TOLD) == devices // 2 + 10, "the other half to be notified", 3600, 0.25)
        told = time.monotonic() - started
        used = cpu_seconds(host) - used
        peak = host.memory("VmHWM")
        after = seconds_to_first(host, data, fixes[1], urgent)
        idle = cpu_seconds(host)
        time.sleep(AFTERWARDS_SECONDS)
        idle = cpu_seconds(host) - idle
        bench.table.row(
            f"{devices:,} devices", "windlass", told, used, used / devices * 1e6, peak, meanwhile, after,
            idle / AFTERWARDS_SECONDS * 100,
        )
    shutil.rmtree(data)


def seconds_to_first(host, data, fix, profile):
    """Seconds until the first device of a profile is notified of a package that is assigned with the highest priority."""
    query = f"""
        SELECT count(*) FROM update_record r JOIN ota_package k ON k.id = r.package_id
        WHERE k.title = '{fix["title"]}' AND r.state = 'INITIATED'
    """
    started = time.monotonic()
    host.assign(fix, profile, priority=9)
    wait_until(lambda: fleet.count(data, query) > 0, "an urgent fix")
    return time.monotonic() - started


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
