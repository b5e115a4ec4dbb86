"""This checkout beside another revision: pairs of runs, and for each row the ratio of the two with an interval."""
import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import build

LEFT_OUT = {
    "functions": "it measures no host, but sources that it compiles itself",
    "connections": "it is a program of its own, which prints no rows",
}
# The figures to trust, the best first; of each, less is better. The processor's time is what depends least on what else the machine
# does.
FIGURES = (
    "CPU µs/op", "CPU µs/chunk", "CPU µs/report", "CPU µs/device", "ns/message", "ms p50", "ms max", "s to ready",
)
# A change below this is none, however sure it is: 3 %.
CHANGE_MIN = 1.03
REPEATS_MAX = 31
# Student's t at 97.5 % for 1 to 30 degrees of freedom, and so of 95 % on both sides.
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)


@dataclasses.dataclass
class Comparison:
    """A row's ratio of this checkout's figure to the other's: the geometric mean of the pairs, with its interval of 95 %."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, pairs):
        """Of pairs (this checkout's figure, the other's), at least two."""
        logarithms = [math.log(ours / theirs) for ours, theirs in pairs]
        mean = statistics.fmean(logarithms)
        half = STUDENT[len(pairs) - 2] * statistics.stdev(logarithms) / math.sqrt(len(pairs))
        return cls(*map(math.exp, (mean, mean - half, mean + half)))

    @property
    def verdict(self):
        """`worse` or `better` where 1 is outside the interval and the change is not a small one, else nothing."""
        if self.low > 1 and self.ratio > CHANGE_MIN:
            return "worse"
        return "better" if self.high < 1 and self.ratio < 1 / CHANGE_MIN else ""


def rows(figures):
    """The figure to trust of each row: (section, work) → (its column, its value)."""
    found = {}
    for row in figures:
        column = next((name for name in FIGURES if row["values"].get(name, 0) > 0), None)
        if column:
            found[row["section"], row["work"]] = column, row["values"][column]
    return found


def matched(ours, theirs):
    """Pairs of figures by row and column, from the runs of each side; and the rows that do not have a pair from each run."""
    keys = [{(*row, column) for row, (column, _) in run.items()} for run in ours + theirs]
    everywhere = set.intersection(*keys)
    pairs = {
        key: [(mine[key[:2]][1], other[key[:2]][1]) for mine, other in zip(ours, theirs)]
        for key in (tuple([*row, column]) for row, (column, _) in ours[0].items()) if key in everywhere
    }
    return pairs, sorted({key[:2] for key in set.union(*keys) - everywhere})


def alternate(repeat, here, there):
    """Calls both by turns, A B B A A B …: what drifts meets both alike. Returns what each call gave."""
    ours, theirs = [], []
    for index in range(repeat):
        if index % 2 == 0:
            ours.append(here())
            theirs.append(there())
        else:
            theirs.append(there())
            ours.append(here())
    return ours, theirs


def judged(repeat, here, there, say):
    """Compares the rows of a part, of which `here` and `there` measure one run; returns those that are worse beyond noise.

    One interval in twenty leaves 1 out by chance, and a comparison has some thirty rows. So where a row is worse, the part is
    measured once more, and only a row that is worse both times counts.
    """
    worse = None
    for title in ("{}", "{} (once more)"):
        pairs, single = matched(*alternate(repeat, here, there))
        compared = {key: Comparison.of(taken) for key, taken in pairs.items()}
        for key, taken in pairs.items():
            say(title.format(key[0]), key, taken, compared[key])
        for key in single:
            say(title.format(key[0]), key, None, None)
        found = {key for key in compared if compared[key].verdict == "worse"}
        worse = found if worse is None else worse & found
        if not worse:
            break
    return sorted(worse)


def compare(table, parts, revision, repeat, options):
    """Prints the table; returns the status to exit with."""
    other = build.checkout(revision)
    build.pump(other, other / ".build/release")
    table.say(f"this checkout beside {revision}; ratios are of this one to that one, from {repeat} pairs of runs")

    def say(title, key, taken, compared):
        if table.title != title:
            table.section(title, ("here", "there", "ratio", "95 %", "verdict"), "Figure")
        if compared is None:
            table.row(key[1], "", None, None, "", "", "not in every run")
            return
        here, there = (statistics.median(side) for side in zip(*taken))
        interval = f"{compared.low:.3f} to {compared.high:.3f}"
        table.row(key[1], key[2], here, there, f"**{compared.ratio:.3f}**", interval, compared.verdict)

    there = {**os.environ, "WINDLASS_ROOT": str(other), "WINDLASS_BIN": str(other / ".build/release/windlass")}
    worse = []
    for part in parts:
        worse += judged(
            repeat, lambda: rows(measured(part, options, os.environ)), lambda: rows(measured(part, options, there)), say
        )
    table.say()
    for section, work, column in worse:
        table.say(f"worse beyond noise, both times: {work}, {column} ({section})")
    if not worse:
        table.say(f"no row is worse by more than {CHANGE_MIN - 1:.0%} and beyond noise")
    return 1 if worse else 0


def measured(part, options, environment):
    """The figures of one run, in a process of its own with these scripts; the environment says of which host."""
    with tempfile.TemporaryDirectory(prefix="windlass-figures-") as folder:
        figures = pathlib.Path(folder) / "figures.json"
        command = [sys.executable, str(pathlib.Path(__file__).parent), part, *options, "--figures", str(figures)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise SystemExit(f"'{part}' of {environment.get('WINDLASS_ROOT', 'this checkout')} failed:\n{done.stdout}")
        return json.loads(figures.read_text())
