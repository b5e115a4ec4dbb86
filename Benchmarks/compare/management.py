"""What an administrator of a large fleet waits for: to assign a package, to look at pages of devices, to ask for those in a state."""
import shutil
import statistics
import time

import campaigns
import fleet
from processes import Windlass, wait_until

DEVICES = 100_000
PAGE = 100
CALLS = 20


def state_query(state, page_link=None):
    """The devices in a state of their update, as ThingsBoard's clients ask for them."""
    query = {
        "entityFilter": {"type": "entityType", "entityType": "DEVICE"},
        "keyFilters": [{
            "key": {"type": "TIME_SERIES", "key": "fw_state"}, "valueType": "STRING",
            "predicate": {
                "type": "STRING", "operation": "EQUAL", "ignoreCase": False,
                "value": {"defaultValue": state, "userValue": None, "dynamicValue": None},
            },
        }],
    }
    if page_link:
        query |= {
            "entityFields": [{"type": "ENTITY_FIELD", "key": "name"}],
            "latestValues": [{"type": "TIME_SERIES", "key": "fw_state"}],
            "pageLink": {"sortOrder": {"key": {"type": "ENTITY_FIELD", "key": "name"}, "direction": "ASC"}} | page_link,
        }
    return query


def calls(host, profile):
    """What is asked: a name, the request, and how many rows or devices the answer must tell of."""
    first, last = {"pageSize": PAGE, "page": 0}, {"pageSize": PAGE, "page": DEVICES // PAGE - 1}
    pages = [
        ("the first page", f"/api/tenant/devices?pageSize={PAGE}&page=0", DEVICES),
        ("the last page", f"/api/tenant/devices?pageSize={PAGE}&page={DEVICES // PAGE - 1}", DEVICES),
        ("the first page by name", f"/api/tenant/devices?pageSize={PAGE}&page=0&sortProperty=name&sortOrder=ASC", DEVICES),
        ("a search by text", f"/api/tenant/devices?pageSize={PAGE}&page=0&textSearch=0099", None),
        ("the first page of the profile", f"/api/tenant/deviceInfos?pageSize={PAGE}&page=0&deviceProfileId={profile}", DEVICES),
    ]
    for name, path, total in pages:
        yield name, ("GET", path, None), total
    for state, total in (("INITIATED", DEVICES), ("FAILED", 0)):
        yield f"the first page of those {state}", ("POST", "/api/entitiesQuery/find", state_query(state, first)), total
        yield f"how many are {state}", ("POST", "/api/entitiesQuery/count", state_query(state)), total
    yield "the last page of those INITIATED", ("POST", "/api/entitiesQuery/find", state_query("INITIATED", last)), DEVICES


def management(bench):
    bench.table.section(
        f"{DEVICES:,} devices of one profile: what an administrator waits for; one core, pages of {PAGE}",
        ("ms p50", "ms max", "peak MiB"),
    )
    data, package = campaigns.stocked(bench, DEVICES)
    with Windlass(data) as host:
        profile = host.call("GET", "/api/deviceProfileInfo/default")["id"]["id"]
        host.reset_peak()
        started = time.monotonic()
        host.assign(package)
        assigned = time.monotonic() - started
        if (count := fleet.count(data, campaigns.QUEUED)) != DEVICES:
            raise SystemExit(f"{count} of {DEVICES} devices are queued when the assignment is acknowledged")
        bench.table.row("to assign: all are QUEUED", "windlass", assigned * 1e3, assigned * 1e3, host.memory("VmHWM"))
        wait_until(lambda: fleet.count(data, campaigns.WAITING) == 0, "all devices to be told", 3600, 0.25)
        bench.table.row("to tell all of them", "windlass", None, (time.monotonic() - started) * 1e3, host.memory("VmHWM"))
        for name, (method, path, body), total in calls(host, profile):
            host.reset_peak()
            taken = []
            for _ in range(CALLS):
                began = time.monotonic()
                answer = host.call(method, path, body)
                taken.append((time.monotonic() - began) * 1e3)
            told = answer if isinstance(answer, int) else answer["totalElements"]
            if total is not None and told != total:
                raise SystemExit(f"{name}: {told} instead of {total}")
            bench.table.row(name, "windlass", statistics.median(taken), max(taken), host.memory("VmHWM"))
    shutil.rmtree(data)
