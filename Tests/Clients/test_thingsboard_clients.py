"""The clients that ThingsBoard publishes work as they are."""

import json
import re
import subprocess

import pytest
import requests

from support.data import sha256, some_bytes
from support.host import ADMIN, PASSWORD
from support.management import Management, unique
from support.waiting import wait_until

WHOLE_FLOW = ["QUEUED", "INITIATED", "DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"]

# Algorithm, size in bytes, chunk size; 0 asks for the whole file at once.
UPDATES = [
    ("SHA256", 100_000, 4096),
    ("SHA384", 100_000, 0),
    ("SHA512", 4096, 4096),
    ("MD5", 1, 16),
    ("CRC32", 70_001, 65_536),
    ("MURMUR3_32", 5_000, 1_000),
    ("MURMUR3_128", 50_000, 7_777),
]


def upload(management, profile, algorithm, size):
    """Uploads bytes whose checksum the client can write: it leaves out leading zeros of CRC32 and MurmurHash."""
    for seed in range(100):
        data = some_bytes(size, seed)
        package = management.package(profile, data, algorithm=algorithm)
        if not package["checksum"].endswith("00") or algorithm.startswith(("SHA", "MD")):
            return package, data
    raise AssertionError(f"100 files of {size} bytes with a zero in front of their {algorithm}")


def start_tb_device(host, thingsboard_python, device, chunk_size, package, folder):
    """The client as a process that updates itself; it logs into `client.log` and writes the file beside it."""
    script = f"{__file__.rsplit('/', 1)[0]}/support/tb_device.py"
    command = [thingsboard_python, script, *map(str, host.addresses["mqtt"]), device["token"]]
    with (folder / "client.log").open("wb") as output:
        return subprocess.Popen(
            [*command, str(chunk_size), package["title"]],
            cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
        )


def log_of(folder):
    return (folder / "client.log").read_text(errors="replace")[-3000:]


def wait_for_update(management, process, device, folder):
    """Waits until the host knows that the device is updated, then lets the client end."""
    wait_until(
        lambda: process.poll() is not None or "UPDATED" in management.states(device),
        lambda: f"the update of {device['name']}: {management.states(device)}\n{log_of(folder)}",
        seconds=60,
    )
    process.stdin.close()
    assert process.wait(timeout=70) == 0, log_of(folder)


@pytest.fixture(scope="module")
def updated_devices(host, management, thingsboard_python, tmp_path_factory):
    """One device for each case, all updated at once: the client sleeps for seconds in each state."""
    runs = {}
    for algorithm, size, chunk_size in UPDATES:
        profile = management.profile()
        package, data = upload(management, profile, algorithm, size)
        device = management.device(profile)
        management.assign_to_device(device, package)
        folder = tmp_path_factory.mktemp("tb-device")
        process = start_tb_device(host, thingsboard_python, device, chunk_size, package, folder)
        runs[algorithm] = (process, device, package, data, folder)
    yield runs
    for process, *_ in runs.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("algorithm", [algorithm for algorithm, *_ in UPDATES])
def test_tb_mqtt_client_updates_itself_through_all_states(management, updated_devices, algorithm):
    process, device, package, data, folder = updated_devices[algorithm]
    wait_for_update(management, process, device, folder)
    assert management.states(device, package["title"]) == WHOLE_FLOW
    assert sha256((folder / package["title"]).read_bytes()) == sha256(data)
    assert management.record(device)["state"] == "UPDATED"
    assert management.latest(device, "current_fw_title", "fw_state") == {
        "current_fw_title": package["title"],
        "fw_state": "UPDATED",
    }
    assert management.latest(device, "target_fw_title", "target_fw_version") == {
        "target_fw_title": package["title"],
        "target_fw_version": package["version"],
    }


def chunks_served(host):
    """How many requests for bytes of packages the host has taken in."""
    text = requests.get(f"{host.url('management')}/metrics", timeout=30).text
    counts = re.findall(r'^windlass_node_messages_total\{[^}]*node="serve"[^}]*\} (\d+)', text, re.MULTILINE)
    assert len(counts) == 1, text
    return int(counts[0])


@pytest.mark.bug("T2")
def test_tb_mqtt_client_that_was_offline_at_the_assignment_downloads_the_file_once(
    make_host, thingsboard_python, tmp_path
):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    package, data = upload(management, profile, "SHA256", 300_000)
    device = management.device(profile)
    management.assign_to_device(device, package)
    wait_until(lambda: management.record(device)["state"] == "INITIATED", "the push that no session takes")
    process = start_tb_device(host, thingsboard_python, device, 4096, package, tmp_path)
    try:
        wait_for_update(management, process, device, tmp_path)
    finally:
        process.kill()
        process.wait()
    assert management.states(device) == WHOLE_FLOW
    assert sha256((tmp_path / package["title"]).read_bytes()) == sha256(data)
    assert chunks_served(host) == -(-300_000 // 4096)


@pytest.mark.parametrize("version", ["4.3", "4.4"])
def test_tb_rest_client_drives_the_management_api(host, thingsboard_python, python, tmp_path, version):
    file = tmp_path / f"{unique('upload')}.bin"
    file.write_bytes(some_bytes(200_000))
    script = f"{__file__.rsplit('/', 1)[0]}/support/tb_rest.py"
    interpreter = thingsboard_python if version == "4.3" else python
    run = subprocess.run(
        [interpreter, script, host.url("management"), host.url("http"), ADMIN, PASSWORD, str(file)],
        capture_output=True, text=True, timeout=200,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    name = f"tb-rest-{version}"
    seen = json.loads(run.stdout.splitlines()[-1])
    assert name in seen.pop("listed")
    assert seen == {
        "version": version,
        "token": True,
        "credentials_type": "ACCESS_TOKEN",
        "credentials_id": f"{name}-token",
        "checksum": sha256(file.read_bytes()),
        "data_size": 200_000,
        "listed_for_profile": [name],
        "info": file.name,
        "downloaded": True,
        "devices_without_own": 1,
        "assigned": True,
        "telemetry_status": 200,
        "latest": {"fw_state": "DOWNLOADING", "answer": "42"},
        "history": [[4_000, "3"], [3_000, "2"]],
        "history_upward": [[1_000, 0], [2_000, 1]],
        "averages": [[2_000, "0.5"], [4_000, "2.5"]],
        "queried": [[[name, "DOWNLOADING"]], 1, 1],
        "queried_others": [[], 0, 0],
        "called_v1": {"asked": {"n": 7}},
        "called_v2": {"asked": {"n": 7}},
        "attribute": 7,
        "unassigned": True,
        "assigned_to_profile": True,
        "profile_unassigned": True,
        "left": [],
    }
