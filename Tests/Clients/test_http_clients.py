"""HTTP clients of several makes go through one and the same scenario, with and without TLS."""

import concurrent.futures
import json
import urllib.parse

import pytest

from support.certificates import Authority
from support.data import sha256, some_bytes
from support.host import Host
from support.http_clients import CLIENTS, CurlClient, RequestsClient
from support.management import Management, unique

SIZE = 1_000_003
CHUNK = 65_536


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure_host(windlass, chain_files, tmp_path_factory, authority):
    """A host whose devices come with TLS and without."""
    certificate, key = authority.server()
    environment = {
        "HTTPS_PORT": "0",
        "TLS_CERTIFICATE_FILE": str(certificate),
        "TLS_PRIVATE_KEY_FILE": str(key),
    }
    host = Host(windlass, tmp_path_factory.mktemp("host"), chain_files, environment).start()
    yield host
    host.stop()


@pytest.fixture(scope="module")
def secure_management(secure_host):
    return Management(secure_host)


@pytest.fixture(params=CLIENTS, ids=lambda client: client.name)
def make_client(request, secure_host, authority):
    """Makes clients of one kind."""
    if request.param is CurlClient and CurlClient.command is None:
        pytest.skip("there is no curl; bin/test installs it")
    clients = []

    def make(scheme):
        client = request.param(secure_host.url(scheme), authority.file)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def post(client, path, body, status=200):
    reply = client.request("POST", path, json.dumps(body).encode())
    assert reply.status == status, (path, reply.status, reply.body[:200])
    return reply


def waiting_for_news(pool, client, path, tell):
    """Starts a long poll, does what ends it, and returns its answer.

    What is told before the host has seen the request is missed, so it is told again, unless it waits there.
    """
    poll = pool.submit(client.request, "GET", path)
    while not poll.done():
        tell()
        concurrent.futures.wait([poll], timeout=0.5)
    reply = poll.result()
    assert reply.status == 200, (path, reply.status, reply.body[:200])
    return reply.json()


