"""The commands that a pipeline uses on a host that runs: `windlass package`, `device` and `update`."""

import http.server
import json
import re
import socket
import ssl
import subprocess
import threading

import pytest

from support.certificates import Authority
from support.command_line import FAILED, NOT_FOUND, NOT_LOGGED_IN, UNCONFIRMED, UNREACHABLE, USAGE, CommandLine
from support.data import sha256, some_bytes
from support.host import ADMIN, PASSWORD
from support.http_device import HTTPDevice
from support.management import Management, unique


@pytest.fixture
def command(windlass, host):
    return CommandLine(windlass, host.url("management"))


@pytest.fixture
def firmware(tmp_path):
    file = tmp_path / 'pump "1".bin'
    file.write_bytes(some_bytes(700_001))
    return file


def test_a_pipeline_uploads_assigns_and_watches(command, host, management, firmware):
    profile = management.profile()
    device = management.device(profile)
    title = unique("a & b/ü")
    push = ["package", "push", firmware, "--title", title, "--version", "1", "--profile", profile["name"]]
    result = command.run(*push, "--checksum-algorithm", "sha384", "--assign")
    assert result.returncode == 0, result.stderr
    assert "uploaded: firmware" in result.stdout and "assigned to the profile" in result.stdout
    assert result.stderr == "", "no progress where there is no terminal"

    management.wait_for_offer(device, {"title": title})
    data = firmware.read_bytes()
    assert HTTPDevice(host, device["token"]).firmware(title, "1").content == data
    [package] = command.json("package", "list", "--search", title)
    assert (package["dataSize"], package["checksumAlgorithm"]) == (len(data), "SHA384")
    assert package["fileName"] == "pump 1.bin"
    assert title in command.run("package", "list", "--search", title).stdout

    assert HTTPDevice(host, device["token"]).telemetry({"fw_state": "FAILED", "fw_error": "no room"}).status_code == 200
    shown = command.json("device", "show", device["name"])
    assert shown["device"]["id"] == device["id"]
    assert (shown["updates"]["FIRMWARE"]["state"], shown["updates"]["FIRMWARE"]["title"]) == ("FAILED", title)
    assert "no room" in command.run("device", "show", device["id"]["id"]).stdout
    status = command.json("update", "status", "--device", device["name"])
    assert status["state"] == "FAILED"
    assert re.search("FAILED", command.run("update", "status", "--device", device["name"]).stdout)
    listed = command.json("device", "list", "--profile", profile["name"])
    assert [entry["name"] for entry in listed] == [device["name"]]
    assert command.json("device", "list", "--search", unique("nothing")) == []


def test_updates_are_cancelled_and_tried_again_with_an_api_key(windlass, host, management):
    body = {"userId": management.call("GET", "/api/auth/user").json()["id"], "description": "pipeline"}
    key = management.call("POST", "/api/apiKey", json=body).json()["value"]
    command = CommandLine(windlass, host.url("management"), WINDLASS_API_KEY=key, WINDLASS_PASSWORD="")
    profile = management.profile()
    package = management.package(profile, some_bytes(100))
    devices = [management.device(profile) for _ in range(3)]
    management.assign_to_profile(profile, package)
    for device in devices:
        management.wait_for_offer(device, package)
    of_profile = ["--profile", profile["name"]]

    def counts():
        return {state: count for state, count in command.json("update", "status", *of_profile).items() if count}

    assert counts() == {"INITIATED": 3}
    name = devices[0]["name"]
    assert command.run("update", "cancel", "--device", name).stdout == f"cancelled the update of '{name}'\n"
    assert "nothing to cancel" in command.fails(FAILED, "update", "cancel", "--device", name)
    cancelled = command.run("update", "cancel", *of_profile, "--state", "initiated", "--yes")
    assert cancelled.stdout == "cancelled the updates of 2 devices\n"
    assert counts() == {"FAILED": 3}
    listed = command.json("update", "status", "--list", *of_profile)
    assert {entry["deviceName"] for entry in listed} == {device["name"] for device in devices}
    text = command.run("update", "status", "--list", "--package", package["id"]["id"]).stdout
    assert text.count(package["title"]) == 3
    assert command.json("update", "retry", "--package", package["id"]["id"], "--yes") == {"devices": 3}
    for device in devices:
        management.wait_for_offer(device, package)
    assert counts() == {"INITIATED": 3}
    assert command.json("update", "resend", *of_profile, "--yes") == {"devices": 3}


@pytest.fixture
def fleet(management):
    """Makes a profile with some devices that were notified of its package."""

    def make(count):
        profile = management.profile()
        package = management.package(profile, some_bytes(100))
        devices = [management.device(profile) for _ in range(count)]
        management.assign_to_profile(profile, package)
        for device in devices:
            management.wait_for_offer(device, package)
        return profile, package, devices

    return make


