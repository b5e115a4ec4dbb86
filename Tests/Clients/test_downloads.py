"""Devices get exactly the bytes that were uploaded, in every way to ask for them."""

import asyncio
import math
import shutil
import subprocess

import aiocoap
import paho.mqtt.client as paho
import pytest

from support.coap_device import CoAPDevice
from support.data import sha256, some_bytes
from support.http_device import HTTPDevice
from support.mqtt_device import MQTTDevice

SIZE = 1_000
LARGE = 300_001

# Debian calls it after the TLS library that it was built with.
COAP_CLIENT = shutil.which("coap-client") or shutil.which("coap-client-notls")


def assigned(management, data):
    """A device with a package of its own that holds the data."""
    profile = management.profile()
    package = management.package(profile, data)
    device = management.device(profile)
    management.assign_to_device(device, package)
    management.wait_for_offer(device, package)
    return device, package


@pytest.fixture(scope="module")
def small(management):
    data = some_bytes(SIZE)
    return *assigned(management, data), data


@pytest.fixture(scope="module")
def large(management):
    data = some_bytes(LARGE)
    return *assigned(management, data), data


# HTTP


@pytest.mark.parametrize("size", [0, 1, 7, SIZE, SIZE + 1])
def test_http_in_chunks_as_the_documentation_client_asks(host, small, size):
    device, package, data = small
    client = HTTPDevice(host, device["token"])
    step = min(size, len(data))
    # The documentation client asks for one chunk more than there are.
    count = 1 if step == 0 else math.ceil(len(data) / step) + 1
    got = b""
    for index in range(count):
        reply = client.firmware(package["title"], package["version"], size=step, chunk=index)
        assert reply.status_code == 200
        assert int(reply.headers["Content-Length"]) == len(reply.content)
        if step and index < count - 1:
            assert reply.headers["X-Chunk-Index"] == str(index)
            assert reply.headers["X-Chunks-Count"] == str(count - 1)
            assert len(reply.content) == min(step, len(data) - index * step)
        got += reply.content
    if step:
        assert reply.content == b"", "the chunk past the end must be empty"
    assert sha256(got) == sha256(data)


def test_http_with_a_chunk_size_larger_than_the_file(host, small):
    device, package, data = small
    reply = HTTPDevice(host, device["token"]).firmware(package["title"], package["version"], size=SIZE * 9, chunk=0)
    assert (reply.status_code, sha256(reply.content)) == (200, sha256(data))


def test_http_whole_file_names_it(host, large):
    device, package, data = large
    reply = HTTPDevice(host, device["token"]).firmware(package["title"], package["version"])
    assert reply.status_code == 200
    assert reply.headers["x-filename"] == "firmware.bin"
    assert reply.headers["Content-Disposition"] == "attachment;filename=firmware.bin"
    assert sha256(reply.content) == sha256(data)


# CoAP


@pytest.mark.parametrize("szx", [2, 6])
def test_aiocoap_block_by_block(host, large, szx):
    """aiocoap with the block size asked for by the test; every block but the last is full."""
    device, package, data = large

    async def download():
        context = await aiocoap.Context.create_client_context()
        address = "coap://{}:{}".format(*host.addresses["coap"])
        got, number, etags = b"", 0, set()
        try:
            while True:
                request = aiocoap.Message(code=aiocoap.GET, uri=address)
                request.opt.uri_path = ("fw", device["token"])
                request.opt.uri_query = (f"title={package['title']}", f"version={package['version']}")
                request.opt.block2 = (number, False, szx)
                answer = await asyncio.wait_for(context.request(request, handle_blockwise=False).response, 20)
                assert answer.code == aiocoap.CONTENT
                assert answer.opt.block2.size_exponent == szx
                assert answer.opt.block2.block_number == number
                etags.add(answer.opt.etag)
                if number == 0:
                    assert answer.opt.size2 == len(data)
                got += answer.payload
                if not answer.opt.block2.more:
                    assert etags != {None} and len(etags) == 1
                    return got
                assert len(answer.payload) == 2 ** (szx + 4)
                number += 1
        finally:
            await context.shutdown()

    assert sha256(asyncio.run(download())) == sha256(data)


