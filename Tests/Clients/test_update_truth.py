"""What devices report is believed as far as it fits: the cases of device makers, over real transports."""

import time

import pytest

from support.data import some_bytes
from support.http_device import HTTPDevice
from support.management import Management, unique
from support.mqtt_device import MQTTDevice
from support.waiting import wait_until

CHUNK = 1000
SIZE = 3 * CHUNK - 1


class Fleet:
    """One device with an update from `1.2.3` to `9.9.9`, and how it reports."""

    def __init__(self, host, management):
        self.management = management
        self.profile = management.profile()
        self.title = unique("pump")
        self.package = management.package(self.profile, some_bytes(SIZE), title=self.title, version="9.9.9")
        self.device = management.device(self.profile)
        self.client = HTTPDevice(host, self.device["token"])

    def assign(self):
        self.management.assign_to_device(self.device, self.package)
        wait_until(lambda: self.state == "INITIATED", "the push")

    def report(self, *states, version=None, prefix="current_fw", **more):
        """Reports states one after the other, with what runs if a version is given."""
        for state in states:
            values = {} if state is None else {"fw_state": state}
            if version is not None:
                values |= {f"{prefix}_title": self.title, f"{prefix}_version": version}
            reply = self.client.telemetry(values | more)
            assert reply.status_code == 200, reply.text

    def chunk(self, index, version="9.9.9"):
        reply = self.client.firmware(self.title, version, size=CHUNK, chunk=index)
        assert reply.status_code == 200, reply.text
        return reply.content

    @property
    def record(self):
        return self.management.record(self.device)

    @property
    def state(self):
        return self.record["state"]

    @property
    def flags(self):
        return [entry["flag"] for entry in self.management.history(self.device) if not entry["accepted"]]


@pytest.fixture
def fleet(host, management):
    fleet = Fleet(host, management)
    yield fleet
    fleet.client.close()


@pytest.mark.bug("T1.2")
def test_updated_without_a_byte_changes_nothing(fleet):
    fleet.assign()
    before = fleet.record
    fleet.report("UPDATED")
    assert fleet.record == before and fleet.flags == ["NOT_SERVED"]


@pytest.mark.bug("T1.2")
def test_updated_counts_after_every_byte_and_not_after_the_last_chunk_alone(fleet):
    fleet.assign()
    fleet.chunk(2)
    fleet.report("UPDATED")
    assert fleet.state == "INITIATED"
    fleet.chunk(0)
    fleet.chunk(1)
    fleet.report("UPDATED")
    assert fleet.state == "UPDATED"


@pytest.mark.bug("T1.4")
def test_a_power_cut_is_an_interruption(fleet):
    fleet.report("UPDATED", version="1.2.3")
    fleet.assign()
    fleet.report("DOWNLOADING", version="1.2.3")
    fleet.report("UPDATED", version="1.2.3")
    assert fleet.state == "DOWNLOADING" and fleet.record["interrupted"]
    fleet.report("DOWNLOADING", version="1.2.3")
    assert fleet.record["attempts"] == 2
    fleet.report("DOWNLOADED", "VERIFIED", "UPDATING", version="1.2.3")
    fleet.report("UPDATED", version="9.9.9")
    assert fleet.state == "UPDATED" and fleet.record["installed"]["version"] == "9.9.9"
    states = [entry["state"] for entry in fleet.management.history(fleet.device)]
    assert "INTERRUPTED" in states


@pytest.mark.bug("T1.4")
@pytest.mark.parametrize(
    "version, cause, error_class",
    [("1.2.3", "ROLLED_BACK", "INSTALLATION_FAILED"), ("5.5.5", "OTHER_VERSION", "INVALID_PACKAGE")],
)
def test_a_device_that_runs_something_else_after_the_installation_failed(make_host, version, cause, error_class):
    # A host of its own, as its log has an error: the package may be mislabelled.
    host = make_host()
    fleet = Fleet(host, Management(host))
    fleet.report("UPDATED", version="1.2.3")
    fleet.assign()
    fleet.report("DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", version="1.2.3")
    fleet.report("UPDATED", version=version)
    record = fleet.record
    assert (record["state"], record["failureCause"], record["errorClass"]) == ("FAILED", cause, error_class)
    assert version in record["error"] and "9.9.9" in record["error"]
    assert fleet.management.latest(fleet.device, "fw_state") == {"fw_state": "FAILED"}
    fleet.report("UPDATED", version="9.9.9")
    assert fleet.state == "UPDATED"
    fleet.client.close()


