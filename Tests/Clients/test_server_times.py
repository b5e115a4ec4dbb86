"""Reports without a time of their own are all kept, however quickly they follow each other."""

import concurrent.futures
import json

import paho.mqtt.client as paho
import pytest
from aiocoap.numbers.codes import Code

from support.coap_device import CoAPDevice
from support.http_device import HTTPDevice
from support.mqtt_device import TELEMETRY, MQTTDevice

COUNT = 300


def over_mqtt(host, token):
    device = MQTTDevice(host, token, protocol=paho.MQTTv5)
    published = [device.client.publish(TELEMETRY, json.dumps({"n": number}), qos=1) for number in range(COUNT)]
    for one in published:
        one.wait_for_publish(timeout=20)
    assert all(one.is_published() for one in published)
    device.close()


def over_http(host, token):
    def report(numbers):
        device = HTTPDevice(host, token)
        for number in numbers:
            assert device.telemetry({"n": number}).status_code == 200
        device.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(report, [range(first, COUNT, 8) for first in range(8)]))


def over_coap(host, token):
    device = CoAPDevice(host, token)
    for number in range(COUNT):
        assert device.telemetry(json.dumps({"n": number}).encode()).code in (Code.CREATED, Code.CHANGED)
    device.close()


def in_one_array(host, token):
    device = HTTPDevice(host, token)
    assert device.telemetry([{"n": number} for number in range(COUNT)]).status_code == 200
    device.close()


@pytest.mark.bug("D1.4")
@pytest.mark.parametrize("report", [over_mqtt, over_http, over_coap, in_one_array])
def test_all_reports_without_a_time_are_kept(host, management, report):
    device = management.device(management.profile())
    report(host, device["token"])
    assert sorted(management.series(device, "n")) == list(range(COUNT))
