"""Drives the management API with the unmodified tb-rest-client, 4.3 or 4.4.

tb_rest.py MANAGEMENT_URL DEVICE_URL USER PASSWORD FILE prints what it saw as one line of JSON.
"""

import json
import pathlib
import sys
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

    client.save_device_attributes(device.id, "SHARED_SCOPE", body={"limit": 7})
    shared = client.get_attributes_by_scope(device.id, "SHARED_SCOPE", keys="limit")
    shared = json.loads(shared.replace("'", '"')) if isinstance(shared, str) else shared
    first = shared[0]
    seen["attribute"] = first["value"] if isinstance(first, dict) else first.value

    device = client.get_device_by_id(device.id)
    device.firmware_id = None
    seen["unassigned"] = client.save_device(body=device).firmware_id is None
    client.delete_device(device.id)
    client.delete_ota_package(package.id)
    client.delete_device_profile(saved_profile.id)
    seen["left"] = [found.title for found in client.get_ota_packages(page_size=100, page=0).data if found.title == name]
    print(json.dumps(seen))


main()
