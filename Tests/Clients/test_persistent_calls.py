"""Calls that wait for their device, and outlive the host."""

import json

import pytest

from support.http_device import TIMEOUT, HTTPDevice
from support.management import Management
from support.mqtt_device import MQTTDevice
from support.waiting import wait_until

REQUESTS = "v1/devices/me/rpc/request/"


def over_mqtt(host, device, answer):
    client = MQTTDevice(host, device["token"], subscriptions=(f"{REQUESTS}+",))
    topic, payload = client.receive()
    client.publish(f"v1/devices/me/rpc/response/{topic.removeprefix(REQUESTS)}", answer)
    client.close()
    return json.loads(payload)


def over_http(host, device, answer):
    client = HTTPDevice(host, device["token"])
    reply = client.session.get(f"{client.base}/rpc", params={"timeout": 20_000}, timeout=TIMEOUT)
    call = reply.json()
    client.session.post(f"{client.base}/rpc/{call['id']}", json=answer, timeout=TIMEOUT).raise_for_status()
    client.close()
    return {name: call[name] for name in ("method", "params")}


@pytest.mark.parametrize("take", [over_mqtt, over_http])
def test_a_persistent_call_survives_a_kill_and_reaches_the_device_when_it_returns(make_host, take):
    host = make_host()
    management = Management(host)
    device = management.device(management.profile())
    body = {"method": "set", "params": {"pin": 7}, "persistent": True, "expirationTime": 4_000_000_000_000}
    rpc = management.call("POST", f"/api/rpc/twoway/{device['id']['id']}", json=body).json()["rpcId"]
    assert management.call("GET", f"/api/rpc/persistent/{rpc}").json()["status"] == "QUEUED"
    host.kill()
    host.start()
    management = Management(host)
    assert take(host, device, {"done": True}) == {"method": "set", "params": {"pin": 7}}

    def call():
        return management.call("GET", f"/api/rpc/persistent/{rpc}").json()

    wait_until(lambda: call()["status"] == "SUCCESSFUL", "the answer to be stored")
    assert call()["response"] == {"done": True}
    path = f"/api/rpc/persistent/device/{device['id']['id']}"
    page = management.call("GET", path, params={"rpcStatus": "SUCCESSFUL", "pageSize": 5, "page": 0}).json()
    assert [entry["id"]["id"] for entry in page["data"]] == [rpc]
    management.call("DELETE", f"/api/rpc/persistent/{rpc}")
    management.call("GET", f"/api/rpc/persistent/{rpc}", status=(404,))


def test_a_persistent_call_expires(host, management):
    device = management.device(management.profile())
    body = {"method": "m", "params": None, "persistent": True, "expirationTime": 1}
    rpc = management.call("POST", f"/api/rpc/oneway/{device['id']['id']}", json=body).json()["rpcId"]
    wait_until(
        lambda: management.call("GET", f"/api/rpc/persistent/{rpc}").json()["status"] == "EXPIRED", "the call to expire"
    )
