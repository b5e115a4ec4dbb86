"""What a device is told when it asks for what it may not have or cannot be."""

import re

import aiocoap
import paho.mqtt.client as paho
import pytest
from aiocoap.numbers.codes import Code

from support.coap_device import CoAPDevice
from support.data import some_bytes
from support.http_device import HTTPDevice
from support.mqtt_device import ATTRIBUTES, MQTTDevice, connack

DATA = some_bytes(3_000)


@pytest.fixture(scope="module")
def bare(management):
    """A device without a package."""
    return management.device(management.profile())


@pytest.fixture(scope="module")
def assigned(management):
    """A device with a package."""
    profile = management.profile()
    package = management.package(profile, DATA)
    device = management.device(profile)
    management.assign_to_device(device, package)
    return device, package


# A token that nobody has


def test_http_refuses_an_unknown_token(host):
    client = HTTPDevice(host, "nobody")
    replies = [client.attributes(), client.telemetry({"a": 1}), client.firmware("a", "1")]
    assert [reply.status_code for reply in replies] == [401, 401, 401]


@pytest.mark.parametrize(
    ("protocol", "reason"), [(paho.MQTTv311, "Not authorized"), (paho.MQTTv5, "Bad user name or password")]
)
def test_mqtt_refuses_an_unknown_token(host, protocol, reason):
    assert str(MQTTDevice(host, "nobody", protocol).reason) == reason


def test_mqtt_codes_of_an_unknown_token_byte_for_byte(host):
    assert connack(host, "nobody", level=4) == bytes([0x20, 2, 0, 5])
    assert connack(host, "nobody", level=5)[2:4] == bytes([0, 0x86])


def test_mqtt_accepts_a_known_token_byte_for_byte(host, bare):
    assert connack(host, bare["token"], level=4) == bytes([0x20, 2, 0, 0])
    assert connack(host, bare["token"], level=5)[2:4] == bytes([0, 0])


def test_coap_refuses_an_unknown_token(host):
    client = CoAPDevice(host, "nobody")
    answers = [
        client.firmware(),
        client.telemetry(b'{"a":1}'),
        client.request(Code.GET, ("api", "v1", "nobody", "attributes")),
    ]
    assert [answer.code for answer in answers] == [Code.UNAUTHORIZED] * 3
    client.close()


# No package


def test_no_package_is_not_found_over_http(host, bare):
    assert HTTPDevice(host, bare["token"]).firmware("a", "1").status_code == 404


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
def test_no_package_is_not_found_on_the_error_topic(host, bare, protocol):
    client = MQTTDevice(host, bare["token"], protocol)
    for request in (1, 2):
        with pytest.raises(LookupError, match="^NOT_FOUND$"):
            client.chunk(request, 0, 1024)
    client.telemetry({"alive": True})
    client.close()


def test_no_package_is_not_found_over_coap(host, bare):
    client = CoAPDevice(host, bare["token"])
    assert client.firmware().code == Code.NOT_FOUND
    client.close()


# Another title or version


@pytest.mark.parametrize(("title", "version"), [("other", None), (None, "other"), ("other", "other")])
def test_another_title_or_version_is_a_bad_request(host, assigned, title, version):
    device, package = assigned
    title, version = title or package["title"], version or package["version"]
    assert HTTPDevice(host, device["token"]).firmware(title, version).status_code == 400
    client = CoAPDevice(host, device["token"])
    assert client.firmware(f"title={title}", f"version={version}").code == Code.BAD_REQUEST
    client.close()


# Past the end


@pytest.mark.parametrize("index", [3, 4, 1_000_000])
def test_a_chunk_past_the_end_is_empty_over_all_transports(host, assigned, index):
    device, package = assigned
    reply = HTTPDevice(host, device["token"]).firmware(package["title"], package["version"], size=1000, chunk=index)
    assert (reply.status_code, reply.content) == (200, b"")
    mqtt = MQTTDevice(host, device["token"])
    assert mqtt.chunk(1, index, 1000) == b""
    mqtt.close()
    coap = CoAPDevice(host, device["token"])
    answer = coap.firmware("size=1000", f"chunk={index}")
    assert (answer.code, answer.payload) == (Code.CONTENT, b"")
    coap.close()


# Numbers that are none

