"""State reports at a steady rate, each acknowledged when it is in the database; then the host is killed, and none may be missing."""
import json
import random
import signal
import time

import fleet
from processes import Windlass
from serving import BOTH_CORES

RATE, SECONDS = 10_000, 60
# What a device reports that tries again and again: each report fits its update, and so is a point of a time series, a step of the
# update's record and an entry of its history; each fifth is classified as well.
REPORTS = [
    {"fw_state": "DOWNLOADING"}, {"fw_state": "DOWNLOADED"}, {"fw_state": "VERIFIED"}, {"fw_state": "UPDATING"},
    {"fw_state": "FAILED", "fw_error": "checksum mismatch"},
]
# The time of each device's first report, in milliseconds since 1970; the next one is a millisecond later, and so on. Thus each
# report can be told from all others, and a device with so many acknowledged ones must have all times up to that number.
FIRST_TIME = 2_000_000_000_000
PLACES = {
    "time series": "SELECT count(*) FROM ts WHERE device = a.device AND key = 'fw_state' AND ts {}",
    "history": "SELECT count(DISTINCT timestamp) FROM update_history WHERE device = a.device AND type = 'FIRMWARE' AND timestamp {}",
}


def durability(bench):
    bench.table.section(
        f"{RATE:,} state reports a second for {SECONDS} s over HTTP, 1,000 devices, both cores, which the load shares; then kill -9",
        ("reports/s", "CPU µs/report", "p50 µs", "p99 µs", "MiB", "acknowledged", "missing", "s to ready again"),
    )
    data, counts = bench.folder / "durable", bench.folder / "acknowledged"
    bench.prepare(data)
    with Windlass(data, cores=BOTH_CORES) as host:
        load = bench.load(
            "http-report", host, host.ports["http"], devices=1000, rate=RATE, seconds=SECONDS, counts=counts,
            body=[json.dumps(report, separators=(",", ":")) for report in REPORTS], **{"first-time": FIRST_TIME},
        )
        with load.start() as running:
            if (line := running.stderr.readline().strip()) != "measured":
                raise SystemExit(f"the load ended early: {line}")
            memory = host.memory()
            # The load goes on: the end comes in the midst of commits.
            time.sleep(random.uniform(0.1, 1))
            host.stop(signal.SIGKILL)
            told, errors = running.communicate(timeout=60)
        if running.returncode != 0:
            raise SystemExit(f"the load failed: {errors}")
    sample = load.sample(told, memory)
    acknowledged, missing = check(bench, data, counts)
    with Windlass(data) as host:
        ready = host.start_seconds
    bench.table.row(
        "sustained", "windlass", sample.rate, sample.cpu_us, sample.p50_us, sample.p99_us, sample.memory,
        f"{acknowledged:,}", f"**{missing}**", ready,
    )


def check(bench, data, counts):
    """Looks for every acknowledged report; returns how many there are, and how many of them are missing in either place."""
    connection = fleet.database(data)
    fault = connection.execute("PRAGMA integrity_check").fetchone()[0]
    if fault != "ok":
        raise SystemExit(f"the database is damaged: {fault}")
    connection.execute("CREATE TEMP TABLE acknowledged (device INTEGER PRIMARY KEY, count INTEGER NOT NULL)")
    numbers = [(f"T{index:07}", int(line)) for index, line in enumerate(counts.read_text().split())]
    connection.executemany(
        "INSERT INTO acknowledged SELECT device, ?2 FROM device_credentials WHERE credentials_id = ?1", numbers
    )
    missing, beyond = found(connection, numbers)

    # A checker that finds nothing wrong must be able to: one report is taken away for a moment.
    connection.execute("BEGIN")
    device, count = connection.execute("SELECT device, count FROM acknowledged WHERE count > 0 ORDER BY random()").fetchone()
    time_taken = FIRST_TIME + random.randrange(count)
    connection.execute("DELETE FROM ts WHERE device = ? AND key = 'fw_state' AND ts = ?", (device, time_taken))
    connection.execute("DELETE FROM update_history WHERE device = ? AND timestamp = ?", (device, time_taken))
    noticed, _ = found(connection, numbers)
    if any(noticed[place] != missing[place] + 1 for place in PLACES):
        raise SystemExit(f"the checker does not notice a report that is missing: {noticed} after {missing}")
    connection.execute("ROLLBACK")
    connection.close()
    for place in PLACES:
        if missing[place]:
            bench.table.say(f"{missing[place]} acknowledged reports are missing in the {place}")
        if beyond[place] > len(numbers):
            raise SystemExit(f"{beyond[place]} reports in the {place} are beyond those acknowledged, of {len(numbers)} under way")
    return sum(count for _, count in numbers), max(missing.values())


def found(connection, numbers):
    """For each place how many acknowledged reports are missing, and how many others are there, which were under way."""
    if connection.execute("SELECT count(*) FROM acknowledged").fetchone()[0] != len(numbers):
        raise SystemExit("devices are missing")
    missing, beyond = {}, {}
    for place, query in PLACES.items():
        within = query.format("BETWEEN ?1 AND ?1 + a.count - 1")
        missing[place] = connection.execute(
            f"SELECT sum(a.count - ({within})) FROM acknowledged a", (FIRST_TIME,)
        ).fetchone()[0]
        after = query.format(">= ?1 + a.count")
        beyond[place] = connection.execute(f"SELECT sum(({after})) FROM acknowledged a", (FIRST_TIME,)).fetchone()[0]
    return missing, beyond
