"""One assignment reaches a whole fleet, once, at the chain's pace."""

import concurrent.futures
import json

import pytest

from support.data import some_bytes
from support.management import Management
from support.mqtt_device import ATTRIBUTES, MQTTDevice
from support.waiting import wait_until

COUNT = 1_000
OWN = 10
WATCHED = 5


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(function, items))


def test_one_assignment_reaches_a_thousand_devices_and_skips_those_with_their_own(host, management):
    profile = management.profile()
    ours = management.package(profile, some_bytes(100))
    own = management.package(profile, some_bytes(200))
    devices = in_parallel(lambda _: management.device(profile), range(COUNT))
    with_own = in_parallel(lambda _: management.device(profile, firmwareId=own["id"]), range(OWN))
    for device in with_own:
        wait_until(lambda: management.states(device) == ["QUEUED", "INITIATED"], "the devices to get their own package")
    watched = [MQTTDevice(host, device["token"]) for device in [*devices[:WATCHED], *with_own[:1]]]
    # One that was away when it was to be told of its own package is told when it comes.
    topic, payload = watched[-1].receive()
    assert (topic, json.loads(payload)["fw_title"]) == (ATTRIBUTES, own["title"])

    management.assign_to_profile(profile, ours)
    queued = in_parallel(management.states, devices)
    assert all(states[:1] == ["QUEUED"] for states in queued), "all are queued when the assignment is answered"
    wait_until(
        lambda: management.record(devices[-1])["state"] == "INITIATED", "the last device to be told", seconds=60
    )

    def is_told(device):
        return wait_until(
            lambda: management.states(device) == ["QUEUED", "INITIATED"],
            lambda: f"{device['name']} to be told, it has {management.states(device)}",
            seconds=30,
        )

    assert sum(in_parallel(is_told, devices)) == COUNT
    shared = in_parallel(management.attributes, devices)
    assert {attributes["fw_title"] for attributes in shared} == {ours["title"]}

    # A device that listens is told once, in one message; the answer to a question marks the end of what came before.
    for client in watched[:WATCHED]:
        before, answer = client.ask_attributes(sharedKeys="fw_title")
        assert answer == {"shared": {"fw_title": ours["title"]}}
        assert [topic for topic, _ in before] == [ATTRIBUTES]
    before, answer = watched[-1].ask_attributes(sharedKeys="fw_title")
    assert (before, answer) == ([], {"shared": {"fw_title": own["title"]}})
    for device in with_own:
        assert management.states(device) == ["QUEUED", "INITIATED"]
        assert management.record(device)["title"] == own["title"]

    # Without a package of its own a device falls back to its profile's.
    falling = with_own[0]
    management.assign_to_device(falling, None)
    management.wait_for_offer(falling, ours)
    topic, payload = watched[-1].receive()
    assert topic == ATTRIBUTES and ours["title"].encode() in payload
    assert management.states(falling, ours["title"]) == ["QUEUED", "INITIATED"]

    # The same package again is nothing new.
    management.assign_to_profile(profile, ours)
    assert management.states(devices[0]) == ["QUEUED", "INITIATED"]

    # Without any package the attributes go.
    management.assign_to_profile(profile, None)
    wait_until(lambda: not management.attributes(devices[0]), "the attributes to go when the package is un-assigned")
    wait_until(lambda: not management.attributes(falling), "the attributes of the device that fell back to go")
    assert management.attributes(with_own[1])["fw_title"] == own["title"]
    for client in watched:
        client.close()


@pytest.mark.parametrize("pause_ms", [50])
def test_the_chain_paces_the_pushes(make_host, pause_ms):
    management = Management(make_host(OTA_PUSH_INTERVAL_MS=str(pause_ms)))
    profile = management.profile()
    package = management.package(profile, some_bytes(100))
    devices = in_parallel(lambda _: management.device(profile), range(20))
    management.assign_to_profile(profile, package)
    for device in devices:
        wait_until(lambda: management.states(device) == ["QUEUED", "INITIATED"], "all devices to be told")
    times = sorted(
        entry["ts"]
        for device in devices
        for entry in management.history(device)
        if entry["state"] == "INITIATED"
    )
    assert times[-1] - times[0] >= 0.9 * pause_ms * (len(devices) - 1), times
