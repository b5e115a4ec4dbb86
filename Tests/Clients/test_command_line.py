"""The commands beside `serve`."""

import json
import re
import signal
import subprocess
import time

import pytest

from support.chains import without_comments
from support.data import sha256, some_bytes

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
