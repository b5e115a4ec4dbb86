"""The management REST API as an administrator uses it."""

import itertools
import threading
import uuid

import requests

from .host import ADMIN, PASSWORD
from .waiting import wait_until

TIMEOUT = 30
_numbers = itertools.count(1)


def unique(prefix):
    """A name that no other test uses."""
    return f"{prefix}-{next(_numbers)}-{uuid.uuid4().hex[:8]}"


def reference(entity):
    return entity["id"]


class Management:
    """A login at a host, usable from several threads."""

    def __init__(self, host, user=ADMIN, password=PASSWORD):
        self.host = host
        self._sessions = threading.local()
        reply = requests.post(
            f"{host.url('management')}/api/auth/login", json={"username": user, "password": password}, timeout=TIMEOUT
        )
        assert reply.status_code == 200, f"login: {reply.status_code} {reply.text}"
        self.token = reply.json()["token"]

    def call(self, method, path, status=(200,), **arguments):
        """Sends a request and fails if the status is none of these; returns the reply."""
        session = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
            session.headers["X-Authorization"] = f"Bearer {self.token}"
        reply = session.request(method, self.host.url("management") + path, timeout=TIMEOUT, **arguments)
        assert reply.status_code in status, f"{method} {path}: {reply.status_code} {reply.text[:500]}"
        return reply

    def profile(self, name=None):
        body = {"name": name or unique("profile"), "type": "DEFAULT", "transportType": "DEFAULT"}
        return self.call("POST", "/api/deviceProfile", json=body).json()

    def device(self, profile, token=None, **members):
        """Creates a device and adds its access token as `token`."""
        token = token or unique("token")
        body = {"name": unique("device"), "deviceProfileId": reference(profile), **members}
        return {**self.call("POST", "/api/device", params={"accessToken": token}, json=body).json(), "token": token}

    def package(self, profile, data=None, url=None, algorithm="SHA256", kind="FIRMWARE", title=None, version="1.0.0"):
        """Creates a package and uploads its bytes, unless it is fetched from a URL."""
        body = {
            "deviceProfileId": reference(profile),
            "type": kind,
            "title": title or unique("firmware"),
            "version": version,
            "usesUrl": url is not None,
        }
        if url is not None:
            body["url"] = url
        package = self.call("POST", "/api/otaPackage", json=body).json()
        if data is None:
            return package
        return self.call(
            "POST",
            f"/api/otaPackage/{package['id']['id']}",
            params={"checksumAlgorithm": algorithm},
            files={"file": ("firmware.bin", data, "application/octet-stream")},
        ).json()

    def assign_to_profile(self, profile, package, member="firmwareId"):
        """Makes a package that of a profile, or none."""
        now = self.call("GET", f"/api/deviceProfile/{profile['id']['id']}").json()
        now[member] = package and reference(package)
        return self.call("POST", "/api/deviceProfile", json=now).json()

    def assign_to_device(self, device, package, member="firmwareId"):
        """Makes a package a device's own, or none."""
        now = self.call("GET", f"/api/device/{device['id']['id']}").json()
        now[member] = package and reference(package)
        return self.call("POST", "/api/device", json=now).json()

    def record(self, device, kind="FIRMWARE"):
        """Where the device is with its update; its state is `None` if it never had one."""
        reply = self.call("GET", f"/api/device/{device['id']['id']}/update/{kind}", status=(200, 404))
        return reply.json() if reply.status_code == 200 else {"state": None}

    def history(self, device, kind="FIRMWARE"):
        """All entries, oldest first."""
        path = f"/api/device/{device['id']['id']}/update/{kind}/history"
        return sorted(self.call("GET", path).json(), key=lambda entry: entry["id"])

    def states(self, device, title=None, kind="FIRMWARE"):
        """The states of accepted entries, oldest first, of one package's update if a title is given."""
        return [
            entry["state"]
            for entry in self.history(device, kind)
            if entry["accepted"] and (title is None or entry["title"] == title)
        ]

    def attributes(self, device, scope="SHARED_SCOPE"):
        path = f"/api/plugins/telemetry/DEVICE/{device['id']['id']}/values/attributes/{scope}"
        return {entry["key"]: entry["value"] for entry in self.call("GET", path).json()}

    def latest(self, device, *keys):
        path = f"/api/plugins/telemetry/DEVICE/{device['id']['id']}/values/timeseries"
        reply = self.call("GET", path, params={"keys": ",".join(keys), "useStrictDataTypes": "true"}).json()
        return {key: values[0]["value"] for key, values in reply.items() if values}

    def series(self, device, key, limit=50_000):
        """All values of one time series."""
        path = f"/api/plugins/telemetry/DEVICE/{device['id']['id']}/values/timeseries"
        query = {"keys": key, "startTs": 0, "endTs": 4_000_000_000_000, "limit": limit, "useStrictDataTypes": "true"}
        return [entry["value"] for entry in self.call("GET", path, params=query).json().get(key, [])]

    def wait_for_offer(self, device, package):
        """Waits until the device's shared attributes name the package."""
        return wait_until(
            lambda: (lambda shared: shared.get("fw_title") == package["title"] and shared)(self.attributes(device)),
            f"the attributes of {device['name']} to name '{package['title']}'",
        )
