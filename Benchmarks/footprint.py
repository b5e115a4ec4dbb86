#!/usr/bin/env python3
"""Prints how fast a host starts and how much memory it takes: idle, and while a 1 GiB package is uploaded and served.

    bin/windlass --version && python3 Benchmarks/footprint.py [BYTES]

Needs Linux, the release build and nothing but Python. Peak memory is the kernel's own figure (VmHWM in /proc/PID/status,
reset before each part); files that the kernel caches on behalf of the host do not count.
"""
import hashlib
import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("WINDLASS_BIN", str(ROOT / ".build/release/windlass"))
ADMIN = ("admin@example.org", "a password for one run")
PIECE = 1 << 20


class Host:
    """A host on loopback, on free ports."""

    def __init__(self, data, *options):
        self.options = options
        environment = dict(
            os.environ, HTTP_PORT="0", MQTT_PORT="0", COAP_PORT="0", DEVICE_HOST="127.0.0.1",
            WINDLASS_ADMIN_USER=ADMIN[0], WINDLASS_ADMIN_PASSWORD=ADMIN[1],
        )
        started = time.monotonic()
        self.process = subprocess.Popen(
            [
                BINARY, "serve", "--data", data, "--chains", str(ROOT / "chains"), "--management", "127.0.0.1:0", *options,
            ],
            env=environment, stdout=subprocess.PIPE, text=True,
        )
        self.ports = {}
        for line in self.process.stdout:
            if line.strip() == "ready":
                break
            scheme, _, address = line.removeprefix("listening ").strip().partition("://")
            self.ports[scheme] = int(address.rpartition(":")[2])
        else:
            sys.exit("the host did not become ready")
        self.start_seconds = time.monotonic() - started

    def memory(self, name):
        """A figure of /proc/PID/status, in MiB."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1024

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self):
        self.process.terminate()
        started = time.monotonic()
        self.process.wait(timeout=30)
        return time.monotonic() - started


def call(connection, method, path, body=None, headers=None):
    data = json.dumps(body) if body is not None else None
    connection.request(method, path, body=data, headers=headers or {})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        sys.exit(f"{method} {path}: {response.status} {text.decode(errors='replace')}")
    return json.loads(text) if text else None


def pieces(size):
    """The bytes of the package, a MiB at a time."""
    block = hashlib.shake_256(b"windlass").digest(PIECE)
    for offset in range(0, size, PIECE):
        yield block[: min(PIECE, size - offset)]


def upload(connection, path, auth, size):
    head = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--edge--\r\n"
    digest = hashlib.sha256()

    def body():
        yield head
        for piece in pieces(size):
            digest.update(piece)
            yield piece
        yield tail

    connection.request(
        "POST", path, body=body(),
        headers=auth | {
            "Content-Type": "multipart/form-data; boundary=edge", "Content-Length": str(len(head) + size + len(tail)),
        },
    )
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        sys.exit(f"upload: {response.status} {text.decode(errors='replace')}")
    return digest.hexdigest()


def download(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    response = connection.getresponse()
    digest = hashlib.sha256()
    while piece := response.read(PIECE):
        digest.update(piece)
    return response.status, digest.hexdigest()


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1 << 30
    print(f"host {BINARY}, {os.cpu_count()} cores, package of {size / PIECE:,.0f} MiB")
    with tempfile.TemporaryDirectory(prefix="windlass-footprint-") as data:
        host = Host(data)
        print(f"start on no data        {host.start_seconds:8.3f} s to ready")
        host.stop()
        host = Host(data)
        print(f"start on existing data  {host.start_seconds:8.3f} s to ready")
        management = http.client.HTTPConnection("127.0.0.1", host.ports["management"])
        login = call(management, "POST", "/api/auth/login", {"username": ADMIN[0], "password": ADMIN[1]})
        auth = {"X-Authorization": "Bearer " + login["token"]}
        # Hashing the administrator's password, beside the start and at the login, takes 16 MiB for a moment.
        time.sleep(3)
        print(f"idle                    {host.memory('VmRSS'):8.1f} MiB resident")
        profile = call(management, "GET", "/api/deviceProfileInfo/default", headers=auth)["id"]
        package = call(
            management, "POST", "/api/otaPackage",
            {"title": "big", "version": "1", "type": "FIRMWARE", "deviceProfileId": profile}, auth,
        )
        host.reset_peak()
        before = host.memory("VmRSS")
        started = time.monotonic()
        sent = upload(management, f"/api/otaPackage/{package['id']['id']}?checksumAlgorithm=SHA256", auth, size)
        seconds = time.monotonic() - started
        print(f"upload                  {host.memory('VmHWM') - before:8.1f} MiB peak growth, {size / PIECE / seconds:,.0f} MiB/s")

        call(management, "POST", "/api/device?accessToken=TOKEN", {"name": "d", "firmwareId": package["id"]}, auth)
        host.reset_peak()
        before = host.memory("VmRSS")
        started = time.monotonic()
        status, received = download(host.ports["http"], "/api/v1/TOKEN/firmware?title=big&version=1")
        seconds = time.monotonic() - started
        print(f"download over HTTP      {host.memory('VmHWM') - before:8.1f} MiB peak growth, {size / PIECE / seconds:,.0f} MiB/s")
        if status != 200 or received != sent:
            sys.exit(f"the download is not what was uploaded: status {status}")
        print(f"stop                    {host.stop():8.3f} s after SIGTERM")


if __name__ == "__main__":
    main()
