"""What a device was told is safe survives `kill -9`."""

import collections
import concurrent.futures
import contextlib
import random
import socket
import sqlite3
import threading
import time

import pytest
import requests

from support.data import sha256, some_bytes
from support.doctor import doctor
from support.http_device import HTTPDevice
from support.management import Management, unique
from support.mqtt_device import Disconnected, MQTTDevice
from support.mqtt_fleet import MQTTFleet
from support.transfers import CHUNK, TRANSFERS, persistent_download
from support.waiting import wait_until

DOWNLOADS = 50
REPORTERS = 12
QUEUED = 300
SECONDS = 120
CAMPAIGN = 1_000
CAMPAIGN_PACE_MS = 20
# What was done within this time before the host was killed may be done once more after the restart; with as many kills as
# --crash-rounds 30 makes in a minute, that may happen to the same device twice.
REPEATED_SECONDS = 1
FLOW = ["DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"]


class Counter:
    """Counts from several threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.value = 0

    def add(self):
        with self.lock:
            self.value += 1


def storm(host, device, package, over_mqtt, acknowledged, count, stop):
    """Reports as fast as the host acknowledges, until told to stop or the connection breaks."""
    # Time stamps of the device's own: two reports within a millisecond are two values all the same.
    start = int(time.time() * 1000)
    client = MQTTDevice(host, device["token"]) if over_mqtt else HTTPDevice(host, device["token"])
    try:
        for number in range(1_000_000):
            if stop.is_set():
                return
            body = {"ts": start + number, "values": {"number": number}}
            if number % 8 == 4 and number // 8 < len(FLOW):
                body["values"]["fw_state"] = FLOW[number // 8]
                if FLOW[number // 8] == "UPDATED":
                    body["values"] |= {"current_fw_title": package["title"], "current_fw_version": package["version"]}
            if over_mqtt:
                client.telemetry(body)
            else:
                assert client.telemetry(body).status_code == 200
            acknowledged.append(body["values"])
            count.add()
    except (Disconnected, OSError, ValueError, RuntimeError):
        return
    finally:
        client.close()


def test_kill_in_the_middle_of_downloads_reports_and_pushes_loses_nothing(make_host):
    host = make_host(OTA_PUSH_INTERVAL_MS="50")
    management = Management(host)

    # Devices that download, and those that report; their package is assigned before.
    data = some_bytes(200 * CHUNK + 1)
    profile = management.profile()
    package = management.package(profile, data)
    loading = [management.device(profile, firmwareId=package["id"]) for _ in range(DOWNLOADS)]
    reporting = [management.device(profile, firmwareId=package["id"]) for _ in range(REPORTERS)]
    for device in [*loading, *reporting]:
        wait_until(lambda: management.states(device) == ["QUEUED", "INITIATED"], "the devices to be told")
    # Devices that wait to be told, at the chain's pace of 20 in a second.
    waiting_profile = management.profile()
    waiting_package = management.package(waiting_profile, some_bytes(10))
    waiting = [management.device(waiting_profile) for _ in range(QUEUED)]

    chunks, reports, stop = Counter(), Counter(), threading.Event()
    acknowledged = [[] for _ in reporting]
    deadline = time.monotonic() + SECONDS
    with concurrent.futures.ThreadPoolExecutor(DOWNLOADS + REPORTERS) as pool:
        downloads = [
            pool.submit(
                persistent_download, TRANSFERS[index % 3], host, device, package, len(data), chunks.add, deadline
            )
            for index, device in enumerate(loading)
        ]
        storms = [
            pool.submit(storm, host, device, package, index % 2 == 1, acknowledged[index], reports, stop)
            for index, device in enumerate(reporting)
        ]
        try:
            management.assign_to_profile(waiting_profile, waiting_package)
            # Well begun and far from done: some hundred chunks of ten thousand, some pushes of three hundred.
            wait_until(lambda: chunks.value > DOWNLOADS * 10 and reports.value > REPORTERS * 20, "load", seconds=60)
            wait_until(lambda: management.record(waiting[0])["state"] == "INITIATED", "the first push")
            host.kill()
            killed = time.time() * 1000
            done = sum(download.done() for download in downloads)
        finally:
            stop.set()
        for report in storms:
            report.result(timeout=30)
        assert done < DOWNLOADS, "the downloads were over before the host was killed"

        host.start()
        results = [download.result(timeout=SECONDS) for download in downloads]
    assert {sha256(result) for result in results} == {sha256(data)}

    management = Management(host)
    told_states = 0
    for device, values in zip(reporting, acknowledged):
        assert values, "a reporter without an acknowledged report shows nothing"
        kept = set(management.series(device, "number"))
        missing = [value["number"] for value in values if value["number"] not in kept]
        assert not missing, f"{len(missing)} acknowledged reports are gone, the first is {missing[0]} of {len(values)}"
        states = [value["fw_state"] for value in values if "fw_state" in value]
        history = management.states(device)
        # The report under way when the host was killed may be there as well, though nobody was told.
        assert history in (["QUEUED", "INITIATED", *FLOW[:count]] for count in (len(states), len(states) + 1))
        told_states += len(states)
    assert told_states >= REPORTERS, "the host was killed before the reporters told of their updates"
    told = []
    for device in waiting:
        wait_until(
            lambda: management.states(device) == ["QUEUED", "INITIATED"],
            lambda: f"{device['name']} to be told after the restart, it has {management.states(device)}",
            seconds=60,
        )
        told += [entry["ts"] for entry in management.history(device) if entry["state"] == "INITIATED"]
        assert management.attributes(device)["fw_title"] == waiting_package["title"]
    assert min(told) < killed < max(told), "the host was not killed in the middle of the pushes"


def test_a_host_starts_again_and_again_on_the_same_data(make_host):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    data = some_bytes(10_000)
    package = management.package(profile, data)
    device = management.device(profile, firmwareId=package["id"])
    for round in range(3):
        client = HTTPDevice(host, device["token"])
        assert client.telemetry({"round": round}).status_code == 200
        client.close()
        host.kill()
        host.start()
        assert Management(host).latest(device, "round") == {"round": round}
        reply = HTTPDevice(host, device["token"]).firmware(package["title"], package["version"])
        assert sha256(reply.content) == sha256(data)


@pytest.mark.parametrize("ends", ["the connection", "the host"])
def test_an_upload_that_is_cut_off_leaves_nothing(make_host, ends):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    body = {"deviceProfileId": profile["id"], "type": "FIRMWARE", "title": "cut", "version": "1", "usesUrl": False}
    package = management.call("POST", "/api/otaPackage", json=body).json()
    path = f"/api/otaPackage/{package['id']['id']}"
    head = (
        f"POST {path}?checksumAlgorithm=SHA256 HTTP/1.1\r\nHost: x\r\n"
        f"X-Authorization: Bearer {management.token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 10000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )

    def files():
        """The files but for those of the database, which come and go."""
        return {file for file in host.data.rglob("*") if file.is_file() and ".sqlite" not in file.name}

    before = files()
    with socket.create_connection(host.addresses["management"], timeout=20) as connection:
        connection.sendall(head.encode() + bytes(4_000_000))
        wait_until(
            lambda: any(file.stat().st_size >= 1_000_000 for file in files() - before),
            "the host to begin to store the upload",
        )
        if ends == "the host":
            host.kill()
    if ends == "the host":
        host.start()
        management = Management(host)
    wait_until(lambda: files() == before, lambda: f"the half upload to be removed, there is {files() - before}")
    info = management.call("GET", path.replace("otaPackage", "otaPackage/info")).json()
    assert (info["hasData"], info["dataSize"], info["checksum"]) == (False, None, None)
    assert " error windlass: " not in host.log(), "a client that leaves is no error of the host's"
    # The package is as it was before, so its bytes can still be uploaded.
    data = some_bytes(100_000)
    upload = {"file": ("a", data, "application/octet-stream")}
    info = management.call("POST", path, params={"checksumAlgorithm": "SHA256"}, files=upload).json()
    assert (info["hasData"], info["checksum"]) == (True, sha256(data))


@pytest.mark.parametrize("ends", ["the connection", "the host"])
def test_a_package_that_is_sent_as_one_form_and_cut_off_can_be_sent_again(make_host, windlass, ends):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    fields = {"title": "cut", "version": "1", "type": "FIRMWARE", "deviceProfileId": profile["id"]["id"]}
    parts = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items())
    head = (
        f"POST /api/otaPackage HTTP/1.1\r\nHost: x\r\nX-Authorization: Bearer {management.token}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000\r\n\r\n"
        f'{parts}--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    with socket.create_connection(host.addresses["management"], timeout=20) as connection:
        connection.sendall(head.encode() + bytes(4_000_000))
        wait_until(
            lambda: any(file.stat().st_size >= 1_000_000 for file in (host.data / "packages").iterdir()),
            "the host to begin to store the upload",
        )
        assert management.call("GET", "/api/otaPackages?pageSize=10&page=0").json()["totalElements"] == 0
        if ends == "the host":
            host.kill()
    if ends == "the host":
        host.start()
        management = Management(host)
    data = some_bytes(100_000)
    files = {**{name: (None, text) for name, text in fields.items()}, "file": ("a", data, "application/octet-stream")}
    made = management.call("POST", "/api/otaPackage", files=files).json()
    assert (made["hasData"], made["checksum"]) == (True, sha256(data))
    wait_until(lambda: len(list((host.data / "packages").iterdir())) == 1, "the half upload to be removed")
    assert doctor(windlass, host.data)[1]["findings"] == []


class Reporter:
    """A device that reports and writes an attribute as fast as the host acknowledges; knows what was acknowledged."""

    def __init__(self, device, over_mqtt):
        self.device = device
        self.over_mqtt = over_mqtt
        self.sent = 0
        self.acknowledged = set()
        self.attribute = -1

    def run(self, host, stop):
        try:
            client = (MQTTDevice if self.over_mqtt else HTTPDevice)(host, self.device["token"])
            try:
                while not stop.is_set():
                    self.sent += 1
                    self.send(client, self.sent)
            finally:
                client.close()
        except (Disconnected, OSError, ValueError, RuntimeError, TimeoutError):
            return

    def send(self, client, number):
        # A time of its own for each, so that each is a point of the series.
        report = {"ts": 1_700_000_000_000 + number, "values": {"number": number}}
        if self.over_mqtt:
            client.telemetry(report)
            self.acknowledged.add(number)
            client.publish("v1/devices/me/attributes", {"attribute": number})
        else:
            assert client.telemetry(report).status_code == 200
            self.acknowledged.add(number)
            reply = client.session.post(f"{client.base}/attributes", json={"attribute": number}, timeout=30)
            assert reply.status_code == 200
        self.attribute = number

    def check(self, management):
        missing = self.acknowledged - set(management.series(self.device, "number"))
        assert not missing, f"{len(missing)} of {len(self.acknowledged)} acknowledged reports are gone, such as {min(missing)}"
        kept = management.attributes(self.device, "CLIENT_SCOPE").get("attribute", -1)
        # The one under way may be there as well.
        assert self.attribute <= kept <= self.sent, f"the attribute is {kept}, and {self.attribute} was acknowledged"


class Uploader:
    """Someone who sends packages in one form each and deletes some of them; knows what was acknowledged."""

    def __init__(self, profile, seed):
        self.profile = profile
        self.chance = random.Random(seed)
        self.present = {}
        self.deleted = set()
        # What was under way when the host was killed, and may have happened.
        self.sending = None
        self.deleting = None

    def run(self, host, management, stop):
        try:
            while not stop.is_set():
                self.upload(host, management)
                if len(self.present) > 3 and self.chance.random() < 0.5:
                    self.delete(management)
        except (requests.exceptions.RequestException, OSError):
            return

    def upload(self, host, management):
        title = unique("crash")
        data = self.chance.randbytes(self.chance.choice([1000, 100_000, 1_500_000]))
        self.sending = (title, data)
        package = self.send(host, management, title, data)
        assert package.status_code == 200, package.text
        self.present[package.json()["id"]["id"]] = sha256(data)
        self.sending = None

    def send(self, host, management, title, data):
        return requests.post(
            f"{host.url('management')}/api/otaPackage", timeout=30,
            headers={"X-Authorization": f"Bearer {management.token}"},
            files={
                "title": (None, title), "version": (None, "1"), "type": (None, "FIRMWARE"),
                "deviceProfileId": (None, self.profile["id"]["id"]), "file": ("f", data, "application/octet-stream"),
            },
        )

    def delete(self, management):
        self.deleting = self.chance.choice(sorted(self.present))
        management.call("DELETE", f"/api/otaPackage/{self.deleting}")
        self.present.pop(self.deleting)
        self.deleted.add(self.deleting)
        self.deleting = None

    def check(self, host, management):
        if self.deleting is not None:
            reply = management.call("GET", f"/api/otaPackage/info/{self.deleting}", status=(200, 404))
            if reply.status_code == 404:
                self.present.pop(self.deleting)
                self.deleted.add(self.deleting)
            self.deleting = None
        for package, digest in self.present.items():
            reply = management.call("GET", f"/api/otaPackage/{package}/download")
            assert sha256(reply.content) == digest
        for package in self.deleted:
            management.call("GET", f"/api/otaPackage/info/{package}", status=(404,))
        if self.sending is not None:
            # The same again succeeds, unless it had succeeded: then the package is whole.
            title, data = self.sending
            reply = self.send(host, management, title, data)
            if reply.status_code == 400:
                page = management.call("GET", f"/api/otaPackages?pageSize=10&page=0&textSearch={title}").json()
                [package] = [entry for entry in page["data"] if entry["title"] == title]
                assert package["hasData"] and package["checksum"] == sha256(data), reply.text
            else:
                assert reply.status_code == 200, reply.text
                package = reply.json()
            self.present[package["id"]["id"]] = sha256(data)
            self.sending = None


def test_nothing_acknowledged_is_lost_however_often_the_host_is_killed(make_host, windlass, pytestconfig):
    rounds = pytestconfig.getoption("--crash-rounds")
    seed = pytestconfig.getoption("--crash-seed")
    seed = random.randrange(1 << 32) if seed is None else seed
    print(f"--crash-rounds {rounds} --crash-seed {seed}")
    chance = random.Random(seed)
    host = make_host()
    management = Management(host)
    profile = management.profile()
    reporters = [Reporter(management.device(profile), index % 2 == 1) for index in range(8)]
    uploaders = [Uploader(profile, chance.random()) for _ in range(2)]
    for number in range(rounds):
        stop = threading.Event()
        before = sum(len(reporter.acknowledged) for reporter in reporters)
        uploaded = sum(len(uploader.present) + len(uploader.deleted) for uploader in uploaders)
        with concurrent.futures.ThreadPoolExecutor(len(reporters) + len(uploaders)) as pool:
            work = [pool.submit(reporter.run, host, stop) for reporter in reporters]
            work += [pool.submit(uploader.run, host, management, stop) for uploader in uploaders]
            try:
                wait_until(
                    lambda: sum(len(reporter.acknowledged) for reporter in reporters) >= before + 50
                    and sum(len(uploader.present) + len(uploader.deleted) for uploader in uploaders) > uploaded,
                    "load", seconds=60,
                )
                # At any point of a commit, an upload, a deletion.
                time.sleep(chance.random())
                host.kill()
            finally:
                stop.set()
            for part in work:
                part.result(timeout=60)
        _, report = doctor(windlass, host.data)
        left = {finding["code"] for finding in report["findings"]}
        assert left <= {"unfinished-upload", "orphan"}, f"round {number}: {report['findings']}"
        host.options = ("--package-storage", chance.choice(["files", "sqlite"]))
        host.start()
        management = Management(host)
        for reporter in reporters:
            reporter.check(management)
        for uploader in uploaders:
            uploader.check(host, management)
        code, report = doctor(windlass, host.data)
        assert (code, report["findings"]) == (0, []), f"round {number}"
    reports = sum(len(reporter.acknowledged) for reporter in reporters)
    packages = sum(len(uploader.present) + len(uploader.deleted) for uploader in uploaders)
    print(f"{rounds} kills: {reports} reports, {packages} uploads acknowledged, none lost")


def waiting_pushes(host):
    """How many assignments and pushes are stored and not done, and how many devices have missed theirs."""
    with contextlib.closing(sqlite3.connect(f"file:{host.data}/windlass.sqlite?mode=ro", uri=True, timeout=30)) as store:
        return store.execute(
            "SELECT (SELECT count(*) FROM assignment) + (SELECT count(*) FROM message_queue) "
            "+ (SELECT count(*) FROM update_record WHERE push_missed = 1)"
        ).fetchone()[0]


def test_every_device_is_notified_of_its_package_however_often_the_host_is_killed_meanwhile(make_host, pytestconfig):
    rounds = pytestconfig.getoption("--crash-rounds")
    seed = pytestconfig.getoption("--crash-seed")
    seed = random.randrange(1 << 32) if seed is None else seed
    print(f"--crash-rounds {rounds} --crash-seed {seed}")
    chance = random.Random(seed)
    host = make_host(OTA_PUSH_INTERVAL_MS=str(CAMPAIGN_PACE_MS))
    management = Management(host)
    profile = management.profile()
    package = management.package(profile, some_bytes(100))
    title = package["title"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        devices = list(pool.map(lambda _: management.device(profile), range(CAMPAIGN)))
    kills = []
    with MQTTFleet(host, devices) as fleet:
        wait_until(lambda: fleet.subscribed() == CAMPAIGN, lambda: f"{CAMPAIGN} listeners, not {fleet.subscribed()}", 60)
        management.assign_to_profile(profile, package)
        for number in range(rounds):
            count = CAMPAIGN * (number + 1) // (rounds + 1)
            wait_until(lambda: fleet.notified(title) >= count, f"{count} pushes", seconds=60, every=0.005)
            # At any point of what the host does for a push.
            time.sleep(chance.random() * CAMPAIGN_PACE_MS / 1000)
            host.kill()
            kills.append(time.time())
            host.start()
        wait_until(
            lambda: fleet.notified(title) == CAMPAIGN and waiting_pushes(host) == 0,
            lambda: f"the end of the campaign: {waiting_pushes(host)} pushes wait; not notified: {fleet.missing(title)}; {kills}",
            seconds=60,
        )
        # The host answers after it has sent what it had to send, so nothing is under way to the devices.
        assert Management(host).attributes(devices[0])["fw_title"] == title
    histogram = collections.Counter(len(listener.pushes) for listener in fleet.listeners)
    print(f"{rounds} kills during {CAMPAIGN} pushes; devices by their notifications: {dict(sorted(histogram.items()))}")
    assert 0 not in histogram
    for listener in fleet.listeners:
        times = [pushed for pushed, _ in listener.pushes]
        for pushed, again in zip(times, times[1:]):
            assert any(killed - REPEATED_SECONDS <= pushed and killed < again for killed in kills), (
                f"{listener.name} was notified at {times}, and the host killed at {kills}"
            )
