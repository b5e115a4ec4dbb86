"""Messages that wait in nodes: a canary is promoted, and a node with messages is taken out of its chain."""

import pytest

from support.chains import without_comments
from support.command_line import FAILED, NOT_FOUND, UNCONFIRMED, CommandLine
from support.data import some_bytes
from support.doctor import doctor
from support.management import Management, unique
from support.metrics import metrics, total
from support.waiting import wait_until

SYSTEM = "sysadmin@windlass.local"
SYSTEM_PASSWORD = "a password of the system administrator"
RELOADED = "chains reloaded"
STRANDED = "messages wait in a queue whose node no running chain has"
# All but the canaries wait in a node that lets one go on a day; the first goes at once.
CANARY = """
  <ota:assignments id="assigned" to="canary"/>
  <flow:filter id="canary" test="starts-with($deviceName, 'lab-')">
    <link on="True" to="pace"/>
    <link on="False" to="others"/>
  </flow:filter>
  <flow:throttle id="others" interval-milliseconds="86400000" to="pace"/>
"""


class Rollout:
    """A host with a canary in its chain, and a fleet with one canary among five devices."""

    def __init__(self, windlass, host):
        self.host = host
        self.file = host.chains / "ota.xml"
        self.plain = without_comments(self.file.read_text())
        self.canary = self.plain.replace('<ota:assignments id="assigned" to="pace"/>', CANARY)
        assert self.canary != self.plain
        self.command = CommandLine(
            windlass, host.url("management"), WINDLASS_USER=SYSTEM, WINDLASS_PASSWORD=SYSTEM_PASSWORD
        )
        self.management = Management(host)
        self.load(self.canary)
        self.profile = self.management.profile()
        self.devices = [self.management.device(self.profile, name=unique(name)) for name in ["lab"] + 4 * ["field"]]

    def load(self, text):
        """Lets another chain file take over."""
        before = self.host.log().count(RELOADED)
        self.file.write_text(text)
        self.host.reload()
        wait_until(lambda: self.host.log().count(RELOADED) > before, "the reload")

    def assign(self):
        """Assigns a new package to all devices."""
        package = self.management.package(self.profile, some_bytes(100))
        self.management.assign_to_profile(self.profile, package)
        return package

    def queues(self):
        """The chain's queues by their nodes."""
        return {queue["node"]: queue for queue in self.command.json("queue", "list") if queue["chain"] == "ota"}

    def wait_for(self, count):
        """Waits until so many messages are left, and they wait in `others`."""
        def waiting():
            queues = self.queues()
            return queues["others"]["waiting"] == count and queues["pace"]["waiting"] == 0

        wait_until(waiting, lambda: f"{count} messages to wait: {self.queues()}")

    def warnings(self):
        return self.host.log().count(STRANDED)


@pytest.fixture
def rollout(windlass, make_host):
    return Rollout(windlass, make_host(WINDLASS_SYSADMIN_PASSWORD=SYSTEM_PASSWORD))


def test_a_canary_is_promoted_by_moving_what_waits(rollout, windlass):
    package = rollout.assign()
    rollout.wait_for(3)
    others = rollout.queues()["others"]
    assert (others["name"], others["hasNode"], others["held"]) == ("ota/others", True, {})
    assert others["oldest"] > 1_600_000_000_000
    listed = rollout.command.run("queue", "list").stdout.splitlines()
    assert listed[0].split() == ["QUEUE", "NODE", "WAITING", "OLDEST", "LATER"]
    assert [line.split()[:3] for line in listed[1:]] == [["ota/others", "runs", "3"], ["ota/pace", "runs", "0"]]

    move = ["queue", "move", "others", "pace"]
    assert rollout.command.run(*move, "--dry-run").stdout == "would move 3 messages from 'others' to 'pace'\n"
    assert rollout.command.json(*move, "--dry-run") == {"messages": 3}
    assert "move 3 messages" in rollout.command.fails(UNCONFIRMED, *move)
    assert "nothing was changed" in rollout.command.answered("n", *move).stderr
    assert rollout.queues()["others"]["waiting"] == 3
    moved = rollout.command.answered("y", *move)
    assert (moved.returncode, moved.stdout) == (0, "moved 3 messages from 'others' to 'pace'\n")
    for device in rollout.devices:
        rollout.management.wait_for_offer(device, package)
    assert {name: queue["waiting"] for name, queue in rollout.queues().items()} == {"others": 0, "pace": 0}
    assert "no message waits in 'others'" in rollout.command.fails(FAILED, *move)
    assert rollout.warnings() == 0

    # The administrator of the only tenant has them, too.
    tenant = CommandLine(windlass, rollout.host.url("management"))
    assert tenant.json("queue", "list") == rollout.command.json("queue", "list")


