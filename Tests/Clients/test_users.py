"""Tenants, users, keys and the audit log, as ThingsBoard's clients and a plain one use them."""

import json
import subprocess

import pytest
import requests

from support.host import ADMIN
from support.management import TIMEOUT, Management
from support.waiting import wait_until

SYSTEM = "sysadmin@windlass.local"
SYSTEM_PASSWORD = "a password of the system administrator"


@pytest.fixture
def host_of_many(make_host):
    return make_host(WINDLASS_SYSADMIN_PASSWORD=SYSTEM_PASSWORD)


@pytest.mark.parametrize("version", ["4.3", "4.4"])
def test_tb_rest_client_looks_after_tenants_and_users(host_of_many, thingsboard_python, python, version):
    script = f"{__file__.rsplit('/', 1)[0]}/support/tb_users.py"
    interpreter = thingsboard_python if version == "4.3" else python
    run = subprocess.run(
        [interpreter, script, host_of_many.url("management"), SYSTEM, SYSTEM_PASSWORD],
        capture_output=True, text=True, timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    seen = json.loads(run.stdout.splitlines()[-1])
    admin, reader = f"admin-{version}@example.org", f"reader-{version}@example.org"
    by_key = {"read_by_key": "pump", "keys": ["pipeline"]} if version == "4.4" else {}
    assert seen == {
        "version": version,
        "authority": "SYS_ADMIN",
        "tenants": ["Tenant", "tenant " + version],
        "administrators": [admin],
        "of_tenant": True,
        "read": "pump",
        "refused": 403,
        "log_of_device": [["ADDED", "SUCCESS", admin]],
        "refused_and_logged": ["You don't have permission to perform this operation!"],
        "suspended": [reader],
        "logged": 1,
        "after_deletion": 401,
        **by_key,
    }


def test_a_key_and_the_log_outlive_the_process(host_of_many):
    management = Management(host_of_many)
    user = management.call("GET", "/api/auth/user").json()
    body = {"userId": user["id"], "description": "pipeline"}
    value = management.call("POST", "/api/apiKey", json=body).json()["value"]
    host_of_many.kill()
    host_of_many.start()
    url = host_of_many.url("management")
    headers = {"X-Authorization": f"ApiKey {value}"}
    made = requests.post(f"{url}/api/device", json={"name": "by key"}, headers=headers, timeout=TIMEOUT)
    assert made.status_code == 200, made.text
    query = {"pageSize": 100, "page": 0, "sortProperty": "createdTime", "sortOrder": "ASC"}
    log = requests.get(f"{url}/api/audit/logs", params=query, headers=headers, timeout=TIMEOUT).json()["data"]
    assert [(entry["actionType"], entry["entityName"]) for entry in log] == [
        ("LOGIN", None), ("ADDED", "pipeline"), ("ADDED", "by key"),
    ]
    assert {entry["userName"] for entry in log} == {ADMIN}
    assert value not in json.dumps(log)
    assert log[-1]["actionData"]["by"] == "API_KEY"


def test_the_audit_log_is_kept_within_its_limits(make_host):
    host = make_host(RETENTION_AUDIT_COUNT="3")
    management = Management(host)
    for number in range(5):
        management.call("POST", "/api/device", json={"name": f"device {number}"})
    host.stop()
    host.start()

    def names():
        log = management.call("GET", "/api/audit/logs", params={"pageSize": 100, "page": 0}).json()["data"]
        return [entry["entityName"] for entry in log]

    # The token of before is as good as ever: the secret of tokens is kept.
    wait_until(lambda: names() == ["device 4", "device 3", "device 2"], lambda: f"three entries, not {names()}")


@pytest.mark.parametrize(
    "variables, sentence",
    [
        ({"WINDLASS_SYSADMIN_USER": "root"}, "the system administrator 'root' has no password"),
        (
            {"WINDLASS_SYSADMIN_USER": ADMIN, "WINDLASS_SYSADMIN_PASSWORD": "x"},
            "cannot be both the system administrator and that of a tenant",
        ),
        (
            {"RETENTION_AUDIT_DAYS": "a week"},
            "the setting 'retention.audit.days' must be a whole number from 0 to 36500, not 'a week'",
        ),
    ],
)
def test_settings_that_cannot_be_are_told(make_host, variables, sentence):
    with pytest.raises(AssertionError, match="windlass ended with 1") as failure:
        make_host(**variables)
    assert sentence in str(failure.value)
