"""The comparison of two revisions (`Benchmarks/run --against`): its statistics, and which rows it takes."""
import math
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Benchmarks/compare"))

import against
import build
import measure


def run_of(**works):
    """A run's rows as one side writes them, of a section with the processor's time."""
    return against.rows([{"section": "s", "work": work, "values": {"CPU µs/op": value}} for work, value in works.items()])


def in_turn(*runs):
    """One side: each call gives the next run."""
    return iter(runs).__next__


class ComparisonTests(unittest.TestCase):
    def test_interval(self):
        """The interval is Student's t over the logarithms of the pairs' ratios"""
        compared = against.Comparison.of([(math.exp(0.1), 1), (math.exp(0.2), 1), (math.exp(0.3), 1)])
        # The deviation is 0.1, its error 0.1 / √3, and t for two degrees of freedom is 4.303.
        self.assertAlmostEqual(math.log(compared.ratio), 0.2)
        self.assertAlmostEqual(math.log(compared.low), 0.2 - 4.303 * 0.1 / math.sqrt(3))
        self.assertAlmostEqual(math.log(compared.high), 0.2 + 4.303 * 0.1 / math.sqrt(3))

    def test_every_repeat(self):
        """There is a t for every allowed number of pairs, smaller for more of them"""
        self.assertEqual(len(against.STUDENT), against.REPEATS_MAX - 1)
        self.assertEqual(list(against.STUDENT), sorted(against.STUDENT, reverse=True))
        self.assertEqual(against.Comparison.of([(2, 1)] * against.REPEATS_MAX).verdict, "worse")

    def test_verdicts(self):
        """A row is worse or better only if 1 is outside its interval and the change is more than 3 %"""
        for ratio, low, high, verdict in (
            (1.031, 1.001, 1.07, "worse"), (1.029, 1.02, 1.04, ""), (1.30, 0.99, 1.7, ""), (1, 0.9, 1.1, ""),
            (0.97, 0.93, 0.999, "better"), (0.98, 0.97, 0.99, ""), (0.7, 0.5, 1.01, ""),
        ):
            with self.subTest(ratio=ratio):
                self.assertEqual(against.Comparison(ratio, low, high).verdict, verdict)


class RowTests(unittest.TestCase):
    def test_rows_of_the_table(self):
        """A row's figure is the best one it has; rows of peers and rows without a figure are left out"""
        table = measure.Table(None)
        table.say = lambda text="": None
        sample = measure.Sample(12.5, 40_000, 41, 24, 33, 3, 0, 50)
        table.section("chunks")
        table.compare("1 KiB", sample, sample, "nginx")
        table.section("chain", ("ns/message", "ns/hop", "messages/s"))
        table.row("an empty node", "windlass", 300, None, 3e6)
        table.section("calls", ("ms p50", "ms max", "peak MiB"))
        table.row("to tell all", "windlass", None, 80, 100)
        table.section("share", ("CPU µs/op", "share"))
        table.row("what the chain adds", "windlass", -0.2, "-2.0%")
        self.assertEqual(against.rows(table.figures), {
            ("chunks", "1 KiB"): ("CPU µs/op", 12.5), ("chain", "an empty node"): ("ns/message", 300),
            ("calls", "to tell all"): ("ms max", 80),
        })

    def test_one_sided_rows(self):
        """A row that a run of either side does not have is named and not compared"""
        pairs, single = against.matched(
            [run_of(a=2, new=1), run_of(a=3, new=1)], [run_of(a=1, old=1), run_of(a=1)]
        )
        self.assertEqual(pairs, {("s", "a", "CPU µs/op"): [(2, 1), (3, 1)]})
        self.assertEqual(single, [("s", "new"), ("s", "old")])


class RunTests(unittest.TestCase):
    def judge(self, here, there):
        """What counts as worse, and the works that were told of."""
        told = []
        found = against.judged(
            2, in_turn(*(run_of(**run) for run in here)), in_turn(*(run_of(**run) for run in there)),
            lambda title, key, taken, compared: told.append((title, key[1], compared and compared.verdict)),
        )
        return [work for _, work, _ in found], told

    def test_order(self):
        """Runs alternate A B B A, and each pair is of runs beside each other"""
        order = []
        ours, theirs = against.alternate(
            3, lambda: order.append("A") or len(order), lambda: order.append("B") or len(order)
        )
        self.assertEqual("".join(order), "ABBAAB")
        self.assertEqual((ours, theirs), ([1, 4, 5], [2, 3, 6]))

    def test_no_change(self):
        """Without a worse row each side runs as often as asked"""
        worse, told = self.judge([{"a": 10}, {"a": 9}], [{"a": 9}, {"a": 10}])
        self.assertEqual((worse, told), ([], [("s", "a", "")]))

    def test_worse_twice(self):
        """A row that is worse, and worse again when measured once more, counts"""
        worse, told = self.judge([{"a": 20, "b": 1}] * 4, [{"a": 10, "b": 1}] * 4)
        self.assertEqual(worse, ["a"])
        self.assertEqual(told[0], ("s", "a", "worse"))
        self.assertEqual(told[2], ("s (once more)", "a", "worse"))

    def test_worse_once(self):
        """A row that is worse by chance, and not when measured once more, does not count"""
        worse, told = self.judge(
            [{"a": 20, "b": 1}] * 2 + [{"a": 10, "b": 2}] * 2, [{"a": 10, "b": 1}] * 4
        )
        self.assertEqual(worse, [])
        self.assertEqual([verdict for _, _, verdict in told], ["worse", "", "", "worse"])


class CheckoutTests(unittest.TestCase):
    def test_neither(self):
        """What is neither a revision nor a checkout is refused"""
        with self.assertRaisesRegex(SystemExit, "neither a revision of this repository nor a folder"):
            build.checkout("no-such-revision")

    def test_unbuilt(self):
        """A folder without a release build is refused with the command that makes one"""
        here = str(pathlib.Path(__file__).resolve().parents[2] / "FuzzTesting")
        with self.assertRaisesRegex(SystemExit, "has no release build; run .*/bin/windlass"):
            build.checkout(here)


if __name__ == "__main__":
    unittest.main()
