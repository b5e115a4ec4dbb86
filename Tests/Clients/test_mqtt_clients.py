"""MQTT clients of several makes carry out one and the same update."""

import math
import threading
import uuid

import pytest

from support.certificates import Authority
from support.data import sha256, some_bytes
from support.host import Host
from support.management import Management
from support.mqtt_clients import Endpoint, Gmqtt, Mosquitto, Paho
from support.waiting import wait_until

SIZE = 50_001
CHUNK = 4_096

# Make, scheme, version of MQTT.
CLIENTS = [
    (Paho, "mqtt", 3), (Paho, "mqtt", 5), (Paho, "mqtts", 5), (Paho, "ws", 3), (Paho, "ws", 5), (Paho, "wss", 5),
    (Gmqtt, "mqtt", 5), (Gmqtt, "mqtts", 5),
    (Mosquitto, "mqtt", 3), (Mosquitto, "mqtt", 5), (Mosquitto, "mqtts", 5),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_host(windlass, chain_files, tmp_path_factory, authority):
    """A host with all four ports for MQTT."""
    certificate, key = authority.server()
    environment = {
        "MQTTS_PORT": "0",
        "MQTT_WS_PORT": "0",
        "MQTT_WSS_PORT": "0",
        "TLS_CERTIFICATE_FILE": str(certificate),
        "TLS_PRIVATE_KEY_FILE": str(key),
    }
    host = Host(windlass, tmp_path_factory.mktemp("host"), chain_files, environment).start()
    yield host
    host.stop()


@pytest.mark.parametrize(("make", "scheme", "version"), CLIENTS)
def test_a_client_carries_out_an_update(tls_host, authority, make, scheme, version):
    management = Management(tls_host)
    data = some_bytes(SIZE)
    profile = management.profile()
    package = management.package(profile, data)
    device = management.device(profile)
    client = make(Endpoint(tls_host, scheme, device["token"], authority.file, version))

    # Attributes, pushed and asked for.
    update = client.pushed(lambda: management.assign_to_device(device, package))
    assert update["fw_title"] == package["title"]
    shared = client.attributes("fw_size", "fw_checksum")
    assert shared == {"fw_size": SIZE, "fw_checksum": sha256(data)}

    # Telemetry at each quality of service.
    for qos in (0, 1, 2):
        client.telemetry({f"qos{qos}": qos}, qos)
        wait_until(lambda: management.latest(device, f"qos{qos}"), f"the telemetry of QoS {qos}")

    # Calls, both ways.
    assert client.call("getSessionLimits")["maxPayloadSize"] == 65_536
    answers = []

    def call():
        path = f"/api/plugins/rpc/twoway/{device['id']['id']}"
        answers.append(management.call("POST", path, json={"method": "reboot", "params": {"in": 5}}).json())

    caller = threading.Thread(target=call)
    asked = client.answering(caller.start, {"ok": True})
    caller.join()
    assert asked == {"method": "reboot", "params": {"in": 5}}
    assert answers == [{"ok": True}]

    # The update, up to its report.
    client.telemetry({"fw_state": "DOWNLOADING"}, 1)
    got = b"".join(client.chunk(1, index, CHUNK) for index in range(math.ceil(SIZE / CHUNK)))
    assert sha256(got) == shared["fw_checksum"]
    for state in ("DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"):
        client.telemetry({"fw_state": state, "current_fw_version": "1.0.0"}, 1)
    wait_until(lambda: management.record(device)["state"] == "UPDATED", "the record to say UPDATED")

    # A session that is kept while the client is away.
    name = uuid.uuid4().hex
    path = f"/api/plugins/telemetry/DEVICE/{device['id']['id']}/SHARED_SCOPE"
    assert client.away(lambda: management.call("POST", path, json={"name": name})) == {"name": name}
    client.close()
