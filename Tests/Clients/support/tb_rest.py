"""Drives the management API with the unmodified tb-rest-client, 4.3 or 4.4.

tb_rest.py MANAGEMENT_URL DEVICE_URL USER PASSWORD FILE prints what it saw as one line of JSON.
"""

import ast
import json
import pathlib
import sys
import threading
from time import monotonic, sleep

import requests

try:
    from tb_rest_client.rest_client_ce import *
    from tb_rest_client.rest_client_ce import RestClientCE as RestClient

    VERSION = "4.3"
except ImportError:
    from tb_rest_client import RestClient
    from tb_rest_client.models import *

    VERSION = "4.4"


def profile(name):
    data = DeviceProfileData(configuration={"type": "DEFAULT"}, transport_configuration={"type": "DEFAULT"})
    return DeviceProfile(name=name, type="DEFAULT", transport_type="DEFAULT", profile_data=data)


def download(client, package_id):
    try:
        content = client.download_ota_package(package_id)
    except TypeError:
        assert VERSION == "4.3"
    if VERSION == "4.4":
        return content
    # 4.3 gets the right answer but makes text of it, and fails when it writes that; the bytes are compared without it.
    headers = {"X-Authorization": f"Bearer {client.get_token()}"}
    url = f"{client.base_url}/api/otaPackage/{package_id.id}/download"
    return requests.get(url, headers=headers, timeout=30).content


def latest(client, device, keys):
    found = client.get_latest_timeseries(device.id, keys=keys)
    return {
        key: (values[0]["value"] if isinstance(values[0], dict) else values[0].value) for key, values in found.items()
    }


def member(value, name):
    """A member of an answer: 4.3 leaves answers of maps as they are, 4.4 makes objects of them."""
    return value[name] if isinstance(value, dict) else getattr(value, name)


def history(client, device, **query):
    found = client.get_timeseries(device.id, keys="level", start_ts=1_000, end_ts=5_000, **query)
    return [[member(entry, "ts"), member(entry, "value")] for entry in found["level"]]


def query_of(profile_name, state):
    """Devices of a profile whose firmware is in this state, sorted by name."""
    key = EntityKey(type="TIME_SERIES", key="fw_state")
    name = EntityKey(type="ENTITY_FIELD", key="name")
    predicate = {"type": "STRING", "operation": "EQUAL", "ignoreCase": False, "value": {"defaultValue": state}}
    return {
        "entity_filter": {"type": "deviceType", "deviceTypes": [profile_name], "deviceNameFilter": ""},
        "key_filters": [{"key": key, "valueType": "STRING", "predicate": predicate}],
    }, {
        "page_link": EntityDataPageLink(
            page_size=10, page=0, sort_order=EntityDataSortOrder(key=name, direction="ASC")
        ),
        "entity_fields": [name],
        "latest_values": [key],
    }


def queried(client, profile_name, state):
    """What a query finds and counts: names, states and number."""
    which, how = query_of(profile_name, state)
    page = client.find_entity_data_by_query(EntityDataQuery(**which, **how))
    rows = [
        [member(row.latest[kind][key], "value") for kind, key in (("ENTITY_FIELD", "name"), ("TIME_SERIES", "fw_state"))]
        for row in page.data
    ]
    return [rows, page.total_elements, client.count_entities_by_query(EntityCountQuery(**which))]


def answer_calls(device_url, token, count):
    """Answers calls as a device that polls: with what it was asked."""

    def run():
        for _ in range(count):
            asked = requests.get(f"{device_url}/api/v1/{token}/rpc", params={"timeout": 30_000}, timeout=60).json()
            requests.post(f"{device_url}/api/v1/{token}/rpc/{asked['id']}", json={"asked": asked["params"]}, timeout=30)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def called(call, device):
    """What a device answers to a call, of which 4.3 makes text in the words of Python."""
    answer = call(device.id, body={"method": "echo", "params": {"n": 7}, "timeout": 30_000})
    return ast.literal_eval(answer) if isinstance(answer, str) else answer


def wait_for(condition):
    deadline = monotonic() + 30
    while not condition():
        if monotonic() > deadline:
            raise SystemExit("the host took more than 30 s to tell the device")
        sleep(0.02)


