#!/usr/bin/env python3
"""Prints what large and broken uploads cost a host, and proves that nothing of the broken ones stays.

    bin/windlass --version && python3 Benchmarks/uploads.py [--storage files|sqlite] [--size MIB] [--count N] [--each MIB]

One upload of 4 GiB by `windlass package push`, then two rounds of 20 parallel uploads of 256 MiB. In the first each ends as
chance has it: by itself, with its client killed, or with its connection cut. In the second the host is killed meanwhile
(SIGKILL) and started again. After each part `windlass doctor`, which reads every byte that is stored, must find no fault.

Needs Linux, the release build, room for twice what is uploaded at once, and nothing but Python. Chance is seeded; the seed is
printed. Memory is the kernel's own figure, as in footprint.py.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

from footprint import ADMIN, BINARY, PIECE, Host, call, pieces

# What must stay free on the disk.
ROOM = 20 << 30
HEAD = (
    b'--edge\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)
TAIL = b"\r\n--edge--\r\n"


def row(what, text):
    print(f"{what:<34}{text}", flush=True)


def login(host):
    connection = http.client.HTTPConnection("127.0.0.1", host.ports["management"], timeout=300)
    token = call(connection, "POST", "/api/auth/login", {"username": ADMIN[0], "password": ADMIN[1]})["token"]
    return connection, {"X-Authorization": "Bearer " + token}


def doctor(data):
    """The report; ends the run if there is a fault."""
    started = time.monotonic()
    result = subprocess.run(
        [BINARY, "doctor", "--data", data, "--format", "json"], capture_output=True, text=True, check=False
    )
    report = json.loads(result.stdout or "{}")
    report["seconds"] = time.monotonic() - started
    report["code"] = result.returncode
    report["errors"] = result.stderr
    return report


def expect_no_fault(data, packages):
    report = doctor(data)
    if report["code"] or report["packages"] != packages:
        sys.exit(f"doctor: {report}")
    gib = report["bytes"] / (1 << 30)
    row("  doctor", f"no fault; {packages} packages, {gib:.1f} GiB read in {report['seconds']:.1f} s")


def stored(data):
    return len(list(pathlib.Path(data, "packages").iterdir()))


def push(host, file, title):
    """Begins `windlass package push`."""
    environment = dict(
        os.environ, WINDLASS_SERVER=f"http://127.0.0.1:{host.ports['management']}",
        WINDLASS_USER=ADMIN[0], WINDLASS_PASSWORD=ADMIN[1],
    )
    return subprocess.Popen(
        [BINARY, "package", "push", str(file), "--title", title, "--version", "1"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


def peak(process):
    """The most memory that a process had, in MiB, while it runs; 0 when it is gone."""
    try:
        for line in open(f"/proc/{process.pid}/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0


def one_large(host, data, folder, size):
    file = folder / "large.bin"
    with file.open("wb") as out:
        # Without blocks of its own, so that only the host's copy takes room.
        out.truncate(size)
    host.reset_peak()
    before = host.memory("VmRSS")
    started = time.monotonic()
    process = push(host, file, "large")
    client = 0
    while process.poll() is None:
        client = max(client, peak(process))
        time.sleep(0.05)
    seconds = time.monotonic() - started
    if process.returncode:
        sys.exit(f"push: {process.stderr.read()}")
    row(f"upload of {size / PIECE:,.0f} MiB", f"{size / PIECE / seconds:,.0f} MiB/s")
    row("  host", f"{host.memory('VmHWM') - before:.1f} MiB peak growth")
    row("  windlass package push", f"{client:.1f} MiB peak")
    expect_no_fault(data, 1)
    connection, auth = login(host)
    packages = call(connection, "GET", "/api/otaPackages?pageSize=10&page=0", headers=auth)["data"]
    call(connection, "DELETE", f"/api/otaPackage/{packages[0]['id']['id']}", headers=auth)
    file.unlink()


def cut(host, auth, package, size, at):
    """Uploads over a bare socket and cuts the connection after so many bytes; to the end if there are fewer.

    Returns the status; 0 if the connection was cut.
    """
    with socket.create_connection(("127.0.0.1", host.ports["management"]), timeout=300) as connection:
        connection.sendall(
            f"POST /api/otaPackage/{package}?checksumAlgorithm=SHA256 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
            f"X-Authorization: {auth['X-Authorization']}\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
            f"Content-Length: {len(HEAD) + size + len(TAIL)}\r\n\r\n".encode() + HEAD
        )
        sent = 0
        # Nobody has the same bytes as another, or they would be kept once.
        mark = package.encode()
        for piece in pieces(size):
            if sent + len(piece) > at:
                # No farewell: the peer gets a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return 0
            connection.sendall(mark + piece[len(mark):])
            sent += len(piece)
        connection.sendall(TAIL)
        answer = connection.recv(65536)
        return int(answer.split(b" ")[1]) if answer else 0


def packages_for(host, count, name):
    connection, auth = login(host)
    profile = call(connection, "GET", "/api/deviceProfileInfo/default", headers=auth)["id"]
    made = [
        call(
            connection, "POST", "/api/otaPackage",
            {"title": f"{name} {number}", "version": "1", "type": "FIRMWARE", "deviceProfileId": profile}, auth,
        )
        for number in range(count)
    ]
    return auth, [package["id"]["id"] for package in made]


def broken_clients(host, data, folder, count, size, chance):
    """Parallel uploads that end as chance has it."""
    auth, packages = packages_for(host, count, "broken")
    file = folder / "push.bin"
    with file.open("wb") as out:
        out.write(os.urandom(PIECE))
        out.truncate(size)
    plans = [(package, chance.choice(["finished", "cut", "killed"]), chance.random()) for package in packages]

    def carry_out(plan):
        package, end, when = plan
        if end == "finished":
            status = cut(host, auth, package, size, size)
            return end if status == 200 else f"answered {status}"
        if end == "cut":
            cut(host, auth, package, size, int(when * size))
            return end
        number = packages.index(package)
        process = push(host, file, f"broken {number}")
        deadline = time.monotonic() + 0.2 + when * 10
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        process.stderr.close()
        return "finished" if process.returncode == 0 else end

    host.reset_peak()
    before = host.memory("VmRSS")
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        ends = list(pool.map(carry_out, plans))
    seconds = time.monotonic() - started
    counts = {end: ends.count(end) for end in sorted(set(ends))}
    if set(counts) - {"finished", "cut", "killed"}:
        sys.exit(f"uploads ended as {counts}")
    row(f"{count} uploads of {size / PIECE:,.0f} MiB at once", f"{seconds:.1f} s; {counts}")
    row("  host", f"{host.memory('VmHWM') - before:.1f} MiB peak growth")
    # What was given up is removed when the host has noticed, which a cut connection tells it at once.
    deadline = time.monotonic() + 60
    while any(pathlib.Path(data, "packages").glob("*.part")):
        if time.monotonic() > deadline:
            sys.exit(f"uploads that were cut off are still there: {stored(data)} files")
        time.sleep(0.05)
    expect_no_fault(data, count)
    return counts


def killed_host(host, data, count, size, chance):
    """Parallel uploads with the host killed in their middle; returns the host that took its place."""
    auth, packages = packages_for(host, count, "killed")
    sizes = [int(size * (0.2 + 0.8 * chance.random())) for _ in packages]

    def carry_out(upload):
        package, size = upload
        try:
            return cut(host, auth, package, size, size)
        except OSError:
            return 0

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        uploads = [pool.submit(carry_out, upload) for upload in zip(packages, sizes)]
        # In the middle of them, when some were acknowledged and the others were not.
        some = chance.randint(1, count // 2)
        while sum(upload.done() for upload in uploads) < some:
            time.sleep(0.01)
        host.process.kill()
        host.process.wait()
    finished = sum(upload.result() == 200 for upload in uploads)
    report = doctor(data)
    left = [finding["code"] for finding in report.get("findings", [])]
    if set(left) - {"unfinished-upload", "orphan"}:
        sys.exit(f"doctor: {report}")
    row(f"{count} uploads, host killed", f"{finished} were acknowledged; doctor finds {len(left)} that were cut off")
    started = time.monotonic()
    host = Host(data, *host.options)
    row("  started again", f"{time.monotonic() - started:.1f} s to ready")
    expect_no_fault(data, 2 * count)
    connection, auth = login(host)
    for package in packages:
        info = call(connection, "GET", f"/api/otaPackage/info/{package}", headers=auth)
        finished -= info["hasData"]
    if finished > 0:
        sys.exit("a package is gone that was acknowledged")
    return host


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--storage", choices=["files", "sqlite"], default="files")
    arguments.add_argument("--size", type=int, default=4096, help="MiB of the large package")
    arguments.add_argument("--count", type=int, default=20, help="uploads at once")
    arguments.add_argument("--each", type=int, default=256, help="MiB of each of them")
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = arguments.parse_args()
    size, each = arguments.size * PIECE, arguments.each * PIECE
    needed = max(size, 2 * arguments.count * each)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed + ROOM:
        sys.exit(f"{(needed + ROOM) >> 30} GiB must be free in {tempfile.gettempdir()}, and {free >> 30} GiB are")
    print(f"host {BINARY}, {os.cpu_count()} cores, storage {arguments.storage}, seed {arguments.seed}")
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="windlass-uploads-") as folder:
        folder = pathlib.Path(folder)
        data = str(folder / "data")
        host = Host(data, "--package-storage", arguments.storage)
        try:
            one_large(host, data, folder, size)
            broken_clients(host, data, folder, arguments.count, each, chance)
            host = killed_host(host, data, arguments.count, each, chance)
        finally:
            host.process.kill()
            host.process.wait()


main()