def test_messages_whose_node_is_gone_are_told_of_and_wait_until_it_is_back(rollout, windlass):
    rollout.assign()
    rollout.wait_for(3)
    rollout.load(rollout.plain)
    wait_until(lambda: rollout.warnings() == 1, "the warning")
    [line] = [line for line in rollout.host.log().splitlines() if STRANDED in line]
    assert "warning" in line and "windlass queue move" in line and "windlass queue drop" in line
    assert "queue.name=ota/others" in line and "queue.messages=3" in line and "queue.oldest=2" in line
    others = rollout.queues()["others"]
    assert (others["hasNode"], others["waiting"]) == (False, 3)
    assert "missing" in rollout.command.run("queue", "list").stdout

    def measured():
        samples = metrics(rollout.host)
        # Counts of tables may be some seconds old.
        return total(samples, "windlass_waiting_messages", chain="ota", node="others") == 3 and samples

    samples = wait_until(measured, "the messages to be counted", seconds=30)
    assert total(samples, "windlass_waiting_messages_oldest_seconds", chain="ota", node="others") > 0
    assert samples["windlass_waiting_messages", frozenset({("chain", "ota"), ("node", "pace")})] == 0
    assert total(samples, "windlass_waiting_assignments") == 3
    code, report = doctor(windlass, rollout.host.data)
    assert (code, report["findings"]) == (0, [])
    assert report["queues"] == [{"name": "ota/others", "waiting": 3, "oldest": others["oldest"]}]

    refused = rollout.command.fails(NOT_FOUND, "queue", "move", "elsewhere", "pace")
    assert "there is no queue 'elsewhere'; there are 'ota/others', 'ota/pace'" in refused.lower()
    assert "would wait in vain" in rollout.command.fails(FAILED, "queue", "move", "pace", "others")

    # The chain comes back, and its node goes on: again the first at once.
    rollout.load(rollout.canary)
    rollout.wait_for(2)
    assert rollout.queues()["others"]["hasNode"] is True
    rollout.load(rollout.plain)
    wait_until(lambda: rollout.warnings() == 2, "another warning")
    assert rollout.command.json("queue", "drop", "ota/others", "--dry-run") == {"messages": 2}
    assert rollout.command.run("queue", "drop", "ota/others", "--yes").stdout == "dropped 2 messages of 'ota/others'\n"
    assert list(rollout.queues()) == ["pace"]
    rollout.command.fails(NOT_FOUND, "queue", "drop", "ota/others", "--yes")
    assert doctor(windlass, rollout.host.data)[1]["queues"] == []


def test_messages_whose_node_is_gone_at_a_start_are_moved_and_go_on(rollout):
    package = rollout.assign()
    rollout.wait_for(3)
    rollout.host.stop()
    rollout.file.write_text(rollout.plain)
    rollout.host.start()
    rollout.command.environment["WINDLASS_SERVER"] = rollout.host.url("management")
    wait_until(lambda: rollout.warnings() == 1, "the warning")
    assert rollout.command.json("queue", "move", "others", "pace", "--yes") == {"messages": 3}
    management = Management(rollout.host)
    for device in rollout.devices:
        management.wait_for_offer(device, package)
    assert list(rollout.queues()) == ["pace"]
