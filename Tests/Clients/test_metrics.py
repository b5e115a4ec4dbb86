"""What a host tells those who watch it: metrics that Prometheus' own parser reads, and health."""

import pytest
import requests

from support.data import some_bytes
from support.http_device import HTTPDevice
from support.management import Management
from support.metrics import metrics, total
from support.mqtt_device import MQTTDevice
from support.waiting import wait_until


def test_an_update_is_seen_in_the_metrics(make_host):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    data = some_bytes(50_000)
    package = management.package(profile, data)
    device = management.device(profile)
    before = metrics(host)
    management.assign_to_device(device, package)
    management.wait_for_offer(device, package)
    http = HTTPDevice(host, device["token"])
    assert http.firmware(package["title"], package["version"]).content == data
    assert requests.get(f"{host.url()}/api/v1/nobody/attributes", timeout=30).status_code == 401
    mqtt = MQTTDevice(host, device["token"])
    mqtt.telemetry({"fw_state": "DOWNLOADING"})

    # Counts of tables may be some seconds old.
    after = wait_until(
        lambda: (lambda now: total(now, "windlass_updates", state="DOWNLOADING") == 1 and now)(metrics(host)),
        "the update to be counted", seconds=30,
    )

    def grown(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    assert total(after, "windlass_updates", type="FIRMWARE") == 1
    assert total(after, "windlass_devices") == 1
    assert grown("windlass_transport_requests_total", transport="http") >= 2
    assert grown("windlass_transport_refused_requests_total", transport="http") == 1
    assert grown("windlass_transport_sent_bytes_total", transport="http") >= len(data)
    assert total(after, "windlass_transport_open_connections", transport="mqtt") == 1
    assert grown("windlass_transport_connections_total", transport="mqtt") == 1
    assert grown("windlass_transport_received_bytes_total", transport="mqtt") > 0
    assert total(after, "windlass_listening_devices") == 1
    assert grown("windlass_node_started_total", node="http") >= 1
    assert grown("windlass_node_started_total", node="mqtt") >= 1
    assert grown("windlass_link_messages_total") >= 3
    assert grown("windlass_node_messages_total") >= 3
    assert total(after, "windlass_node_seconds_count") > 0
    assert grown("windlass_store_writes_total") >= 2
    assert grown("windlass_store_commit_seconds_count") >= 2
    assert total(after, "process_resident_memory_bytes") > 1 << 20
    mqtt.close()
    wait_until(
        lambda: total(metrics(host), "windlass_transport_open_connections", transport="mqtt") == 0,
        "the connection to be closed",
    )


def test_no_number_is_made_for_each_device(make_host):
    host = make_host()
    management = Management(host)
    profile = management.profile()
    before = metrics(host).keys()
    for _ in range(20):
        device = management.device(profile)
        assert HTTPDevice(host, device["token"]).telemetry({"fw_state": "DOWNLOADING"}).status_code == 200
    assert metrics(host).keys() == before


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_health_needs_no_login(host, path):
    reply = requests.get(host.url("management") + path, timeout=30)
    assert reply.status_code == 200
    assert reply.json()["live"] is True
    if path != "/livez":
        assert reply.json() == {
            "live": True, "ready": True, "parts": {"chains": True, "disk": True, "store": True},
        }