@pytest.mark.bug("T1.5")
def test_a_failure_from_before_the_assignment_is_not_about_it(fleet):
    before = int(time.time() * 1000)
    fleet.assign()
    values = {"fw_state": "FAILED", "fw_error": "Checksum verification failed!"}
    assert fleet.client.telemetry({"ts": before - 1, "values": values}).status_code == 200
    assert fleet.state == "INITIATED" and fleet.flags == ["BEFORE_ASSIGNMENT"]


@pytest.mark.bug("T1.5")
def test_a_device_that_finishes_an_old_package_says_nothing_about_the_new_one(fleet):
    fleet.assign()
    fleet.report("DOWNLOADING")
    for index in range(3):
        fleet.chunk(index)
    newer = fleet.management.package(fleet.profile, some_bytes(SIZE), title=fleet.title, version="10")
    fleet.management.assign_to_device(fleet.device, newer)
    wait_until(lambda: fleet.state == "INITIATED" and fleet.record["version"] == "10", "the second push")
    fleet.report("DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED")
    assert fleet.state == "INITIATED" and fleet.flags == ["OTHER_PACKAGE"] * 4
    fleet.report("DOWNLOADING")
    for index in range(3):
        fleet.chunk(index, version="10")
    fleet.report("DOWNLOADED", "UPDATED")
    assert fleet.state == "UPDATED"


@pytest.mark.bug("T1.3")
def test_the_version_alone_ends_an_update_and_assigning_what_runs_begins_none(fleet, host):
    fleet.assign()
    fleet.report(None, version="9.9.9")
    assert fleet.state == "UPDATED"
    other = fleet.management.device(fleet.profile)
    client = MQTTDevice(host, other["token"])
    client.telemetry({"current_fw_title": fleet.title, "current_fw_version": "9.9.9"})
    fleet.management.assign_to_device(other, fleet.package)
    record = fleet.management.record(other)
    assert record["state"] == "UPDATED" and list(record["entered"]) == ["UPDATED"]
    assert fleet.management.history(other)[-1]["cause"] == "ALREADY_INSTALLED"
    pushed, answer = client.ask_attributes(sharedKeys="fw_title,fw_version")
    assert pushed == [] and answer["shared"] == {"fw_title": fleet.title, "fw_version": "9.9.9"}
    client.close()


@pytest.mark.bug("T1.1")
def test_a_version_without_quotes_is_its_characters(fleet):
    package = fleet.management.package(fleet.profile, some_bytes(10), title=fleet.title, version="1.10")
    fleet.management.assign_to_device(fleet.device, package)

    def report(version):
        body = f'{{"fw_state":"UPDATED","current_fw_title":"{fleet.title}","current_fw_version":{version}}}'
        reply = fleet.client.session.post(f"{fleet.client.base}/telemetry", data=body, timeout=30)
        assert reply.status_code == 200
        return fleet.state

    assert report("1.1") != "UPDATED"
    assert report("1.10") == "UPDATED"
    assert fleet.record["installed"]["version"] == "1.10"


@pytest.mark.bug("T1.2")
@pytest.mark.parametrize("chunks_before", [1, 2, 3])
def test_what_was_served_is_known_after_kill_9(make_host, chunks_before):
    host = make_host()
    fleet = Fleet(host, Management(host))
    fleet.assign()
    for index in range(chunks_before):
        fleet.chunk(index)
    host.kill()
    host.start()
    fleet.management = Management(host)
    fleet.client = HTTPDevice(host, fleet.device["token"])
    if chunks_before < 3:
        fleet.report("UPDATED")
        assert fleet.state == "INITIATED"
    for index in range(chunks_before, 3):
        fleet.chunk(index)
    fleet.report("UPDATED")
    assert fleet.state == "UPDATED" and fleet.record["servedTime"]
    fleet.client.close()


@pytest.mark.bug("T1.6")
def test_people_see_what_devices_run(fleet):
    fleet.report("IDLE", version="1.2.3")
    fleet.assign()
    infos = fleet.management.call(
        "GET", f"/api/tenant/deviceInfos?pageSize=10&page=0&textSearch={fleet.device['name']}"
    ).json()["data"]
    installed = infos[0]["installedFirmware"]
    assert (installed["title"], installed["version"]) == (fleet.title, "1.2.3")
    assert installed["report"] == "telemetry current_fw_*, fw_state IDLE" and infos[0]["installedSoftware"] is None
    counts = fleet.management.call("GET", f"/api/updates/installed?packageId={fleet.package['id']['id']}").json()
    assert counts == [{"type": "FIRMWARE", "title": fleet.title, "version": "1.2.3", "devices": 1}]
