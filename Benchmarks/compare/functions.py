"""Single functions, by the package in Benchmarks/Functions; checksums beside those of OpenSSL."""
import re
import shutil
import subprocess

from processes import LOAD_CORE, ROOT, on

BUILD_SECONDS_MAX = 3600
RUN_SECONDS_MAX = 600
MEBIBYTE = 1 << 20
WHOLE = "of 1 MiB"


def build():
    """The program; internal functions are open to it as to a test, but optimised."""
    command = [
        "swift", "build", "-c", "release", "--package-path", str(ROOT / "Benchmarks"), "--scratch-path",
        str(ROOT / ".build/functions"), "--product", "Functions", "-Xswiftc", "-enable-testing", "-Xswiftc",
        "-enforce-exclusivity=unchecked",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BUILD_SECONDS_MAX)
    if done.returncode != 0:
        raise SystemExit(done.stdout)
    return ROOT / ".build/functions/release/Functions"


def measured(text):
    """Median nanoseconds by name, from the distributions that the program prints."""
    functions = {}
    for name, distribution in re.findall(r"^Debug results for (.*?):$(.*?)(?=^Debug results for |\Z)", text, re.S | re.M):
        lines = re.findall(r"^\s*([\d.]+)\s+([01]\.\d+)\s", distribution, re.M)
        median = next(float(value) for value, share in lines if float(share) >= 0.5)
        # Of one call for a mebibyte, of a thousand calls otherwise.
        functions[name] = median / (1 if name.endswith(WHOLE) else 1000)
    return functions


def openssl(algorithm):
    """Nanoseconds that OpenSSL takes for a mebibyte; none if it is not installed or does not know the algorithm."""
    if not shutil.which("openssl"):
        return None
    command = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", str(MEBIBYTE), "-evp", algorithm.lower()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=on(LOAD_CORE))
    # +F:22:sha256:1234567.89, bytes in a second
    lines = [line for line in done.stdout.splitlines() if line.startswith("+F:")]
    return MEBIBYTE / float(lines[0].rpartition(":")[2]) * 1e9 if lines else None


def functions(bench):
    program = build()
    bench.table.section("Single functions, in nanoseconds", ("ns", "× peer"))
    told = subprocess.run(
        [program], capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=True, preexec_fn=on(LOAD_CORE)
    )
    for name, each in measured(told.stdout).items():
        peer = openssl(name.partition(" ")[0]) if name.endswith(WHOLE) else None
        bench.table.row(name, "windlass", each, f"**{each / peer:.2f}**" if peer else None)
        if peer:
            bench.table.row(name, "OpenSSL", peer, None)