def report_updated(host, device, package):
    state = {"fw_state": "UPDATED", "current_fw_title": package["title"], "current_fw_version": package["version"]}
    assert HTTPDevice(host, device["token"]).telemetry(state).status_code == 200


def test_many_updates_are_touched_only_if_that_is_confirmed(command, fleet):
    profile, _, devices = fleet(3)
    of_profile = ["--profile", profile["name"]]
    cancel = ["update", "cancel", *of_profile]

    def counts():
        return {state: count for state, count in command.json("update", "status", *of_profile).items() if count}

    assert command.run(*cancel, "--dry-run").stdout == "would cancel the updates of 3 devices\n"
    assert command.json(*cancel, "--dry-run", "--yes") == {"devices": 3}
    refused = command.fails(UNCONFIRMED, *cancel)
    assert "cancel the updates of 3 devices" in refused and "--yes" in refused
    question = "cancel the updates of 3 devices? [y/N] "
    for answer in ["n", "", "yesterday"]:
        declined = command.answered(answer, *cancel)
        assert (declined.returncode, declined.stdout) == (FAILED, "")
        assert declined.stderr == question + "windlass: nothing was changed\n"
    assert counts() == {"INITIATED": 3}
    agreed = command.answered("y", *cancel)
    assert (agreed.returncode, agreed.stdout) == (0, "cancelled the updates of 3 devices\n")
    assert agreed.stderr == question
    assert counts() == {"FAILED": 3}

    one = ["--device", devices[0]["name"]]
    assert command.run("update", "retry", *one, "--dry-run").stdout == f"would retry the update of '{devices[0]['name']}'\n"
    assert command.json("update", "retry", *one, "--dry-run") == {"devices": 1}
    assert counts() == {"FAILED": 3}
    assert command.run("update", "retry", *one).returncode == 0
    assert command.run(*cancel).stdout == "cancelled the updates of 1 device\n", "one device needs no question"


def test_resend_leaves_updated_devices_alone(command, host, management, fleet):
    profile, package, devices = fleet(2)
    of_profile = ["--profile", profile["name"]]
    report_updated(host, devices[0], package)
    assert command.json("update", "resend", *of_profile) == {"devices": 1}
    refused = command.fails(FAILED, "update", "resend", "--device", devices[0]["name"])
    assert refused.startswith("windlass: no update to resend: ") and "is UPDATED" in refused and "--include-updated" in refused
    assert management.record(devices[0])["state"] == "UPDATED"

    every = [*of_profile, "--include-updated"]
    assert command.json("update", "resend", *every, "--dry-run") == {"devices": 2}
    assert management.record(devices[0])["state"] == "UPDATED"
    assert command.json("update", "resend", *every, "--yes") == {"devices": 2}
    assert management.record(devices[0])["state"] in ["QUEUED", "INITIATED"]
    report_updated(host, devices[0], package)
    one = command.run("update", "resend", "--device", devices[0]["name"], "--include-updated")
    assert one.stdout == f"resent the update of '{devices[0]['name']}'\n"


def test_an_order_that_fits_no_update_says_what_it_found(command, host, management, fleet):
    profile, package, devices = fleet(2)
    of_profile = ["--profile", profile["name"]]
    report_updated(host, devices[0], package)
    for confirmed in [[], ["--yes"]]:
        nothing = command.fails(FAILED, "update", "retry", *of_profile, *confirmed)
        assert "no update to retry: found 1 INITIATED, 1 UPDATED, but only" in nothing
        nothing = command.fails(FAILED, "update", "cancel", *of_profile, "--state", "FAILED", *confirmed)
        assert "no update to cancel: there is no such update" in nothing
    dry = command.run("update", "retry", *of_profile, "--dry-run")
    assert dry.returncode == 0 and dry.stdout.startswith("no update to retry: found 1 INITIATED")
    assert command.json("update", "retry", *of_profile, "--dry-run") == {"devices": 0}

    name = devices[0]["name"]
    assert "no update to retry: The update to" in command.fails(FAILED, "update", "retry", "--device", name)
    assert "is UPDATED" in command.run("update", "retry", "--device", name, "--dry-run").stdout
    assert command.json("update", "retry", "--device", name, "--dry-run") == {"devices": 0}
    new = management.device(management.profile())["name"]
    assert "never had a FIRMWARE update" in command.fails(FAILED, "update", "retry", "--device", new)
    assert "there is no device 'nobody'" in command.fails(NOT_FOUND, "update", "retry", "--device", "nobody")


