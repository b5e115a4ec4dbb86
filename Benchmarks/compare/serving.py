"""Chunks over HTTP, MQTT and CoAP beside nginx, mosquitto and libcoap, and a fleet that downloads all at once."""
import subprocess

from measure import side_by_side
from processes import LibCoAP, Mosquitto, Nginx, Windlass, installed

KIB = 1024
BOTH_CORES = {0, 1}


def peer(bench, kind, *arguments, **options):
    """Starts a peer; none if the host is measured alone, and none, with a line, if it is not installed."""
    if bench.alone:
        return None
    if installed(kind):
        return bench.enter(kind(*arguments, **options))
    bench.table.say(f"\n{kind.program} is not installed (apt-get install {kind.package}); its rows are left out.")
    return None


def compare(bench, work, ours, theirs, name):
    samples = side_by_side(bench.rounds, *[load for load in (ours, theirs) if load])
    bench.table.compare(work, *samples, peer=name)


def http(bench):
    nginx = peer(bench, Nginx, bench.folder)
    host = bench.host()
    bench.table.section("Chunks over HTTP, beside byte ranges of the same file from nginx; one core")
    for size in (1, 16, 256):
        for devices in (1, 64):
            common = {"devices": devices, "size": size * KIB, "file": bench.firmware, "seconds": bench.seconds}
            compare(
                bench, f"{size} KiB, {devices} connection{'s' * (devices > 1)}",
                bench.load("http-chunk", host, host.ports["http"], **common),
                nginx and bench.load("http-range", nginx, nginx.port, path="/firmware.bin", **common), "nginx",
            )


def http_both_cores(bench):
    bench.table.section("Chunks over HTTP with both cores, which the load generator shares")
    nginx = peer(bench, Nginx, bench.folder, workers=2, cores=BOTH_CORES)
    host = bench.host(cores=BOTH_CORES)
    common = {"devices": 64, "size": 16 * KIB, "file": bench.firmware, "seconds": bench.seconds}
    compare(
        bench, "16 KiB, 64 connections", bench.load("http-chunk", host, host.ports["http"], **common),
        nginx and bench.load("http-range", nginx, nginx.port, path="/firmware.bin", **common), "nginx, 2 workers",
    )


def mqtt(bench):
    mosquitto = peer(bench, Mosquitto, bench.folder)
    host = bench.host()
    bench.table.section("Chunks over MQTT, beside mosquitto routing the same payload from a publisher; one core, 64 devices")
    for size in (1, 16):
        for qos in (0, 1):
            common = {
                "devices": 64, "size": size * KIB, "qos": qos, "file": bench.firmware, "seconds": bench.seconds,
            }
            compare(
                bench, f"{size} KiB, QoS {qos}", bench.load("mqtt-chunk", host, host.ports["mqtt"], **common),
                mosquitto and bench.load("mqtt-route", mosquitto, mosquitto.port, **common), "mosquitto",
            )


def coap(bench):
    libcoap = peer(bench, LibCoAP, bench.folder, bench.firmware)
    host = bench.host()
    bench.table.section("Blocks over CoAP, beside a resource of the same bytes in libcoap's server; one core")
    for devices in (1, 64):
        common = {"devices": devices, "size": KIB, "file": bench.firmware, "seconds": bench.seconds}
        compare(
            bench, f"1 KiB, {devices} device{'s' * (devices > 1)}",
            bench.load("coap-block", host, host.ports["coap"], **common),
            libcoap and bench.load("coap-block", libcoap, libcoap.port, path=bench.firmware.name, **common), "libcoap",
        )


def certificate(folder):
    """A certificate of the benchmark's own, and its key."""
    files = folder / "certificate.pem", folder / "key.pem"
    if not files[0].exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=localhost", "-out", files[0], "-keyout", files[1]],
            check=True, capture_output=True,
        )
    return files


def tls(bench):
    files = certificate(bench.folder)
    host = bench.host(
        HTTPS_PORT="0", MQTTS_PORT="0", TLS_CERTIFICATE_FILE=str(files[0]), TLS_PRIVATE_KEY_FILE=str(files[1])
    )
    bench.table.section("16 KiB chunks over TLS 1.3 with AES-128-GCM; one core, 64 connections")
    common = {"devices": 64, "size": 16 * KIB, "file": bench.firmware, "seconds": bench.seconds, "tls": True}
    if "https" in host.ports:
        nginx = peer(bench, Nginx, bench.folder, tls=files)
        compare(
            bench, "HTTP", bench.load("http-chunk", host, host.ports["https"], **common),
            nginx and bench.load("http-range", nginx, nginx.port, path="/firmware.bin", **common), "nginx",
        )
    if "mqtts" in host.ports:
        mosquitto = peer(bench, Mosquitto, bench.folder, tls=files)
        compare(
            bench, "MQTT, QoS 1", bench.load("mqtt-chunk", host, host.ports["mqtts"], qos=1, **common),
            mosquitto and bench.load("mqtt-route", mosquitto, mosquitto.port, qos=1, **common), "mosquitto",
        )


def campaign(bench):
    host = bench.host()
    bench.table.section(
        "1,000 MQTT devices fetch 1 MiB each in chunks of 51,200 B; one core",
        ("CPU µs/chunk", "chunks/s", "MB/s", "p50 µs", "p99 µs", "s to the last", "MiB"),
    )
    load = bench.load(
        "mqtt-chunk", host, host.ports["mqtt"], devices=1000, size=51200, qos=1, file=bench.firmware, once=True
    )
    sample, = side_by_side(bench.rounds, load)
    bench.table.row(
        "whole fleet, QoS 1", "windlass", sample.cpu_us, sample.rate, sample.megabytes, sample.p50_us, sample.p99_us,
        sample.seconds, sample.memory,
    )