def parts_of(reply):
    """The parts of an answer with several ranges, by their places."""
    kind, boundary = reply.fields["content-type"].split("; boundary=")
    assert kind == "multipart/byteranges"
    before, *parts, after = reply.body.split(f"\r\n--{boundary}".encode())
    assert (before, after) == (b"", b"--\r\n")
    found = {}
    for part in parts:
        head, _, body = part.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert fields["Content-Type"] == "application/octet-stream"
        found[fields["Content-Range"]] = body
    return found


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_device_updates_itself(secure_host, secure_management, make_client, scheme):
    management = secure_management
    client = make_client(scheme)
    profile = management.profile()
    data = some_bytes(SIZE, seed=len(client.name) + len(scheme))
    package = management.package(profile, data)
    device = management.device(profile)
    base = f"/api/v1/{device['token']}"

    # Attributes, read and written.
    assert client.request("GET", f"{base}/attributes").json() == {}
    post(client, f"{base}/attributes", {"serial": "A-17", "cells": 4})
    reply = client.request("GET", f"{base}/attributes?clientKeys=serial&clientKeys=cells&sharedKeys=none")
    assert reply.json() == {"client": {"serial": "A-17", "cells": 4}}

    # Telemetry in all of its forms.
    post(client, f"{base}/telemetry", {"temperature": 20})
    post(client, f"{base}/telemetry", {"ts": 1_700_000_000_000, "values": {"temperature": 21}})
    post(client, f"{base}/telemetry", [{"pressure": 1}, {"ts": 1_700_000_000_001, "values": {"pressure": 2}}])
    assert sorted(management.series(device, "temperature")) == [20, 21]
    post(client, f"{base}/telemetry", ["no"], status=400)

    # The update is told of in the middle of a long poll.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assigned = []

        def assign():
            # Assigning the same package again is nothing new, so it is taken away first.
            if assigned:
                management.assign_to_device(device, None)
            assigned.append(management.assign_to_device(device, package))

        told = waiting_for_news(pool, client, f"{base}/attributes/updates?timeout=30000", assign)
        assert "fw_title" in told or "deleted" in told
    offer = management.wait_for_offer(device, package)
    names = "fw_title,fw_version,fw_size,fw_checksum,fw_checksum_algorithm"
    assert client.request("GET", f"{base}/attributes?sharedKeys={names}").json()["shared"] == {
        name: offer[name] for name in names.split(",")
    }
    assert (offer["fw_title"], offer["fw_size"], offer["fw_checksum"]) == (package["title"], SIZE, sha256(data))

    # Calls, from the server and to it.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        call = {"method": "reboot", "params": {"now": True}, "timeout": 30_000}
        calling = []

        def tell():
            if not calling or (calling[-1].done() and calling[-1].result().status_code != 200):
                path = f"/api/rpc/twoway/{device['id']['id']}"
                calling.append(pool.submit(management.call, "POST", path, (200, 409, 504), json=call))

        called = waiting_for_news(pool, client, f"{base}/rpc?timeout=30000", tell)
        assert (called["method"], called["params"]) == ("reboot", {"now": True})
        post(client, f"{base}/rpc/{called['id']}", {"rebooting": True})
        assert calling[-1].result(timeout=60).json() == {"rebooting": True}
    # The chain that ships has no methods of its own.
    post(client, f"{base}/rpc", {"method": "getName", "params": {}}, status=404)

    # The package: whole, in chunks, in ranges, and the rest of what is there already.
    query = urllib.parse.urlencode({"title": package["title"], "version": package["version"]})
    path = f"{base}/firmware?{query}"
    post(client, f"{base}/telemetry", {"fw_state": "DOWNLOADING"})
    whole = client.request("GET", path)
    assert (whole.status, sha256(whole.body)) == (200, sha256(data))
    tag = whole.fields["etag"]
    assert tag == f'"{sha256(data)}"'
    assert whole.fields["accept-ranges"] == "bytes"
    assert whole.fields["content-disposition"] == "attachment;filename=firmware.bin"

    count = -(-SIZE // CHUNK)
    chunks = [client.request("GET", f"{path}&size={CHUNK}&chunk={index}") for index in range(count + 1)]
    assert {chunk.status for chunk in chunks} == {200}
    assert {chunk.fields["x-chunks-count"] for chunk in chunks} == {str(count)}
    assert [chunk.fields["x-chunk-index"] for chunk in chunks] == [str(index) for index in range(count + 1)]
    assert sha256(b"".join(chunk.body for chunk in chunks)) == sha256(data)

    head = client.request("HEAD", path, fields={"Range": "bytes=0-9"})
    assert (head.status, head.fields["content-length"], head.fields["etag"]) == (200, str(SIZE), tag)
    assert client.request("GET", path, fields={"If-None-Match": tag}).status == 304
    assert client.request("GET", path, fields={"If-Match": '"other"'}).status == 412
    part = client.request("GET", path, fields={"Range": "bytes=1000-1999"})
    assert (part.status, part.fields["content-range"], part.body) == (206, f"bytes 1000-1999/{SIZE}", data[1000:2000])
    beyond = client.request("GET", path, fields={"Range": f"bytes={SIZE}-"})
    assert (beyond.status, beyond.fields["content-range"]) == (416, f"bytes */{SIZE}")
    parts = client.request("GET", path, fields={"Range": "bytes=0-99,500000-500099,-100"})
    assert parts.status == 206
    assert parts_of(parts) == {
        f"bytes 0-99/{SIZE}": data[:100],
        f"bytes 500000-500099/{SIZE}": data[500_000:500_100],
        f"bytes {SIZE - 100}-{SIZE - 1}/{SIZE}": data[-100:],
    }

    rest = client.request("GET", path, fields={"Range": f"bytes={SIZE // 2}-", "If-Range": tag})
    assert rest.status == 206
    assert sha256(data[: SIZE // 2] + rest.body) == sha256(data)
    changed = client.request("GET", path, fields={"Range": f"bytes={SIZE // 2}-", "If-Range": '"other"'})
    assert (changed.status, len(changed.body)) == (200, SIZE)

    # The report.
    for state in ["DOWNLOADED", "VERIFIED", "UPDATING"]:
        post(client, f"{base}/telemetry", {"fw_state": state})
    done = {"current_fw_title": package["title"], "current_fw_version": package["version"], "fw_state": "UPDATED"}
    post(client, f"{base}/telemetry", done)
    assert management.record(device)["state"] == "UPDATED"


def test_curl_resumes_a_download(secure_host, secure_management, authority, tmp_path):
    if CurlClient.command is None:
        pytest.skip("there is no curl; bin/test installs it")
    management = secure_management
    data = some_bytes(SIZE)
    profile = management.profile()
    package = management.package(profile, data)
    device = management.device(profile)
    management.assign_to_device(device, package)
    query = urllib.parse.urlencode({"title": package["title"], "version": package["version"]})
    for scheme in ["http", "https"]:
        client = CurlClient(secure_host.url(scheme), authority.file)
        address = f"{client.base}/api/v1/{device['token']}/firmware?{query}"
        file = tmp_path / f"{scheme}.bin"
        file.write_bytes(data[: SIZE // 3])
        client.run("--continue-at", "-", "--output", str(file), address)
        assert sha256(file.read_bytes()) == sha256(data)
        # With its own name, in a folder of its own.
        folder = tmp_path / scheme
        folder.mkdir()
        client.run("--remote-name", "--remote-header-name", "--output-dir", str(folder), address)
        assert sha256((folder / "firmware.bin").read_bytes()) == sha256(data)
        # Several ranges, and a large body that is announced first.
        both = client.run("--range", "0-9,1000-1009", address)
        assert data[:10] in both and data[1000:1010] in both
        telemetry = json.dumps({"note": "x" * 100_000}).encode()
        options = ["--header", "Expect: 100-continue", "--data-binary", "@-", "--write-out", "%{http_code}"]
        answer = client.run(*options, f"{client.base}/api/v1/{device['token']}/telemetry", data=telemetry)
        assert answer == b"200"


def test_a_device_with_a_certificate_needs_no_token(secure_host, secure_management, authority):
    management = secure_management
    device = management.device(management.profile())
    certificate, key = authority.client("pump")
    credentials = management.call("GET", f"/api/device/{device['id']['id']}/credentials").json()
    credentials |= {"credentialsType": "X509_CERTIFICATE", "credentialsId": None}
    credentials["credentialsValue"] = certificate.read_text()
    management.call("POST", "/api/device/credentials", json=credentials)
    other = management.device(management.profile())

    client = RequestsClient(secure_host.url("https"), authority.file)
    client.session.cert = (str(certificate), str(key))
    post(client, "/api/v1/me/telemetry", {"a": 1})
    assert management.latest(device, "a") == {"a": 1}
    post(client, f"/api/v1/{other['token']}/telemetry", {"a": 2})
    assert (management.latest(device, "a"), management.latest(other, "a")) == ({"a": 1}, {"a": 2})
    post(client, f"/api/v1/{device['token']}/telemetry", {"a": 3}, status=401)
    client.close()

    without = RequestsClient(secure_host.url("https"), authority.file)
    post(without, "/api/v1/me/telemetry", {"a": 4}, status=401)
    without.close()


def test_a_device_provisions_itself_and_may_be_claimed(secure_host, secure_management, make_client):
    management = secure_management
    client = make_client("https")
    key, secret = unique("key"), unique("secret")
    profile = {
        "name": unique("profile"),
        "type": "DEFAULT",
        "transportType": "DEFAULT",
        "provisionType": "ALLOW_CREATE_NEW_DEVICES",
        "provisionDeviceKey": key,
        "profileData": {
            "configuration": {"type": "DEFAULT"},
            "transportConfiguration": {"type": "DEFAULT"},
            "provisionConfiguration": {"type": "ALLOW_CREATE_NEW_DEVICES", "provisionDeviceSecret": secret},
        },
    }
    management.call("POST", "/api/deviceProfile", json=profile)
    wanted = {"deviceName": unique("device"), "provisionDeviceKey": key, "provisionDeviceSecret": secret}

    wrong = post(client, "/api/v1/provision", {**wanted, "provisionDeviceSecret": "wrong"})
    assert wrong.json() == {"errorMsg": "Provision data was not found!", "status": "NOT_FOUND"}
    given = post(client, "/api/v1/provision", wanted).json()
    assert (given["status"], given["credentialsType"]) == ("SUCCESS", "ACCESS_TOKEN")
    again = post(client, "/api/v1/provision", wanted)
    assert again.json() == {"errorMsg": "Failed to provision device!", "status": "FAILURE"}
    post(client, "/api/v1/provision", {"deviceName": "x"}, status=400)

    base = f"/api/v1/{given['credentialsValue']}"
    post(client, f"{base}/telemetry", {"alive": True})
    assert post(client, f"{base}/claim", {"secretKey": "s", "durationMs": 60_000}).body == b""
    assert client.request("POST", f"{base}/claim").status == 200
