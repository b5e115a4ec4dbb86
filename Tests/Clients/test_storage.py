"""Where packages are, and `windlass doctor`, which looks after them."""

import subprocess

import pytest
import requests

from support.data import some_bytes
from support.doctor import doctor
from support.http_device import HTTPDevice
from support.management import Management, unique


def test_packages_in_the_database_are_served_by_a_host_that_puts_them_into_files(make_host, windlass):
    host = make_host("--package-storage", "sqlite")
    management = Management(host)
    profile = management.profile()
    data = some_bytes(1_000_003)
    package = management.package(profile, data)
    device = management.device(profile, firmwareId=package["id"])
    assert list((host.data / "packages").iterdir()) == []

    def check():
        http = HTTPDevice(host, device["token"])
        assert http.firmware(package["title"], package["version"]).content == data
        part = http.firmware(package["title"], package["version"], chunk=15, size=65_000)
        assert part.content == data[15 * 65_000:]

    check()
    host.stop()
    host.options = ()
    host.start()
    check()
    assert doctor(windlass, host.data) == (0, {
        "data": str(host.data), "inUse": True, "packages": 1, "bytes": len(data), "devices": 1, "queues": [], "repaired": [],
        "findings": [],
    })


def test_doctor_finds_what_a_killed_upload_left_and_mends_it(make_host, windlass):
    host = make_host()
    management = Management(host)
    package = management.package(management.profile())
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + bytes(1 << 20)
    url = host.url("management")

    def pieces():
        yield body
        host.kill()
        yield body

    with pytest.raises(requests.exceptions.RequestException):
        requests.post(
            f"{url}/api/otaPackage/{package['id']['id']}?checksumAlgorithm=SHA256", data=pieces(), timeout=30,
            headers={
                "X-Authorization": f"Bearer {management.token}", "Content-Type": "multipart/form-data; boundary=b",
            },
        )
    # Killed before the upload had a file, there is nothing to find.
    leftovers = len(list((host.data / "packages").iterdir()))
    code, report = doctor(windlass, host.data)
    assert [finding["code"] for finding in report["findings"]] == ["unfinished-upload"] * leftovers
    assert code == (2 if leftovers else 0)
    code, report = doctor(windlass, host.data, "--repair")
    assert (code, report["findings"], len(report["repaired"])) == (0, [], leftovers)
    assert list((host.data / "packages").iterdir()) == []


def test_doctor_says_what_is_wrong_and_how_to_mend_it(make_host, windlass, tmp_path):
    host = make_host()
    management = Management(host)
    package = management.package(management.profile(), b"the bytes")
    [file] = (host.data / "packages").iterdir()
    command = [windlass, "doctor", "--data", host.data]
    refused = subprocess.run([*command, "--repair"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "a host has it open" in refused.stderr
    host.stop()
    file.write_bytes(b"THE bytes")
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert f"the bytes of the package '{package['title']} 1.0.0' do not have its checksum [bytes-checksum]" in found.stdout
    assert "upload the same file to the package again" in found.stdout
    nothing = subprocess.run([windlass, "doctor", "--data", tmp_path / "none"], capture_output=True, text=True, timeout=60)
    assert nothing.returncode == 1 and "there is no store in" in nothing.stderr


def test_external_packages_get_their_url_from_the_pattern_or_are_refused(make_host):
    host = make_host("--set", "ota.external.url.pattern=https://cdn.example.org/{type}/{title}/{version}")
    management = Management(host)
    profile = management.profile()
    title = unique("a b")
    body = {"deviceProfileId": profile["id"], "type": "SOFTWARE", "title": title, "version": "1/2", "usesUrl": True}
    package = management.call("POST", "/api/otaPackage", json=body).json()
    assert package["url"] == f"https://cdn.example.org/SOFTWARE/{title.replace(' ', '%20')}/1%2F2"
    assert package["hasData"] is True
    own = management.package(profile, url="http://own.example.org/x")
    assert own["url"] == "http://own.example.org/x"

    host = make_host(OTA_EXTERNAL_ENABLED="false")
    management = Management(host)
    body = {**body, "deviceProfileId": management.profile()["id"]}
    for members in [{}, {"url": "https://example.org/f"}, {"url": "https://example.org/f", "usesUrl": False}]:
        reply = management.call("POST", "/api/otaPackage", json={**body, **members}, status=(400,))
        assert "ota.external.enabled" in reply.json()["message"]
    assert management.call("POST", "/api/otaPackage", json={**body, "usesUrl": False}).json()["hasData"] is False


@pytest.mark.parametrize("setting", ["ota.external.enabled=maybe", "ota.external.url.pattern=nothing", "no.such=1"])
def test_a_setting_that_is_none_stops_the_start(windlass, chain_files, tmp_path, setting):
    result = subprocess.run(
        [
            windlass, "serve", "--data", tmp_path / "data", "--chains", chain_files, "--plugins", windlass.parent,
            "--management", "127.0.0.1:0", "--set", setting,
        ],
        capture_output=True, text=True, timeout=60,
    )
    assert result.returncode == 1
    assert setting.partition("=")[0] in result.stderr
