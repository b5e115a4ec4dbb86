"""Profiles that say over which transport, and on which MQTT topics, their devices come."""

import json

import pytest
import requests

from support.coap_device import CoAPDevice
from support.management import unique
from support.mqtt_device import MQTTDevice


@pytest.fixture
def device_of(management):
    """Makes a device of a profile with a transport of its own."""

    def make(kind, **configuration):
        body = {
            "name": unique("profile"), "type": "DEFAULT", "transportType": kind,
            "profileData": {
                "configuration": {"type": "DEFAULT"},
                "transportConfiguration": {"type": kind, **configuration},
            },
        }
        return management.device(management.call("POST", "/api/deviceProfile", json=body).json())

    return make


@pytest.mark.parametrize("kind", ["DEFAULT", "MQTT", "COAP", "LWM2M", "SNMP"])
def test_a_device_comes_over_the_transport_of_its_profile(host, device_of, kind):
    device = device_of(kind)
    # HTTP is for devices of any profile.
    reply = requests.get(f"{host.url()}/api/v1/{device['token']}/attributes", timeout=30)
    assert reply.status_code == 200
    mqtt = MQTTDevice(host, device["token"], subscriptions=())
    assert mqtt.reason.is_failure == (kind not in ("DEFAULT", "MQTT")), mqtt.reason
    mqtt.close()
    coap = CoAPDevice(host, device["token"])
    assert coap.telemetry(b'{"a":1}').code.dotted == ("2.01" if kind in ("DEFAULT", "COAP") else "5.00")
    coap.close()


def test_a_profile_has_mqtt_topics_of_its_own(host, management, device_of):
    topics = {"deviceTelemetryTopic": "plant/+/data", "deviceAttributesSubscribeTopic": "plant/news"}
    device = device_of("MQTT", **topics)
    mqtt = MQTTDevice(host, device["token"], subscriptions=("plant/news",))
    mqtt.publish("plant/7/data", {"temperature": 21})
    assert management.series(device, "temperature") == [21]
    path = f"/api/plugins/telemetry/DEVICE/{device['id']['id']}/SHARED_SCOPE"
    management.call("POST", path, json={"pace": 5})
    topic, payload = mqtt.receive()
    assert (topic, json.loads(payload)) == ("plant/news", {"pace": 5})
    mqtt.close()


def test_a_profile_with_a_topic_that_is_none_is_refused(management):
    body = {
        "name": unique("profile"), "transportType": "MQTT",
        "profileData": {"transportConfiguration": {"deviceTelemetryTopic": "plant/#/data"}},
    }
    reply = management.call("POST", "/api/deviceProfile", status=(400,), json=body).json()
    assert reply["message"].startswith("'deviceTelemetryTopic' is no filter of MQTT topics")
