"""Somebody with the key and the secret of a profile becomes a device."""

import concurrent.futures
import string

import pytest
import requests

from support.http_device import TIMEOUT, HTTPDevice
from support.management import unique
from support.mqtt_device import MQTTDevice


def provisioning_profile(management, kind):
    """A profile that provisions devices, with key and secret made by the host."""
    body = {"name": unique("profile"), "type": "DEFAULT", "transportType": "DEFAULT", "provisionType": kind}
    profile = management.call("POST", "/api/deviceProfile", json=body).json()
    secret = profile["profileData"]["provisionConfiguration"]["provisionDeviceSecret"]
    return profile, {"provisionDeviceKey": profile["provisionDeviceKey"], "provisionDeviceSecret": secret}


def provision(host, body, status=200):
    reply = requests.post(f"{host.url('http')}/api/v1/provision", json=body, timeout=TIMEOUT)
    assert reply.status_code == status, reply.text
    return reply.json()


FAILURE = {"errorMsg": "Failed to provision device!", "status": "FAILURE"}
NOT_FOUND = {"errorMsg": "Provision data was not found!", "status": "NOT_FOUND"}


def test_a_device_makes_itself_and_works(host, management):
    profile, secrets = provisioning_profile(management, "ALLOW_CREATE_NEW_DEVICES")
    name = unique("self-made")
    answer = provision(host, {"deviceName": name, **secrets})
    token = answer.pop("credentialsValue")
    assert answer == {"credentialsType": "ACCESS_TOKEN", "status": "SUCCESS"}
    assert HTTPDevice(host, token).telemetry({"a": 1}).status_code == 200
    made = management.call("GET", "/api/tenant/device", params={"deviceName": name}).json()
    assert made["deviceProfileId"] == profile["id"]
    assert management.attributes(made, "SERVER_SCOPE")["provisionState"] == "provisioned"
    assert provision(host, {"deviceName": name, **secrets}) == FAILURE


def test_a_device_without_a_name_gets_one_and_a_gateway_is_one(host, management):
    profile, secrets = provisioning_profile(management, "ALLOW_CREATE_NEW_DEVICES")
    provision(host, {"gateway": True, **secrets})
    page = management.call(
        "GET", "/api/tenant/deviceInfos",
        params={"pageSize": 10, "page": 0, "deviceProfileId": profile["id"]["id"]},
    ).json()
    [made] = page["data"]
    assert len(made["name"]) == 20 and set(made["name"]) <= set(string.ascii_letters + string.digits)
    assert made["additionalInfo"] == {"gateway": True}


def test_a_device_brings_its_own_mqtt_credentials(host, management):
    _, secrets = provisioning_profile(management, "ALLOW_CREATE_NEW_DEVICES")
    wanted = {"clientId": unique("client"), "username": unique("user"), "password": "p"}
    answer = provision(host, {"deviceName": unique("d"), "credentialsType": "MQTT_BASIC", **wanted, **secrets})
    value = {"clientId": wanted["clientId"], "userName": wanted["username"], "password": "p"}
    assert answer == {"credentialsValue": value, "credentialsType": "MQTT_BASIC", "status": "SUCCESS"}
    token = unique("token")
    answer = provision(host, {"deviceName": unique("d"), "credentialsType": "ACCESS_TOKEN", "token": token, **secrets})
    assert answer["credentialsValue"] == token
    client = MQTTDevice(host, token)
    client.telemetry({"a": 1})
    client.close()
    # The token is taken: nothing is made.
    name = unique("d")
    assert provision(host, {"deviceName": name, "token": token, **secrets}) == FAILURE
    management.call("GET", "/api/tenant/device", params={"deviceName": name}, status=(404,))


def test_a_device_that_was_made_before_gets_its_credentials_once(host, management):
    profile, secrets = provisioning_profile(management, "CHECK_PRE_PROVISIONED_DEVICES")
    device = management.device(profile)
    assert provision(host, {"deviceName": unique("unknown"), **secrets}) == FAILURE
    answer = provision(host, {"deviceName": device["name"], **secrets})
    assert answer["credentialsValue"] == device["token"]
    assert provision(host, {"deviceName": device["name"], **secrets}) == FAILURE


@pytest.mark.parametrize("wrong", ["provisionDeviceKey", "provisionDeviceSecret"])
def test_both_secrets_must_be_there_and_right(host, management, wrong):
    _, secrets = provisioning_profile(management, "ALLOW_CREATE_NEW_DEVICES")
    name = unique("d")
    assert provision(host, {"deviceName": name, **secrets, wrong: "wrong"}) == NOT_FOUND
    provision(host, {"deviceName": name, **secrets, wrong: None}, status=400)
    management.call("GET", "/api/tenant/device", params={"deviceName": name}, status=(404,))
    # Neither the key nor the secret is for the log.
    assert not [secret for secret in secrets.values() if secret in host.log()]


def test_of_many_that_want_one_name_one_gets_it(host, management):
    _, secrets = provisioning_profile(management, "ALLOW_CREATE_NEW_DEVICES")
    body = {"deviceName": unique("d"), **secrets}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: provision(host, body), range(32)))
    assert [answer["status"] for answer in answers].count("SUCCESS") == 1
    assert all(answer["status"] == "SUCCESS" or answer == FAILURE for answer in answers)
