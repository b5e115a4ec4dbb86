"""What administrators do about updates, and devices that were not there when they were told of one."""

import json

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from support.coap_device import CoAPDevice
from support.data import some_bytes
from support.http_device import TIMEOUT, HTTPDevice
from support.management import Management
from support.mqtt_device import ATTRIBUTES, MQTTDevice
from support.waiting import wait_until

COUNT = 300


def mqtt_push(host, device):
    """What a client hears that connects and then subscribes."""
    client = MQTTDevice(host, device["token"])
    topic, payload = client.receive()
    assert topic == ATTRIBUTES
    before, _ = client.ask_attributes(sharedKeys="fw_title")
    assert before == [], "the push comes once"
    client.close()
    return json.loads(payload)


def coap_push(host, device):
    """What an observer hears first."""
    client = CoAPDevice(host, device["token"])
    message = aiocoap.Message(code=Code.GET, _mid=1, _mtype=aiocoap.CON, _token=b"\1")
    message.opt.uri_path = ("api", "v1", device["token"], "attributes")
    message.opt.observe = 0
    answer = client._exchange(message.encode(), b"\1", 20)
    client.close()
    assert answer.opt.observe is not None
    return json.loads(answer.payload)


def http_push(host, device):
    """What a long poll is answered with, and what one is that asks for everything."""
    client = HTTPDevice(host, device["token"])
    reply = client.session.get(f"{client.base}/attributes/updates", params={"timeout": 20_000}, timeout=TIMEOUT)
    assert reply.status_code == 200
    assert client.attributes().json()["shared"] == reply.json()

    def status_after():
        return client.session.get(f"{client.base}/attributes/updates", params={"timeout": 200}, timeout=TIMEOUT).status_code

    # Once told, the device waits for what comes; that it was told is stored after the answer, and until then it is told again.
    wait_until(lambda: status_after() == 408, "the push to count as taken")
    client.close()
    return reply.json()


@pytest.mark.parametrize("push", [mqtt_push, coap_push, http_push])
def test_a_device_that_was_away_is_told_of_its_package_when_it_returns(make_host, push):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    package = management.package(profile, some_bytes(100))
    device = management.device(profile)
    management.assign_to_profile(profile, package)
    wait_until(lambda: management.record(device)["state"] == "INITIATED", "the push")
    host.kill()
    host.start()
    told = push(host, device)
    assert {name: told.get(name) for name in ("fw_title", "fw_version", "fw_size", "fw_checksum")} == {
        "fw_title": package["title"],
        "fw_version": package["version"],
        "fw_size": 100,
        "fw_checksum": package["checksum"],
    }


def test_a_client_that_is_connected_before_it_subscribes_misses_nothing(host, management):
    profile = management.profile()
    package = management.package(profile, some_bytes(100))
    device = management.device(profile)
    client = MQTTDevice(host, device["token"], subscriptions=())
    management.assign_to_profile(profile, package)
    wait_until(lambda: management.record(device)["state"] == "INITIATED", "the push")
    client.client.subscribe(ATTRIBUTES, 1)
    while (message := client.receive())[0] == "subscribe":
        pass
    assert message[0] == ATTRIBUTES and json.loads(message[1])["fw_title"] == package["title"]
    client.close()


def test_an_update_is_cancelled_tried_again_and_told_again(host, management):
    profile = management.profile()
    package = management.package(profile, some_bytes(100))
    device = management.device(profile)
    client = MQTTDevice(host, device["token"])
    management.assign_to_profile(profile, package)
    assert json.loads(client.receive()[1])["fw_title"] == package["title"]

    def order(what, status=(200,)):
        path = f"/api/device/{device['id']['id']}/update/FIRMWARE/{what}"
        return management.call("POST", path, status=status).json()

    assert order("resend")["state"] == "INITIATED"
    assert json.loads(client.receive()[1])["fw_title"] == package["title"]
    client.telemetry({"fw_state": "DOWNLOADING"})
    cancelled = order("cancel")
    assert (cancelled["state"], cancelled["failureCause"]) == ("FAILED", "CANCELLED")
    assert cancelled["error"].startswith("cancelled by ")
    assert "fw_title" in json.loads(client.receive()[1])["deleted"]
    client.telemetry({"fw_state": "DOWNLOADED"})
    assert management.record(device)["state"] == "FAILED"
    assert management.history(device)[-1]["accepted"] is False
    order("cancel", status=(409,))
    assert order("retry")["attempts"] == 2
    assert json.loads(client.receive()[1])["fw_title"] == package["title"]
    client.telemetry({"fw_state": "UPDATED", "current_fw_version": package["version"]})
    assert management.record(device)["state"] == "UPDATED"
    order("retry", status=(409,))
    client.close()


def test_commands_for_many_devices_survive_a_kill(make_host):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    package = management.package(profile, some_bytes(100))
    devices = [management.device(profile) for _ in range(COUNT)]
    management.assign_to_profile(profile, package)

    def counts():
        query = {"deviceProfileId": profile["id"]["id"]}
        return {state: count for state, count in management.call("GET", "/api/updates/count", params=query).json().items() if count}

    wait_until(lambda: counts() == {"INITIATED": COUNT}, "all to be told")
    path = f"/api/deviceProfile/{profile['id']['id']}/update/FIRMWARE"
    assert management.call("POST", f"{path}/cancel").json() == {"devices": COUNT}
    host.kill()
    host.start()
    management = Management(host)
    assert counts() == {"FAILED": COUNT}
    wait_until(lambda: not any(management.attributes(device) for device in devices[::50]), "the attributes to go")
    body = {"states": ["FAILED"], "packageId": package["id"]["id"]}
    assert management.call("POST", "/api/updates/retry", json=body).json() == {"devices": COUNT}
    host.kill()
    host.start()
    management = Management(host)
    wait_until(lambda: counts() == {"INITIATED": COUNT}, "all to be told again", seconds=60)
    query = {"state": "INITIATED", "deviceProfileId": profile["id"]["id"], "pageSize": 100, "page": 2}
    page = management.call("GET", "/api/updates", params=query).json()
    assert (page["totalElements"], len(page["data"]), page["hasNext"]) == (COUNT, 100, False)
    assert {update["attempts"] for update in page["data"]} == {2}
    assert {update["deviceName"] for update in page["data"]} <= {device["name"] for device in devices}
