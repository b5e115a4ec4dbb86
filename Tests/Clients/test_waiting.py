"""Pushes that wait: they do not hold up others, and the record says why a device was not notified."""

import json
import time

from support.data import some_bytes
from support.management import Management
from support.mqtt_device import MQTTDevice
from support.mqtt_fleet import MQTTFleet
from support.waiting import wait_until

PACED = 'id="pace" interval-milliseconds="${OTA_PUSH_INTERVAL_MS:-600}" to="push"/>'


def paced_to(node):
    """A change of the chain that ships: another node between 'pace' and 'push'."""

    def change(text):
        assert text.count(PACED) == 1
        return text.replace(PACED, PACED.replace('to="push"', 'to="between"') + node)

    return change


def test_devices_that_are_held_back_do_not_delay_others(make_host):
    hold = (
        """<flow:hold id="between" test="starts-with($deviceName, 'closed')" retry-seconds="600" """
        """code="maintenance-window" reason="outside of its maintenance window" to="push"/>"""
    )
    host = make_host(chain=paced_to(hold), OTA_PUSH_INTERVAL_MS="600")
    management = Management(host)
    profile = management.profile()
    closed = [management.device(profile, name=f"closed {number}") for number in range(60)]
    opened = [management.device(profile, name=f"open {number}") for number in range(10)]
    package = management.package(profile, some_bytes(100))
    started = time.monotonic()
    management.assign_to_profile(profile, package)
    wait_until(
        lambda: all(management.record(device)["state"] == "INITIATED" for device in opened), "the open devices' pushes"
    )
    seconds = time.monotonic() - started
    print(f"{len(opened)} devices notified in {seconds:.1f} s beside {len(closed)} that wait")
    # Nine pauses of 0.6 s: the devices that are held back cost none.
    assert seconds < 10

    for device in closed:
        record = management.record(device)
        assert record["state"] == "QUEUED"
        waiting = record["waiting"]
        assert (waiting["queue"], waiting["tries"]) == ("ota/pace", 1)
        assert (waiting["code"], waiting["reason"]) == ("maintenance-window", "outside of its maintenance window")
        # Up to ten seconds later than the node said, so that not all of them come at once.
        assert 540_000 < waiting["until"] - waiting["since"] < 630_000
        assert management.attributes(device) == {}
    assert all(management.record(device)["waiting"] is None for device in opened)


def test_a_second_package_takes_the_place_of_a_cancelled_first_one(make_host):
    count, pace_seconds = 25, 0.2
    host = make_host(OTA_PUSH_INTERVAL_MS=str(int(pace_seconds * 1000)))
    management = Management(host)
    profile = management.profile()
    devices = [management.device(profile) for _ in range(count)]
    first = management.package(profile, some_bytes(100), version="1")
    second = management.package(profile, some_bytes(200), version="2")
    with MQTTFleet(host, devices) as fleet:
        wait_until(lambda: fleet.subscribed() == count, "all devices to listen")
        management.assign_to_profile(profile, first)
        wait_until(lambda: fleet.notified(first["title"]) >= 5, "some devices to be notified of the first package")
        management.call("POST", f"/api/deviceProfile/{profile['id']['id']}/update/FIRMWARE/cancel")
        cancelled = time.time()
        management.assign_to_profile(profile, second)
        assigned = time.time()
        wait_until(lambda: fleet.notified(second["title"]) == count, "all devices to be notified of the second package")
        for device in devices:
            wait_until(lambda: management.states(device, second["title"]) == ["QUEUED", "INITIATED"], "the records")
    pushes = [push for listener in fleet.listeners for push in listener.pushes]
    stale = [at for at, title in pushes if title == first["title"]]
    fresh = [at for at, title in pushes if title == second["title"]]
    print(
        f"{len(stale)} of {count} devices notified of the first package; of the second: the first after "
        f"{min(fresh) - assigned:.2f} s, the last after {max(fresh) - assigned:.2f} s at a pace of {pace_seconds} s"
    )
    # One may have been under way.
    assert sum(at > cancelled for at in stale) <= 1
    assert len(fresh) == count
    # In order of arrival, twenty pushes of the first package and 25 withdrawals would come before: nine seconds.
    assert min(fresh) - assigned < 3
    assert max(fresh) - assigned < 2 * count * pace_seconds


def test_a_record_says_where_the_chain_ended_before_the_push(make_host):
    only = (
        """<flow:filter id="between" test="starts-with($deviceName, 'canary')"><link on="True" to="push"/></flow:filter>"""
    )
    host = make_host(chain=paced_to(only))
    management = Management(host)
    profile = management.profile()
    canary = management.device(profile, name="canary 1")
    other = management.device(profile, name="other 1")
    client = MQTTDevice(host, canary["token"])
    package = management.package(profile, some_bytes(100))
    management.assign_to_profile(profile, package)
    assert json.loads(client.receive()[1])["fw_title"] == package["title"]
    client.close()

    def ended():
        record = management.record(other)
        return record["waiting"] and record["waiting"]["code"] == "ended" and record

    record = wait_until(ended, lambda: f"the reason of the other device, which has {management.record(other)}")
    assert record["state"] == "QUEUED"
    waiting = record["waiting"]
    assert "between" in waiting["reason"] and "False" in waiting["reason"]
    assert waiting["queue"] is None and waiting["until"] is None
    assert "ended before it came to the device" in host.log()
