"""A plain URL of a stored package, for downloaders that know nothing of us."""

import subprocess

from support.data import sha256, some_bytes
from support.management import Management
from support.waiting import wait_until

SIZE = 3 * 1024 * 1024 + 17


def curl(*arguments):
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", *arguments], capture_output=True, check=True, timeout=90
    ).stdout


def test_curl_downloads_resumes_and_looks_at_a_package_by_its_url(make_host, tmp_path):
    host = make_host(DOWNLOAD_URL="http://placeholder.invalid")
    management = Management(host)
    profile = management.profile()
    data = some_bytes(SIZE)
    package = management.package(profile, data)
    device = management.device(profile, firmwareId=package["id"])
    shared = management.wait_for_offer(device, package)
    assert shared["fw_url"].startswith("http://placeholder.invalid/api/download/")
    assert shared["fw_url"].endswith("/firmware.bin") and shared["fw_size"] == SIZE
    url = shared["fw_url"].replace("http://placeholder.invalid", host.url())

    target = tmp_path / "whole"
    curl("--fail", "--output", str(target), url)
    assert sha256(target.read_bytes()) == sha256(data)
    wait_until(lambda: management.record(device)["progress"] == 100, "the download to count as progress")

    part = tmp_path / "part"
    part.write_bytes(data[:1_000_000])
    curl("--fail", "--continue-at", "-", "--output", str(part), url)
    assert sha256(part.read_bytes()) == sha256(data)
    assert curl("--fail", "--range", "10-19", url) == data[10:20]

    headers = curl("--fail", "--head", url).decode().lower()
    assert f"content-length: {SIZE}" in headers and "accept-ranges: bytes" in headers

    # The host signs and knows its links, also after a restart; what was changed is none.
    host.kill()
    host.start()
    url = shared["fw_url"].replace("http://placeholder.invalid", host.url())
    assert curl("--fail", url) == data
    link = url.split("/")[5]
    forged = url.replace(link, link[:-1] + ("A" if link[-1] != "A" else "B"))
    assert curl("--output", "/dev/null", "--write-out", "%{http_code}", forged) == b"403"