BAD_NUMBERS = ["-1", "one", "1.5", "99999999999999999999", "9223372036854775807", "0x10", " "]


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["size", "chunk"])
def test_http_refuses_bad_numbers_and_keeps_the_connection(host, assigned, name, number):
    device, package = assigned
    client = HTTPDevice(host, device["token"])
    query = {"size": "1000", "chunk": "1", name: number}
    reply = client.firmware(package["title"], package["version"], **query)
    assert reply.status_code == 400 or (reply.status_code, reply.content) == (200, b""), reply.status_code
    if not number.strip().isdigit():
        assert reply.status_code == 400
    assert reply.headers.get("Connection", "keep-alive").lower() != "close"
    assert client.firmware(package["title"], package["version"], size=1000, chunk=1).content == DATA[1000:2000]


@pytest.mark.parametrize("number", BAD_NUMBERS)
def test_coap_refuses_bad_numbers(host, assigned, number):
    device, _ = assigned
    client = CoAPDevice(host, device["token"])
    for query in [(f"size={number}", "chunk=1"), ("size=1000", f"chunk={number}")]:
        answer = client.firmware(*query)
        if number.strip().isdigit():
            assert answer.code in (Code.BAD_REQUEST, Code.CONTENT)
        else:
            assert answer.code == Code.BAD_REQUEST
    answer = client.firmware("size=1000", "chunk=1")
    assert (answer.code, answer.payload) == (Code.CONTENT, DATA[1000:2000])
    client.close()


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
def test_mqtt_answers_bad_sizes_on_the_error_topic_and_keeps_the_connection(host, assigned, protocol):
    device, _ = assigned
    client = MQTTDevice(host, device["token"], protocol)
    wrong = [(payload, rb"FAILURE: .+") for payload in [b"-1", b"one", b"1.5", b"{", b"\xff\xfe"]]
    # One byte more than the attribute chunk-bytes-max of the ingress allows.
    large = [(payload, rb"PAYLOAD_TOO_LARGE") for payload in [b"16777217", b"99999999999999999999"]]
    for request, (payload, text) in enumerate([*wrong, *large], 1):
        client.publish(f"v2/fw/request/{request}/chunk/0", payload)
        topic, told = client.receive()
        assert topic == "v2/fw/error" and re.fullmatch(text, told), (payload, topic, told)
    assert client.chunk(99, 1, 1000) == DATA[1000:2000]
    assert client.disconnections == []
    client.close()


def test_mqtt_takes_a_quoted_size(host, assigned):
    device, _ = assigned
    client = MQTTDevice(host, device["token"])
    client.publish("v2/fw/request/1/chunk/0", b'"1000"')
    assert client.receive() == ("v2/fw/response/1/chunk/0", DATA[:1000])
    client.close()


@pytest.mark.parametrize("body", [b"{", b"[1", b"null,", b"\xff"])
def test_http_refuses_telemetry_that_is_no_json(host, bare, body):
    client = HTTPDevice(host, bare["token"])
    reply = client.session.post(f"{client.base}/telemetry", data=body, timeout=20)
    assert reply.status_code == 400
    assert client.telemetry({"a": 1}).status_code == 200


def test_mqtt_accepts_any_valid_subscription(host, bare):
    """Clients in the field subscribe to `v2/fw/response/+`, which the original refuses."""
    client = MQTTDevice(host, bare["token"], subscriptions=("v2/fw/response/+", "v1/devices/me/#", ATTRIBUTES))
    assert [code.value for code in client.granted] == [1, 1, 1]
    client.close()


def test_a_second_connection_of_a_device_replaces_the_first(host, bare):
    first = MQTTDevice(host, bare["token"], paho.MQTTv5)
    second = MQTTDevice(host, bare["token"], paho.MQTTv5)
    topic, reason = first.events.get(timeout=20)
    assert (topic, reason.value) == ("disconnect", 0x8E)
    second.telemetry({"alive": True})
    second.close()


def test_deleting_a_device_shuts_it_out(host, management):
    device = management.device(management.profile())
    client = MQTTDevice(host, device["token"])
    management.call("DELETE", f"/api/device/{device['id']['id']}")
    assert client.events.get(timeout=20)[0] == "disconnect"
    assert HTTPDevice(host, device["token"]).attributes().status_code == 401
