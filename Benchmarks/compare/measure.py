"""Runs the load generator, takes medians, and prints the table."""
import dataclasses
import json
import pathlib
import statistics
import subprocess

from processes import LOAD_CORE, on

COLUMNS = ("CPU µs/op", "× peer", "op/s", "MB/s", "p50 µs", "p99 µs", "MiB")


@dataclasses.dataclass
class Sample:
    """One run of the load generator."""

    cpu_us: float
    rate: float
    megabytes: float
    p50_us: float
    p99_us: float
    seconds: float
    retries: int
    memory: float


class Load:
    """The load generator with its options for one server."""

    def __init__(self, binary, protocol, server, port, **options):
        self.command = [str(binary), "--protocol", protocol, "--port", str(port)]
        self.server = server
        for name, value in options.items():
            for text in value if isinstance(value, list) else [value]:
                self.command += [f"--{name}"] if text is True else [f"--{name}", str(text)]

    def start(self):
        """The load generator under way; what it prints is for `sample`."""
        command = self.command + ["--processes", ",".join(map(str, self.server.pids))]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, preexec_fn=on(LOAD_CORE), **pipes)

    def run(self):
        with self.start() as process:
            told, errors = process.communicate(timeout=600)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(self.command)}: {errors}")
        return self.sample(told, self.server.memory())

    @staticmethod
    def sample(text, memory):
        told = json.loads(text)
        count = max(1, told["operations"])
        return Sample(
            told["cpu_us"] / count, told["operations"] / told["seconds"], told["bytes"] / told["seconds"] / 1e6,
            told["p50_us"], told["p99_us"], told["seconds"], told["retries"], memory,
        )


def median(samples):
    return Sample(**{
        field.name: statistics.median(getattr(sample, field.name) for sample in samples)
        for field in dataclasses.fields(Sample)
    })


def side_by_side(rounds, *loads):
    """Medians of each load; all take turns, so that what else the machine does meets all alike."""
    samples = [[] for _ in loads]
    for _ in range(rounds):
        for load, taken in zip(loads, samples):
            taken.append(load.run())
    return [median(taken) for taken in samples]


def number(value):
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Table:
    """Prints rows as they are measured, and keeps all for the file; the rows of the host also as figures, for `against`."""

    def __init__(self, path):
        self.file = open(path, "w") if path else None
        self.title, self.columns, self.figures = None, (), []

    def say(self, text=""):
        print(text, flush=True)
        if self.file:
            print(text, file=self.file, flush=True)

    def section(self, title, columns=COLUMNS, second="Server"):
        self.title, self.columns = title, columns
        self.say(f"\n### {title}\n")
        self.say(f"| Work | {second} | " + " | ".join(columns) + " |")
        self.say("|---|---|" + "---:|" * len(columns))

    def row(self, work, server, *cells):
        if server == "windlass":
            values = {name: cell for name, cell in zip(self.columns, cells) if isinstance(cell, (int, float))}
            self.figures.append({"section": self.title, "work": work, "values": values})
        self.say(f"| {work} | {server} | " + " | ".join(c if isinstance(c, str) else number(c) for c in cells) + " |")

    def sample(self, work, server, sample, ratio=None):
        self.row(
            work, server, sample.cpu_us, ratio if ratio is None else f"**{ratio:.2f}**", sample.rate,
            sample.megabytes or None, sample.p50_us, sample.p99_us, sample.memory,
        )

    def compare(self, work, ours, theirs=None, peer=""):
        self.sample(work, "windlass", ours, theirs and ours.cpu_us / theirs.cpu_us)
        if theirs:
            self.sample(work, peer, theirs)


def core_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
