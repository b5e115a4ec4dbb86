"""Chain files change under load, and no device notices."""

import re
import threading

import pytest

from support.chains import without_comments
from support.data import sha256, some_bytes
from support.management import Management
from support.transfers import CHUNK, TRANSFERS
from support.waiting import wait_until

RELOADS = 10
RELOADED = "chains reloaded"
SIZE = 100 * CHUNK


class Load:
    """Downloads on all three transports that begin anew when they are done, each in one session, until told to stop."""

    def __init__(self, host, management, data):
        self.data = data
        self.stop = threading.Event()
        self.downloads = []
        self.failures = []
        profile = management.profile()
        package = management.package(profile, data)
        self.threads = []
        for index in range(6):
            device = management.device(profile, firmwareId=package["id"])
            management.wait_for_offer(device, package)
            self.downloads.append(0)
            transfer = TRANSFERS[index % 3](host, device, package)
            self.threads.append(threading.Thread(target=self._run, args=(index, transfer), daemon=True))
        for thread in self.threads:
            thread.start()

    def _run(self, index, transfer):
        try:
            while not self.stop.is_set():
                got = b"".join(transfer.chunk(number) for number in range(len(self.data) // CHUNK))
                assert sha256(got) == sha256(self.data), "other bytes than were uploaded"
                self.downloads[index] += 1
            client = getattr(transfer.client, "disconnections", [])
            assert not client, f"the session dropped: {client}"
        except BaseException as error:
            self.failures.append(f"{type(transfer).__name__}: {error!r}")
        finally:
            transfer.close()

    def another_download_each(self):
        """Waits until each device has begun and completed another download, or one has failed."""
        goals = [count + 2 for count in self.downloads]
        wait_until(
            lambda: self.failures or all(count >= goal for count, goal in zip(self.downloads, goals)),
            lambda: f"another download of each device: {self.downloads} of {goals}",
            seconds=60,
        )
        assert not self.failures, self.failures

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(timeout=60)
        assert not self.failures, self.failures


@pytest.fixture
def loaded(make_host):
    host = make_host()
    load = Load(host, Management(host), some_bytes(SIZE))
    load.another_download_each()
    yield host, load
    load.stop.set()


def reload_and_wait(host, pattern):
    """Sends SIGHUP and waits until the log has another line that matches."""
    before = len(re.findall(pattern, host.log(), re.IGNORECASE | re.MULTILINE))
    host.reload()
    wait_until(
        lambda: len(re.findall(pattern, host.log(), re.IGNORECASE | re.MULTILINE)) > before,
        lambda: f"a line like '{pattern}'; the log ends with:\n{host.log()[-2000:]}",
    )


def test_reloads_under_load_fail_no_request_and_drop_no_session(loaded):
    host, load = loaded
    file = host.chains / "ota.xml"
    addresses = dict(host.addresses)
    plain = without_comments(file.read_text())
    first = re.search(r'to="([\w-]+)"', plain)[1]
    # The same chain with one more node in the way of all messages that went to the first target.
    longer = re.sub(rf'to="{first}"', 'to="passing"', plain).replace(
        "</chain>", f'  <flow:log id="passing" level="trace" to="{first}"/>\n</chain>'
    )
    for number in range(RELOADS):
        file.write_text(longer if number % 2 == 0 else plain)
        reload_and_wait(host, RELOADED)
    load.another_download_each()
    load.finish()
    assert host.addresses == addresses
    assert host.process.poll() is None


def test_an_invalid_chain_changes_nothing_and_the_log_says_why(loaded):
    host, load = loaded
    file = host.chains / "ota.xml"
    good = without_comments(file.read_text())
    target = re.search(r'to="([\w-]+)"', good)
    for bad, code in [
        (good.replace(target[0], 'to="nowhere-at-all"', 1), r"nowhere-at-all"),
        (good.replace("</chain>", ""), r"ota\.xml:\d+:\d+: error"),
        ("", r"ota\.xml:\d+:\d+: error"),
    ]:
        file.write_text(bad)
        reload_and_wait(host, code)
        assert re.search(r"ota\.xml:\d+:\d+: error: .*\[[a-z-]+\]", host.log())
        load.another_download_each()
    file.write_text(good)
    reload_and_wait(host, RELOADED)
    load.another_download_each()
    load.finish()


def test_a_watched_chain_file_takes_effect_without_a_signal(make_host):
    host = make_host("--watch")
    file = host.chains / "ota.xml"
    good = file.read_text()
    for text, pattern in [
        (good.replace('to="pace"', 'to="nowhere-at-all"', 1), r"ota\.xml:\d+:\d+: error: .*nowhere-at-all"),
        (good + "\n<!-- changed -->\n", RELOADED),
    ]:
        assert not re.search(pattern, host.log(), re.IGNORECASE | re.MULTILINE)
        file.write_text(text)
        wait_until(
            lambda: re.search(pattern, host.log(), re.IGNORECASE | re.MULTILINE),
            lambda: f"a line like '{pattern}'; the log ends with:\n{host.log()[-2000:]}",
        )