def test_an_assignment_says_whom_it_touches(command, management, firmware):
    profile = management.profile()
    devices = [management.device(profile) for _ in range(3)]
    management.assign_to_device(devices[0], management.package(profile, some_bytes(100)))
    title, name = unique("assigned"), profile["name"]
    push = ["package", "push", firmware, "--title", title, "--version", "1", "--profile", name, "--assign"]
    standing = f"the profile '{name}' has 3 devices, 1 of them with its own package, which stays\n"
    what = f"assign firmware {title} 1 to 2 devices of the profile '{name}'"

    dry = command.run(*push, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout == f"would upload: firmware {title} 1, 700001 bytes\n{standing}would {what}\n"
    assert command.json(*push, "--dry-run") == {"devices": 2, "withOwnPackage": 1}
    refused = command.fails(UNCONFIRMED, *push)
    assert what in refused and "--yes" in refused
    declined = command.answered("n", *push)
    assert (declined.returncode, declined.stdout) == (FAILED, "") and declined.stderr.startswith(f"{what}? [y/N] ")
    assert command.json("package", "list", "--search", title) == [], "nothing is uploaded before the answer"

    agreed = command.answered("y", *push)
    assert agreed.returncode == 0, agreed.stderr
    assert agreed.stdout.startswith(standing) and f"assigned to the profile '{name}': 2 devices\n" in agreed.stdout
    for device in devices[1:]:
        management.wait_for_offer(device, {"title": title})
    again = command.run(*push)
    assert again.returncode == 0 and f"already assigned to the profile '{name}'\n" in again.stdout
    assert f"already assigned to the profile '{name}'\n" in command.run(*push, "--dry-run").stdout


def test_push_may_be_repeated_until_it_is_done(command, management, firmware):
    profile = management.profile()
    # Made, but never uploaded, as after a push that was cut off.
    empty = management.package(profile)
    push = ["package", "push", firmware, "--title", empty["title"], "--version", "1.0.0", "--profile", profile["id"]["id"]]
    package = command.json(*push)
    assert package["id"] == empty["id"]
    assert package["checksum"] == sha256(firmware.read_bytes())
    again = command.run(*push)
    assert again.returncode == 0 and "already there" in again.stdout
    firmware.write_bytes(b"other bytes")
    assert "exists with other bytes" in command.fails(FAILED, *push)
    assert "of another type" in command.fails(FAILED, *push, "--type", "SOFTWARE")


def test_every_refusal_has_a_sentence_and_a_code(command, windlass, host, management, firmware, tmp_path):
    push = ["package", "push", firmware, "--title", "x", "--version", "1"]
    assert "there is no device profile 'nothing'" in command.fails(NOT_FOUND, *push, "--profile", "nothing")
    assert "title length must be" in command.fails(FAILED, "package", "push", firmware, "--title", "x" * 256, "--version", "1")
    assert "there is no device 'nobody'" in command.fails(NOT_FOUND, "device", "show", "nobody")
    assert "cannot open" in command.fails(FAILED, "package", "push", tmp_path / "no", "--title", "x", "--version", "1")
    assert "is not a file" in command.fails(FAILED, "package", "push", tmp_path, "--title", "x", "--version", "1")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert "is empty" in command.fails(FAILED, "package", "push", empty, "--title", "x", "--version", "1")
    device = management.device(management.profile())
    assert "never had a FIRMWARE update" in command.fails(NOT_FOUND, "update", "status", "--device", device["name"])
    assert "no checksum algorithm" in command.fails(USAGE, *push, "--checksum-algorithm", "ROT13")
    assert "nothing says which updates" in command.fails(USAGE, "update", "retry")

    url = host.url("management")
    wrong = CommandLine(windlass, url, WINDLASS_PASSWORD="wrong")
    assert "Invalid username or password" in wrong.fails(NOT_LOGGED_IN, "package", "list")
    nobody = CommandLine(windlass, url, WINDLASS_PASSWORD="")
    assert "WINDLASS_API_KEY" in nobody.fails(NOT_LOGGED_IN, "package", "list")
    key = CommandLine(windlass, url, WINDLASS_API_KEY="tb_nothing")
    key.fails(NOT_LOGGED_IN, "package", "list")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = CommandLine(windlass, "http://127.0.0.1:{}".format(closed.getsockname()[1]))
        assert "is the host running" in gone.fails(UNREACHABLE, "package", "list")
    assert "is no address of a host" in CommandLine(windlass, "localhost").fails(FAILED, "package", "list")


def test_the_password_may_be_in_a_file_and_the_user_an_option(windlass, host, tmp_path):
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    command = CommandLine(windlass, "http://nowhere.invalid", WINDLASS_USER="", WINDLASS_PASSWORD="")
    options = ["--server", host.url("management") + "/", "--user", ADMIN, "--password-file", file]
    assert isinstance(command.json("package", "list", *options), list)
    file.unlink()
    assert "cannot read the password" in command.fails(FAILED, "package", "list", *options)


@pytest.fixture
def recorder(tmp_path):
    """A server that answers as told and keeps what it was asked; over TLS."""
    asked = []
    answers = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, self.headers.get("X-Authorization"), body and json.loads(body)))
            status, answer = answers.get((self.command, self.path.partition("?")[0]), (200, {}))
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    authority = Authority(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server())
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_address[1]}", authority.file, asked, answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_update_commands_ask_for(windlass, recorder):
    url, authority, asked, answers = recorder
    command = CommandLine(windlass, url, WINDLASS_API_KEY="tb_key", WINDLASS_CA_FILE=str(authority))
    device = {"id": {"entityType": "DEVICE", "id": "11111111-2222-3333-4444-555555555555"}, "name": "d"}
    answers["GET", "/api/tenant/device"] = (200, device)
    for order in ["cancel", "resend"]:
        answers["POST", f"/api/updates/{order}"] = (200, {"devices": 3})
    answers["GET", "/api/updates/count"] = (200, {"QUEUED": 1, "FAILED": 2})
    answers["GET", "/api/updates"] = (200, {"data": [{"deviceName": "d", "state": "FAILED"}], "hasNext": False})

    assert command.run("update", "retry", "--device", "d").stdout == "retried the update of 'd'\n"
    order = "/api/device/11111111-2222-3333-4444-555555555555/update/FIRMWARE/retry"
    assert asked == [
        ("GET", "/api/tenant/device?deviceName=d", "ApiKey tb_key", b""), ("POST", order, "ApiKey tb_key", {}),
    ]
    asked.clear()
    cancel = command.run("update", "cancel", "--state", "queued", "--state", "initiated", "--type", "software", "--yes")
    assert cancel.stdout == "cancelled the updates of 3 devices\n"
    body = {"type": "SOFTWARE", "states": ["QUEUED", "INITIATED"]}
    assert asked == [("POST", "/api/updates/cancel", "ApiKey tb_key", body)]
    command.run("update", "cancel", "--all", "--yes")
    assert asked[-1][1:] == ("/api/updates/cancel", "ApiKey tb_key", {"all": True})
    asked.clear()
    command.fails(UNCONFIRMED, "update", "resend", "--all", "--include-updated")
    body = {"all": True, "includeUpdated": True}
    assert asked == [("POST", "/api/updates/resend?dryRun=true", "ApiKey tb_key", body)]

    assert command.json("update", "status", "--package", "p") == {"QUEUED": 1, "FAILED": 2}
    assert asked[-1][1] == "/api/updates/count?packageId=p"
    assert command.run("update", "status").stdout.split() == ["STATE", "UPDATES", "QUEUED", "1", "FAILED", "2"]
    assert command.json("update", "status", "--list", "--state", "FAILED") == [{"deviceName": "d", "state": "FAILED"}]
    assert asked[-1][1].startswith("/api/updates?state=FAILED&pageSize=")

    answers["POST", "/api/updates/cancel"] = (409, {"message": "nothing to cancel"})
    assert "nothing to cancel" in command.fails(FAILED, "update", "cancel", "--all")
    answers["POST", "/api/updates/cancel"] = (403, {"message": "you may not"})
    assert "you may not" in command.fails(NOT_LOGGED_IN, "update", "cancel", "--all")
    answers["POST", "/api/updates/cancel"] = (503, {"message": "shutting down"})
    assert "shutting down" in command.fails(UNREACHABLE, "update", "cancel", "--all")
    distrustful = CommandLine(windlass, url, WINDLASS_API_KEY="tb_key")
    assert "cannot reach" in distrustful.fails(UNREACHABLE, "package", "list")


def test_push_does_not_hold_the_file_in_memory(windlass, host, management, tmp_path):
    file = tmp_path / "big.bin"
    size = 192 << 20
    with file.open("wb") as out:
        out.truncate(size)
    command = CommandLine(windlass, host.url("management"))
    script = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    arguments = ["package", "push", file, "--title", unique("big"), "--version", "1", "--format", "json"]
    result = subprocess.run(
        ["python3", "-c", script, windlass, *map(str, arguments)],
        capture_output=True, text=True, timeout=180, env=command.environment,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["dataSize"] == size
    assert int(result.stderr.split()[-1]) * 1024 < size * 3 // 4
