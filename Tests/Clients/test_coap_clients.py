"""One and the same life of a device, led by clients of different makes, and what the documentation's script does."""

import json
import math
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.chains import without_comments
from support.coap_clients import CLIENTS, COAP_CLIENT, SECONDS, AioCoAP, LibCoAP
from support.data import sha256, some_bytes
from support.management import Management, unique
from support.waiting import wait_until

SIZE = 20_011


@pytest.fixture(params=CLIENTS, ids=lambda make: make.__name__)
def connect(request):
    """Makes clients of one make."""
    if request.param is LibCoAP and COAP_CLIENT is None:
        pytest.skip("coap-client is not installed (Debian and Ubuntu: libcoap3-bin)")
    clients = []

    def connect(host):
        clients.append(request.param(host.addresses["coap"]))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def feature(token, *segments):
    return ("api", "v1", token, *segments)


def names(package):
    return (f"title={package['title']}", f"version={package['version']}")


def test_a_device_asks_for_an_identity(host, management, connect):
    key, secret = unique("key"), unique("secret")
    profile = management.profile()
    profile["provisionType"] = "ALLOW_CREATE_NEW_DEVICES"
    profile["provisionDeviceKey"] = key
    profile["profileData"] = {
        **(profile.get("profileData") or {}),
        "provisionConfiguration": {"type": "ALLOW_CREATE_NEW_DEVICES", "provisionDeviceSecret": secret},
    }
    management.call("POST", "/api/deviceProfile", json=profile)
    client = connect(host)
    name = unique("provisioned")
    body = {"deviceName": name, "provisionDeviceKey": key, "provisionDeviceSecret": secret}
    # In one message, then in blocks.
    granted = client.post(("api", "v1", "provision"), json.dumps(body).encode())
    assert granted.code == "2.01" and granted.json()["status"] == "SUCCESS", granted
    token = granted.json()["credentialsValue"]
    assert client.post(feature(token, "telemetry"), b'{"born":1}').code == "2.01"
    refused = client.post(("api", "v1", "provision"), json.dumps(body).encode(), szx=2)
    assert refused.code == "4.00" and refused.json()["status"] == "FAILURE", refused
    unknown = client.post(("api", "v1", "provision"), json.dumps({**body, "provisionDeviceSecret": "x"}).encode())
    assert unknown.code == "4.00" and unknown.json()["status"] == "NOT_FOUND", unknown


def test_a_device_claims(host, management, connect):
    device = management.device(management.profile())
    client = connect(host)
    answer = client.post(feature(device["token"], "claim"), b'{"secretKey":"s","durationMs":60000}')
    assert answer.code in ("2.01", "4.04"), answer
    assert client.post(feature("nobody", "claim"), b"{}").code == "4.01"


def test_a_device_reads_reports_and_updates_itself(host, management, connect):
    data = some_bytes(SIZE)
    profile = management.profile()
    package = management.package(profile, data)
    device = management.device(profile)
    token = device["token"]
    client = connect(host)

    # Nothing is there yet.
    nothing = client.get(feature(token, "attributes"), "sharedKeys=fw_title,fw_version")
    assert nothing.code == "4.04" and nothing.json() == {}, nothing
    assert client.get(("fw", token)).code == "4.04"
    assert client.get(feature("nobody", "attributes")).code == "4.01"

    # Telemetry, small and in blocks.
    assert client.post(feature(token, "telemetry"), b'{"temperature":21.5}').code == "2.01"
    long = "x" * 3000
    for szx in (2, 6):
        assert client.post(feature(token, "telemetry"), json.dumps({f"long{szx}": long}).encode(), szx=szx).code == "2.01"
    assert management.latest(device, "temperature", "long2", "long6") == {
        "temperature": 21.5, "long2": long, "long6": long,
    }
    assert client.post(feature(token, "attributes"), b'{"serial":"A1"}').code == "2.01"
    assert client.post(feature(token, "telemetry"), b"{").code == "4.00"

    # An update is announced to who observes, and can be read.
    with client.observe(feature(token, "attributes")) as told:
        first = told.get(timeout=SECONDS)
        assert first.code == "2.05" and first.json() == {}, first
        management.assign_to_device(device, package)
        offer = {}
        while "fw_checksum" not in offer:
            notification = told.get(timeout=SECONDS)
            assert notification.code == "2.05", notification
            offer.update(notification.json())
        assert (offer["fw_title"], offer["fw_size"]) == (package["title"], SIZE)
    read = client.get(feature(token, "attributes"), "clientKeys=serial", "sharedKeys=fw_title,fw_version")
    assert read.code == "2.05"
    assert read.json() == {
        "client": {"serial": "A1"}, "shared": {"fw_title": package["title"], "fw_version": package["version"]},
    }
    assert client.get(feature(token, "firmware")).json()["fw_checksum"] == package["checksum"]

    # The whole file in small and large blocks, in chunks, and in chunks larger than a block.
    for path in (("fw", token), feature(token, "firmware", "chunk")):
        for szx in (2, 6):
            assert sha256(client.download(path, szx, *names(package))) == sha256(data)
    for size in (1000, 6000):
        got = b""
        for index in range(math.ceil(SIZE / size) + 1):
            answer = client.get(("fw", token), *names(package), f"size={size}", f"chunk={index}")
            assert answer.code == "2.05", answer
            got += answer.payload
        assert answer.payload == b"" and sha256(got) == sha256(data)
    assert client.get(("fw", token), "title=another", f"version={package['version']}").code == "4.00"

    # What became of it.
    for state in ("DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"):
        assert client.post(feature(token, "telemetry"), json.dumps({"fw_state": state}).encode()).code == "2.01"
    assert management.states(device)[-1] == "UPDATED"


