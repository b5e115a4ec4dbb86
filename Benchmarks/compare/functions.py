"""Single functions, by the package in Benchmarks/Functions; checksums beside those of OpenSSL."""
import json
import os
import shutil
import subprocess

from processes import ROOT

SECONDS_MAX = 3600
MEBIBYTE = 1 << 20
WHOLE = "of 1 MiB"


def measured(folder):
    """Nanoseconds of the processor by name; builds what is measured, for tests of internal functions but with optimisation."""
    command = [
        "swift", "package", "--package-path", str(ROOT / "Benchmarks"), "--scratch-path", str(ROOT / ".build/functions"),
        "--disable-sandbox", "benchmark", "--Xswiftc", "enable-testing", "--no-progress", "--format", "jmh",
        "--path", str(folder),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS_MAX)
    reports = list(folder.glob("*jmh*"))
    if done.returncode != 0 or not reports:
        raise SystemExit(done.stdout)
    functions = {}
    for entry in json.loads(reports[0].read_text()):
        name = entry["benchmark"].rpartition(".Functions.")[2].replace("_", " ")
        cpu, = [metric for kind, metric in entry["secondaryMetrics"].items() if "CPU" in kind]
        # Microseconds of one call for a mebibyte, of a thousand calls otherwise.
        functions[name] = cpu["scorePercentiles"]["50.0"] * (1000 if name.endswith(WHOLE) else 1)
    return functions


def openssl(algorithm):
    """Nanoseconds that OpenSSL takes for a mebibyte; none if it is not installed or does not know the algorithm."""
    if not shutil.which("openssl"):
        return None
    command = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", str(MEBIBYTE), "-evp", algorithm.lower()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # +F:22:sha256:1234567.89, bytes in a second
    lines = [line for line in done.stdout.splitlines() if line.startswith("+F:")]
    return MEBIBYTE / float(lines[0].rpartition(":")[2]) * 1e9 if lines else None


def functions(bench):
    bench.table.section("Single functions, in nanoseconds of the processor", ("ns", "× peer"))
    folder = bench.folder / "functions"
    os.makedirs(folder)
    for name, each in sorted(measured(folder).items()):
        peer = openssl(name.partition(" ")[0]) if name.endswith(WHOLE) else None
        bench.table.row(name, "windlass", each, f"**{each / peer:.2f}**" if peer else None)
        if peer:
            bench.table.row(name, "OpenSSL", peer, None)
