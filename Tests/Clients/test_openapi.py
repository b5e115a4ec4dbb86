"""The OpenAPI document is true: schemathesis asks all that it allows, and much that it does not."""

import re
import subprocess

import pytest
import requests

from support.management import Management

# The host ends the session that is asked to be ended, and all requests after it would be refused.
ENDS_THE_SESSION = "/api/auth/logout"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
SECONDS = 60
ERROR = re.compile(r"\b(error|critical) windlass:")


@pytest.fixture
def management(make_host):
    """A host of the test's own, as wrong passwords slow down all logins, with one entity of each kind: lists are not empty."""
    management = Management(make_host())
    profile = management.profile()
    device = management.device(profile)
    package = management.package(profile, b"the bytes of a package")
    management.assign_to_device(device, package)
    telemetry = f"/api/plugins/telemetry/DEVICE/{device['id']['id']}"
    management.call("POST", f"{telemetry}/SERVER_SCOPE", json={"a": 1, "b": [True], "c": "text"})
    management.call("POST", f"{telemetry}/timeseries/ANY", json={"t": 2.5, "u": {"v": None}})
    return management


def test_the_document_is_handed_out_without_login(host):
    documents = [
        requests.get(host.url("management") + path, timeout=30).json() for path in ("/openapi.json", "/v3/api-docs")
    ]
    assert documents[0] == documents[1]
    assert documents[0]["openapi"] == "3.1.0"
    assert "/api/otaPackage/{id}" in documents[0]["paths"]


@pytest.mark.timeout(SECONDS * 5)
def test_what_is_answered_is_what_the_document_says(management, schemathesis, tmp_path):
    host = management.host
    run = subprocess.run(
        [
            schemathesis, "run", f"{host.url('management')}/openapi.json",
            "--header", f"X-Authorization: Bearer {management.token}",
            "--checks", ",".join(CHECKS),
            "--exclude-path", ENDS_THE_SESSION,
            "--phases", "examples,coverage,fuzzing",
            "--max-examples", "15",
            "--max-time", str(SECONDS),
            "--request-timeout", "30",
            # The same requests in every run, and no file of its own between runs.
            "--seed", "1", "--generation-database", "none",
            "--suppress-health-check", "all",
            "--continue-on-failure", "--warnings", "off", "--no-color",
        ],
        capture_output=True, text=True, timeout=SECONDS * 4, cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
    errors = [line for line in host.log().splitlines() if ERROR.search(line)]
    assert not errors, "\n".join(errors[:20])