@pytest.mark.parametrize("path", [("fw",), ("api", "v1", "firmware")])
def test_aiocoap_with_its_own_block_wise_transfer(host, large, path):
    device, package, data = large
    path = ("fw", device["token"]) if path == ("fw",) else ("api", "v1", device["token"], "firmware", "chunk")

    async def download():
        context = await aiocoap.Context.create_client_context()
        try:
            request = aiocoap.Message(code=aiocoap.GET, uri="coap://{}:{}".format(*host.addresses["coap"]))
            request.opt.uri_path = path
            request.opt.uri_query = (f"title={package['title']}", f"version={package['version']}")
            return await asyncio.wait_for(context.request(request).response, 60)
        finally:
            await context.shutdown()

    answer = asyncio.run(download())
    assert answer.code == aiocoap.CONTENT
    assert sha256(answer.payload) == sha256(data)


@pytest.mark.parametrize("block", [None, 64, 1024])
def test_coap_client_of_libcoap(host, large, tmp_path, block):
    device, package, data = large
    if COAP_CLIENT is None:
        pytest.skip("coap-client is not installed (Debian and Ubuntu: libcoap3-bin)")
    file = tmp_path / "firmware"
    address = "coap://{}:{}".format(*host.addresses["coap"])
    uri = f"{address}/fw/{device['token']}?title={package['title']}&version={package['version']}"
    options = [] if block is None else ["-b", str(block)]
    run = subprocess.run(
        [COAP_CLIENT, "-m", "get", "-B", "60", *options, "-o", str(file), uri],
        capture_output=True, text=True, timeout=90,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert sha256(file.read_bytes()) == sha256(data)


@pytest.mark.parametrize("size", [512, 1_000])
def test_coap_in_chunks_as_the_documentation_client_asks(host, small, size):
    device, package, data = small
    client = CoAPDevice(host, device["token"])
    got = b""
    for index in range(math.ceil(len(data) / size) + 1):
        query = (f"title={package['title']}", f"version={package['version']}", f"size={size}", f"chunk={index}")
        answer = client.firmware(*query)
        assert answer.code == aiocoap.CONTENT
        got += answer.payload
    assert answer.payload == b"", "the chunk past the end must be empty"
    assert sha256(got) == sha256(data)
    client.close()


# MQTT


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
@pytest.mark.parametrize("size", [0, 7, SIZE, SIZE + 1])
def test_mqtt_in_chunks(host, small, protocol, size):
    device, _, data = small
    client = MQTTDevice(host, device["token"], protocol)
    assert sha256(client.download(1, len(data), size)) == sha256(data)
    if size:
        assert client.chunk(1, math.ceil(len(data) / size), size) == b"", "the chunk past the end must be empty"
    client.close()


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
@pytest.mark.parametrize("size", [0, 16_384, 65_536, 100_000])
def test_mqtt_of_a_file_larger_than_a_packet(host, large, protocol, size):
    device, _, data = large
    client = MQTTDevice(host, device["token"], protocol)
    assert sha256(client.download(1, len(data), size)) == sha256(data)
    client.close()


def test_mqtt_chunk_request_in_the_form_of_the_requirement(host, small):
    device, _, data = small
    client = MQTTDevice(host, device["token"])
    client.publish("v2/fw/request/1/chunk/0", '{"chunkSize": 600}')
    assert client.receive() == ("v2/fw/response/1/chunk/0", data[:600])
    client.publish("v2/fw/request/1/chunk/1", "")
    # An empty payload keeps the size that was asked for before.
    assert client.receive() == ("v2/fw/response/1/chunk/1", data[600:])
    client.close()


def test_all_transports_serve_the_same_bytes_of_software(host, management):
    data = some_bytes(5_000, seed=9)
    profile = management.profile()
    package = management.package(profile, data, kind="SOFTWARE")
    device = management.device(profile)
    management.assign_to_device(device, package, member="softwareId")
    over_http = HTTPDevice(host, device["token"])
    query = {"title": package["title"], "version": package["version"]}
    reply = over_http.session.get(f"{over_http.base}/software", params=query, timeout=20)
    mqtt = MQTTDevice(host, device["token"])
    mqtt.publish("v2/sw/request/1/chunk/0", "")
    topic = over_mqtt = None
    while topic != "v2/sw/response/1/chunk/0":
        # The assignment may be told meanwhile.
        topic, over_mqtt = mqtt.receive()
    mqtt.close()
    coap = CoAPDevice(host, device["token"])
    blocks = []
    for number in range(5):
        answer = coap.request(aiocoap.GET, ("sw", device["token"]), block=(number, 6))
        blocks.append(answer.payload)
    coap.close()
    assert {sha256(reply.content), sha256(over_mqtt), sha256(b"".join(blocks))} == {sha256(data)}
