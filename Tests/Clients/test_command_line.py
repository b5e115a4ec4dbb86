"""The commands beside `serve`."""

import json
import re
import signal
import socket
import subprocess
import time

import pytest

from support.chains import without_comments
from support.data import sha256, some_bytes
from support.management import Management
from support.mqtt_device import MQTTDevice

FAULT = re.compile(r"^.*:(\d+):(\d+): error: .+ \[[a-z0-9-]+\]$")


def run(windlass, *arguments):
    return subprocess.run([windlass, *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.fixture
def broken(chain_files, tmp_path):
    """The chain file that ships with two faults in it, and the lines they are in."""
    text = without_comments((chain_files / "ota.xml").read_text())
    target = re.search(r'to="([\w-]+)"', text)
    text = text.replace(target[0], 'to="nowhere-at-all"', 1)
    text = text.replace("</chain>", '\n  <flow:no-such-node id="none"/>\n</chain>')
    file = tmp_path / "ota.xml"
    file.write_text(text)
    lines = text.splitlines()
    return file, {
        next(number for number, line in enumerate(lines, 1) if "nowhere-at-all" in line),
        next(number for number, line in enumerate(lines, 1) if "no-such-node" in line),
    }


def test_check_names_every_fault_with_file_line_and_column(windlass, broken):
    file, lines = broken
    result = run(windlass, "check", "--plugins", windlass.parent, file)
    assert result.returncode != 0
    faults = [FAULT.match(line) for line in (result.stdout + result.stderr).splitlines() if str(file) in line]
    assert faults and all(faults), result.stdout + result.stderr
    assert lines <= {int(fault[1]) for fault in faults}


def test_check_accepts_the_chain_file_that_ships(windlass, chain_files):
    result = run(windlass, "check", "--plugins", windlass.parent, chain_files / "ota.xml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_nodes_as_json_name_types_relations_and_attributes(windlass):
    result = run(windlass, "nodes", "--plugins", windlass.parent, "--format", "json")
    assert result.returncode == 0, result.stderr
    plugins = json.loads(result.stdout)
    names = {plugin["name"] for plugin in plugins}
    assert names == {"CoAPIngress", "FlowNodes", "HTTPIngress", "MQTTIngress", "OTANodes"}
    types = {node["type"]: node for plugin in plugins for node in plugin["nodes"]}
    assert {"ingress", "package-lookup", "attribute-push", "chunk-serve", "state-tracking", "throttle"} <= types.keys()
    for plugin in plugins:
        assert plugin["namespace"].startswith("urn:")
        for node in plugin["nodes"]:
            assert node["summary"] and isinstance(node["relations"], list) and isinstance(node["attributes"], list)


def test_serve_without_plugins_says_so_and_ends(windlass, chain_files, tmp_path):
    result = run(
        windlass, "serve", "--data", tmp_path / "data", "--chains", chain_files, "--plugins", tmp_path,
        "--management", "127.0.0.1:0",
    )
    assert result.returncode != 0
    assert str(tmp_path) in result.stderr


def test_demo_updates_a_device_over_each_transport(windlass, chain_files, tmp_path):
    file = tmp_path / "firmware.bin"
    data = some_bytes(700_001)
    file.write_bytes(data)
    result = run(windlass, "demo", "--file", file, "--chains", chain_files, "--plugins", windlass.parent)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sha256(data) in result.stdout
    for transport in ["http", "mqtt", "coap"]:
        [row] = [line.split() for line in result.stdout.splitlines() if line.split()[1:2] == [f"demo-{transport}"]]
        assert row[:4] == [transport, f"demo-{transport}", "UPDATED", "700,001"]
        assert row[6:] == [f"{sha256(data)[:12]}…", "verified"]
    assert "\x1b" not in result.stdout, "no escape sequences when the output is no terminal"
    assert result.stderr == "", "the host of the demo is stopped gracefully"


def test_demo_without_its_file_says_so(windlass, chain_files, tmp_path):
    missing = tmp_path / "missing"
    result = run(windlass, "demo", "--file", missing, "--chains", chain_files, "--plugins", windlass.parent)
    assert result.returncode != 0
    assert f"cannot open '{missing}'" in result.stderr


def test_sigterm_ends_the_host_within_five_seconds(make_host):
    host = make_host()
    start = time.monotonic()
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(timeout=10) == 0
    assert time.monotonic() - start < 5


def test_sigterm_ends_the_host_within_five_seconds_whatever_is_under_way(make_host):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    package = management.package(profile, some_bytes(64 << 20))
    device = management.device(profile, firmwareId=package["id"])

    def request(scheme, head, body=b""):
        connection = socket.create_connection(host.addresses[scheme], timeout=30)
        connection.sendall(head.encode() + b"\r\nHost: h\r\n\r\n" + body)
        return connection

    path = f"/api/v1/{device['token']}"
    polls = [
        request("http", f"GET {path}/{what}?timeout=600000 HTTP/1.1")
        for what in ["attributes/updates", "rpc"] for _ in range(20)
    ]
    # More than the sockets hold, and the client reads no more than the beginning.
    download = request("http", f"GET {path}/firmware?title={package['title']}&version=1.0.0 HTTP/1.1")
    assert download.recv(15) == b"HTTP/1.1 200 OK"
    upload = request(
        "management",
        f"POST /api/otaPackage/{package['id']['id']}?checksumAlgorithm=SHA256 HTTP/1.1\r\n"
        f"X-Authorization: Bearer {management.token}\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nbytes',
    )
    mqtt = MQTTDevice(host, device["token"])
    host.process.send_signal(signal.SIGTERM)
    # What is under way is cut off after four seconds; the rest is for a machine that has more to do than this.
    assert host.process.wait(timeout=10) == 0, host.log()[-2000:]
    mqtt.close()
    for connection in [*polls, download, upload]:
        connection.close()