def test_calls_go_both_ways(make_host, connect):
    host = make_host()
    management = Management(host)
    chain = host.chains / "ota.xml"
    text = without_comments(chain.read_text())
    text = text.replace(
        '<link on="PACKAGE_INFO_REQUEST"', '<link on="TO_SERVER_RPC_REQUEST" to="called"/><link on="PACKAGE_INFO_REQUEST"'
    ).replace("</chain>", '<flow:reply id="called"/></chain>')
    device = management.device(management.profile())
    token = device["token"]
    client = connect(host)

    # From the device: nothing answers, then something does.
    call = b'{"method":"getTime","params":{}}'
    assert client.post(feature(token, "rpc"), call).code == "4.04"
    chain.write_text(text)
    host.reload()
    wait_until(lambda: client.post(feature(token, "rpc"), call).code == "2.04", "the new chain to answer")

    # To the device, one after the other.
    with client.observe(feature(token, "rpc")) as told:
        first = told.get(timeout=SECONDS)
        assert (first.code, first.payload) == ("2.03", b""), first
        for number in range(2):
            reply = call_in_background(management, device, {"method": "add", "params": {"a": number, "b": 2}})
            asked = told.get(timeout=SECONDS).json()
            assert (asked["method"], asked["params"]) == ("add", {"a": number, "b": 2})
            answer = json.dumps({"sum": number + 2}).encode()
            assert client.post(feature(token, "rpc", str(asked["id"])), answer).code == "2.01"
            assert reply.result(timeout=SECONDS).json() == {"sum": number + 2}


def call_in_background(management, device, body):
    """Calls the device for an answer, which can be waited for."""
    executor = ThreadPoolExecutor(1)
    path = f"/api/rpc/twoway/{device['id']['id']}"
    future = executor.submit(management.call, "POST", path, json={**body, "timeout": SECONDS * 1000})
    executor.shutdown(wait=False)
    return future


def test_resources_can_be_discovered(host, connect):
    client = connect(host)
    answer = client.get((".well-known", "core"))
    assert answer.code == "2.05" and b'</fw>;rt="ota.firmware"' in answer.payload
    assert client.get((".well-known", "core"), "rt=ota.software").payload.startswith(b"</sw>;")


@pytest.mark.parametrize("chunk_size", [0, 1, 512, 1023])
def test_the_script_of_the_documentation(host, management, chunk_size):
    """Telemetry, attributes by a list with commas until there is an update, ceil + 1 chunks of less than 1024 bytes, states."""
    data = some_bytes(700)
    profile = management.profile()
    package = management.package(profile, data)
    device = management.device(profile)
    token = device["token"]
    client = AioCoAP(host.addresses["coap"])
    try:
        def report(**values):
            assert client.post(feature(token, "telemetry"), json.dumps(values).encode()).code == "2.01"

        def attributes():
            keys = "sharedKeys=fw_checksum,fw_checksum_algorithm,fw_size,fw_title,fw_version"
            answer = client.get(feature(token, "attributes"), keys)
            # The script reads the body of any answer as JSON.
            return json.loads(answer.payload).get("shared", {}), answer.code

        report(current_fw_title="Initial", current_fw_version="v0")
        assert attributes() == ({}, "4.04")
        management.assign_to_device(device, package)
        offer = wait_until(lambda: attributes()[0], "the offer")
        assert offer["fw_size"] == len(data)
        report(fw_state="DOWNLOADING")
        query = [f"title={offer['fw_title']}", f"version={offer['fw_version']}"]
        if chunk_size == 0:
            got = client.get(("fw", token), *query).payload
        else:
            size = min(chunk_size, offer["fw_size"])
            got = b""
            for index in range(math.ceil(offer["fw_size"] / size) + 1):
                got += client.get(("fw", token), *query, f"size={size}", f"chunk={index}").payload
        assert sha256(got) == offer["fw_checksum"]
        for state in ("DOWNLOADED", "VERIFIED", "UPDATING"):
            report(fw_state=state)
        report(current_fw_title=offer["fw_title"], current_fw_version=offer["fw_version"], fw_state="UPDATED")
        assert management.states(device)[-1] == "UPDATED"
    finally:
        client.close()


def test_a_request_to_a_group_is_not_answered(make_host):
    """Not even to one that some other program on the machine has joined."""
    host = make_host(DEVICE_HOST="0.0.0.0")
    group, loopback = "224.0.1.187", socket.inet_aton("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        member.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4s", socket.inet_aton(group), loopback)
        )
        peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        port = host.addresses["coap"][1]
        # GET /.well-known/core, not confirmable, then a ping: only that is answered.
        discovery = bytes.fromhex("51010001aa") + b"\xbb.well-known\x04core"
        peer.sendto(discovery, (group, port))
        peer.settimeout(SECONDS)
        peer.sendto(bytes.fromhex("40001234"), ("127.0.0.1", port))
        assert peer.recv(2048) == bytes.fromhex("70001234")
        peer.sendto(discovery, ("127.0.0.1", port))
        assert peer.recv(2048)[0] >> 4 == 5
