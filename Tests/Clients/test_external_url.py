"""Packages that devices fetch from elsewhere, and the order in which devices hear about changes."""

import json

import pytest
from aiocoap.numbers.codes import Code

from support.coap_device import CoAPDevice
from support.data import some_bytes
from support.http_device import HTTPDevice
from support.mqtt_device import ATTRIBUTES, MQTTDevice

URL = "https://downloads.example.org/firmware.bin"


def test_a_url_package_is_named_but_not_served(host, management):
    profile = management.profile()
    package = management.package(profile, url=URL)
    device = management.device(profile)
    management.assign_to_device(device, package)
    shared = management.wait_for_offer(device, package)
    assert shared["fw_url"] == URL
    assert not {"fw_size", "fw_checksum", "fw_checksum_algorithm"} & shared.keys()
    assert HTTPDevice(host, device["token"]).firmware(package["title"], package["version"]).status_code == 404
    coap = CoAPDevice(host, device["token"])
    assert coap.firmware().code == Code.NOT_FOUND
    coap.close()
    mqtt = MQTTDevice(host, device["token"])
    for chunk in (0, 1):
        with pytest.raises(LookupError, match="^FAILURE$"):
            mqtt.chunk(1, chunk, 1000)
    mqtt.telemetry({"alive": True})
    mqtt.close()
    assert management.states(device) == ["QUEUED", "INITIATED"]


def test_a_device_hears_of_what_is_gone_before_it_hears_of_what_is_new(host, management):
    profile = management.profile()
    stored = management.package(profile, some_bytes(100))
    elsewhere = management.package(profile, url=URL)
    device = management.device(profile)
    client = MQTTDevice(host, device["token"])

    def pushes(package):
        """What the device hears from the assignment until the attributes are complete."""
        management.assign_to_device(device, package)
        management.wait_for_offer(device, package)
        before, _ = client.ask_attributes(sharedKeys="fw_title")
        assert {topic for topic, _ in before} == {ATTRIBUTES}
        return [json.loads(payload) for _, payload in before]

    # Nothing was there, so nothing is deleted: one push with all of it.
    [first] = pushes(stored)
    assert list(first)[:2] == ["fw_title", "fw_version"]
    assert {"fw_title", "fw_version", "fw_size", "fw_checksum_algorithm", "fw_checksum"} <= first.keys()
    assert "fw_url" not in first

    deleted, saved = pushes(elsewhere)
    assert {"fw_size", "fw_checksum", "fw_checksum_algorithm"} <= set(deleted["deleted"])
    assert (saved["fw_title"], saved["fw_url"]) == (elsewhere["title"], URL)

    deleted, saved = pushes(stored)
    assert deleted["deleted"] == ["fw_url"]
    assert saved == first
    client.close()
