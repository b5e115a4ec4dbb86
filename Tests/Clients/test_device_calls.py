"""Calls in both directions, and what the host keeps about who is there."""

import ast
import concurrent.futures
import json
import time

import pytest
import requests
from tb_rest_client import RestClient
from tb_rest_client.models import DeviceId

from support.chains import without_comments
from support.host import ADMIN, PASSWORD
from support.http_device import TIMEOUT, HTTPDevice
from support.management import Management
from support.mqtt_device import MQTTDevice
from support.waiting import wait_until

REQUESTS = "v1/devices/me/rpc/request/"
V1 = "/api/plugins/rpc"
V2 = "/api/rpc"


@pytest.fixture
def device(management):
    return management.device(management.profile())


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield pool


def call(management, device, way, body, path=V2, status=(200,)):
    return management.call("POST", f"{path}/{way}/{device['id']['id']}", status=status, json=body)


def soon(milliseconds=300):
    """Until when a call may take that is meant to fail."""
    return {"expirationTime": int(time.time() * 1000) + milliseconds}


def answer_one(client, answer):
    """Answers the next call that comes over MQTT; returns it."""
    topic, payload = client.receive()
    assert topic.startswith(REQUESTS), topic
    client.publish(f"v1/devices/me/rpc/response/{topic.removeprefix(REQUESTS)}", answer)
    return json.loads(payload)


@pytest.mark.parametrize("suffix", ["", "_v1"])
def test_tb_rest_client_calls_a_device_on_mqtt_and_gets_its_answer(host, device, pool, suffix):
    rest = RestClient(host.url("management"))
    rest.login(ADMIN, PASSWORD)
    client = MQTTDevice(host, device["token"], subscriptions=(f"{REQUESTS}+",))
    id = DeviceId(device["id"]["id"], "DEVICE")
    two_way = getattr(rest, f"handle_two_way_device_rpc_request{suffix}")
    called = pool.submit(two_way, id, {"method": "getState", "params": {"pin": 7}})
    assert answer_one(client, {"on": True}) == {"method": "getState", "params": {"pin": 7}}
    # The client makes text of what it gets, in the words of Python.
    answer = called.result(timeout=TIMEOUT)
    assert (ast.literal_eval(answer) if isinstance(answer, str) else answer) == {"on": True}
    getattr(rest, f"handle_one_way_device_rpc_request{suffix}")(id, {"method": "blink", "params": None})
    topic, payload = client.receive()
    assert topic.startswith(REQUESTS) and json.loads(payload) == {"method": "blink", "params": None}
    client.close()


def test_a_device_that_polls_over_http_gets_a_call_that_was_made_before(host, management, device, pool):
    called = pool.submit(call, management, device, "twoway", {"method": "getState", "params": [1, None]})
    client = HTTPDevice(host, device["token"])
    asked = client.session.get(f"{client.base}/rpc", params={"timeout": 15_000}, timeout=TIMEOUT)
    assert asked.status_code == 200
    request = asked.json()
    assert {name: request[name] for name in ("method", "params")} == {"method": "getState", "params": [1, None]}
    answered = client.session.post(f"{client.base}/rpc/{request['id']}", json=[1.5, "x"], timeout=TIMEOUT)
    assert answered.status_code == 200
    assert called.result(timeout=TIMEOUT).json() == [1.5, "x"]


def test_a_device_that_polls_gets_one_call_at_a_time_and_none_by_a_poll_for_attributes(host, management, device, pool):
    client = HTTPDevice(host, device["token"])
    # It is connected, but not to be called.
    waiting = pool.submit(requests.get, f"{client.base}/attributes/updates", {"timeout": 15_000}, timeout=TIMEOUT)
    called = [pool.submit(call, management, device, "twoway", {"method": "m", "params": n}) for n in range(2)]
    for _ in called:
        request = client.session.get(f"{client.base}/rpc", params={"timeout": 15_000}, timeout=TIMEOUT).json()
        client.session.post(f"{client.base}/rpc/{request['id']}", json=request["params"], timeout=TIMEOUT)
    assert [future.result(timeout=TIMEOUT).json() for future in called] == [0, 1]
    path = f"/api/plugins/telemetry/DEVICE/{device['id']['id']}/SHARED_SCOPE"
    management.call("POST", path, json={"a": 1})
    assert waiting.result(timeout=TIMEOUT).json() == {"a": 1}


