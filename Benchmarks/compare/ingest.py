"""State reports through the chain that ships, each acknowledged when it is in the database."""
import json

from measure import side_by_side

# What a device reports in the course of an update; after the first round the reports no longer fit it and are kept as such,
# which costs the same: a point of a time series, and an entry of the history.
STATES = ("DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED")


def ingest(bench):
    host = bench.host()
    bench.table.section("State reports into SQLite, acknowledged after the commit is on the disk; one core")
    bodies = [json.dumps({"fw_state": state}) for state in STATES]
    for protocol, scheme in (("http-report", "http"), ("mqtt-report", "mqtt")):
        for devices in (1, 64, 1000):
            load = bench.load(
                protocol, host, host.ports[scheme], devices=devices, body=bodies, qos=1, seconds=bench.seconds,
            )
            sample, = side_by_side(bench.rounds, load)
            bench.table.sample(f"{scheme.upper()}, {devices:,} device{'s' * (devices > 1)}", "windlass", sample)