def main():
    management, device_url, user, password, file = sys.argv[1:]
    name = f"tb-rest-{VERSION}"
    data = pathlib.Path(file).read_bytes()
    seen = {"version": VERSION}
    client = RestClient(management)
    client.login(user, password)
    seen["token"] = bool(client.get_token())

    saved_profile = client.save_device_profile(body=profile(name))
    device = client.save_device(body=Device(name=name, device_profile_id=saved_profile.id))
    credentials = client.get_device_credentials_by_device_id(device.id)
    seen["credentials_type"] = credentials.credentials_type
    credentials.credentials_id = f"{name}-token"
    token = client.update_device_credentials(body=credentials).credentials_id
    seen["credentials_id"] = token

    request = SaveOtaPackageInfoRequest(
        device_profile_id=saved_profile.id,
        type="FIRMWARE",
        title=name,
        version="1.0",
        tag=f"{name} 1.0",
        uses_url=False,
    )
    package = client.save_ota_package_info(body=request)
    uploaded = client.save_ota_package_data(ota_package_id=package.id, checksum_algorithm="SHA256", file=file)
    seen["checksum"] = uploaded.checksum
    seen["data_size"] = uploaded.data_size
    seen["listed"] = [found.title for found in client.get_ota_packages(page_size=100, page=0).data]
    by_profile = client.get_ota_packages_v1(device_profile_id=saved_profile.id, type="FIRMWARE", page_size=10, page=0)
    seen["listed_for_profile"] = [found.title for found in by_profile.data]
    seen["info"] = client.get_ota_package_info_by_id(package.id).file_name
    seen["downloaded"] = download(client, package.id) == data
    seen["devices_without_own"] = client.count_by_device_profile_and_empty_ota_package(
        ota_package_type="FIRMWARE", device_profile_id=saved_profile.id
    )

    device = client.get_device_by_id(device.id)
    device.firmware_id = package.id
    seen["assigned"] = client.save_device(body=device).firmware_id.id == package.id.id
    # A device downloads when it was told to, and not before.
    wait_for(lambda: latest(client, device, "fw_state") == {"fw_state": "INITIATED"})

    posted = requests.post(
        f"{device_url}/api/v1/{token}/telemetry", json={"fw_state": "DOWNLOADING", "answer": 42}, timeout=30
    )
    seen["telemetry_status"] = posted.status_code
    seen["latest"] = latest(client, device, "fw_state,answer")

    posted = [{"ts": 1_000 * (n + 1), "values": {"level": n}} for n in range(5)]
    requests.post(f"{device_url}/api/v1/{token}/telemetry", json=posted, timeout=30).raise_for_status()
    seen["history"] = history(client, device, limit=2)
    seen["history_upward"] = history(client, device, limit=2, order_by="ASC", use_strict_data_types=True)
    seen["averages"] = history(client, device, agg="AVG", interval=2_000)
    seen["queried"] = queried(client, saved_profile.name, "DOWNLOADING")
    seen["queried_others"] = queried(client, saved_profile.name, "UPDATED")

    thread = answer_calls(device_url, token, 2)
    seen["called_v1"] = called(client.handle_two_way_device_rpc_request, device)
    seen["called_v2"] = called(client.handle_two_way_device_rpc_request_v1, device)
    thread.join(30)

    client.save_device_attributes(device.id, "SHARED_SCOPE", body={"limit": 7})
    shared = client.get_attributes_by_scope(device.id, "SHARED_SCOPE", keys="limit")
    shared = json.loads(shared.replace("'", '"')) if isinstance(shared, str) else shared
    first = shared[0]
    seen["attribute"] = first["value"] if isinstance(first, dict) else first.value

    device = client.get_device_by_id(device.id)
    device.firmware_id = None
    seen["unassigned"] = client.save_device(body=device).firmware_id is None
    saved_profile.firmware_id = package.id
    saved_profile = client.save_device_profile(body=saved_profile)
    seen["assigned_to_profile"] = saved_profile.firmware_id.id == package.id.id
    saved_profile.firmware_id = None
    saved_profile = client.save_device_profile(body=saved_profile)
    seen["profile_unassigned"] = saved_profile.firmware_id is None
    client.delete_device(device.id)
    client.delete_ota_package(package.id)
    client.delete_device_profile(saved_profile.id)
    seen["left"] = [found.title for found in client.get_ota_packages(page_size=100, page=0).data if found.title == name]
    print(json.dumps(seen))


main()