def test_many_calls_at_once_get_each_its_own_answer(host, management, device):
    client = MQTTDevice(host, device["token"], subscriptions=(f"{REQUESTS}+",))
    count = 16
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        called = [
            pool.submit(call, management, device, "twoway", {"method": "echo", "params": number})
            for number in range(count)
        ]
        asked = [client.receive() for _ in range(count)]
        for topic, payload in reversed(asked):
            answer = {"echo": json.loads(payload)["params"]}
            client.publish(f"v1/devices/me/rpc/response/{topic.removeprefix(REQUESTS)}", answer)
        assert [future.result().json() for future in called] == [{"echo": number} for number in range(count)]
    client.close()


@pytest.mark.parametrize(("path", "status"), [(V1, 409), (V2, 504)])
@pytest.mark.parametrize("way", ["oneway", "twoway"])
def test_a_device_that_is_not_there_is_not_connected(management, device, way, path, status):
    reply = call(management, device, way, {"method": "m", **soon()}, path, status=(status,))
    assert reply.json()["status"] == status
    assert "no session" in reply.json()["message"]


@pytest.mark.parametrize(("path", "status"), [(V1, 408), (V2, 504)])
def test_a_device_that_does_not_answer_times_out(host, management, device, path, status):
    client = MQTTDevice(host, device["token"], subscriptions=(f"{REQUESTS}+",))
    reply = call(management, device, "twoway", {"method": "m", **soon()}, path, status=(status,))
    assert "did not answer" in reply.json()["message"]
    # What comes too late is taken, and harms nobody.
    answer_one(client, {"late": True})
    client.close()


def test_a_chain_answers_methods_that_devices_call(make_host):
    host = make_host()
    management = Management(host)
    device = management.device(management.profile())
    client = MQTTDevice(host, device["token"], subscriptions=("v1/devices/me/rpc/response/+",))
    client.publish(f"{REQUESTS}1", {"method": "getName", "params": {}})
    topic, payload = client.receive()
    assert topic == "v1/devices/me/rpc/response/1" and "error" in json.loads(payload)

    # As the comment in the chain file says.
    file = host.chains / "ota.xml"
    text = file.read_text()
    example = text[text.index('<link on="TO_SERVER_RPC_REQUEST"'):]
    link = example[: example.index("\n")]
    nodes = example[example.index("<flow:switch"): example.index("What has no link is answered")]
    chain = without_comments(text)
    chain = chain.replace('<link on="CLAIM_REQUEST"', f'{link}\n<link on="CLAIM_REQUEST"')
    file.write_text(chain.replace("</chain>", f"{nodes}</chain>"))
    host.reload()
    wait_until(lambda: "chains reloaded" in host.log(), lambda: f"the reload; the log is\n{host.log()}")

    client.publish(f"{REQUESTS}2", {"method": "getName", "params": {}})
    topic, payload = client.receive()
    assert topic == "v1/devices/me/rpc/response/2"
    profile = management.call("GET", f"/api/device/info/{device['id']['id']}").json()["deviceProfileName"]
    assert json.loads(payload) == {"name": device["name"], "profile": profile}
    over_http = HTTPDevice(host, device["token"])
    reply = over_http.session.post(f"{over_http.base}/rpc", json={"method": "getName", "params": {}}, timeout=TIMEOUT)
    assert reply.json() == {"name": device["name"], "profile": profile}
    client.close()


def server_attributes(management, device):
    return management.attributes(device, "SERVER_SCOPE")


def test_a_device_is_active_until_nothing_is_heard_of_it(make_host):
    host = make_host(INACTIVITY_TIMEOUT_S="2")
    management = Management(host)
    device = management.device(management.profile())
    assert server_attributes(management, device) == {}
    before = time.time() * 1000
    assert HTTPDevice(host, device["token"]).telemetry({"a": 1}).status_code == 200
    active = wait_until(lambda: server_attributes(management, device), "the device to be active")
    assert active["active"] is True and active["lastActivityTime"] >= before - 1
    inactive = wait_until(
        lambda: (lambda now: now["active"] is False and now)(server_attributes(management, device)),
        "the device to be inactive",
    )
    assert inactive["inactivityAlarmTime"] >= inactive["lastActivityTime"] + 2000


def test_a_device_that_was_active_when_the_host_was_killed_becomes_inactive(make_host):
    host = make_host()
    management = Management(host)
    device = management.device(management.profile())
    HTTPDevice(host, device["token"]).telemetry({"a": 1})
    wait_until(lambda: server_attributes(management, device).get("active") is True, "the device to be active")
    host.kill()
    host.environment["INACTIVITY_TIMEOUT_S"] = "1"
    host.start()
    management = Management(host)
    wait_until(lambda: server_attributes(management, device)["active"] is False, "the device to be inactive")
