"""Hostile peers do no harm: the device beside them is updated, memory stays bounded, and afterwards all is as before.

How long it takes beside them is measured by `Benchmarks/hostile.py`, on a machine that does nothing else.
"""

import os

import pytest

from support.data import sha256, some_bytes
from support.hostile_peers import Peers
from support.plain_device import UPDATES
from support.waiting import wait_until

SIZE = 100_001
VICTIMS = 12
# What the store opens the first time that so many read at once, and keeps: four connections with a file and its log each.
READER_FILES = 8
MEMORY_GROWTH_MAX = 150 << 20
CROWDS = {
    "slow loris": {"slow_http": 50, "slow_mqtt": 50},
    "half-open connections": {"half_open": 500},
    "clients that never read": {"never_reads": VICTIMS},
    "a flood": {"coap_flood": 300},
    "oversized and truncated": {"wrong": 30},
    "all of them": {
        "slow_http": 20, "slow_mqtt": 20, "half_open": 100, "never_reads": VICTIMS, "coap_flood": 100, "wrong": 10,
    },
}


@pytest.fixture(scope="module")
def fleet(host, management):
    """Devices with a package: one for each transport, and those that turn hostile."""
    data = some_bytes(SIZE)
    profile = management.profile()
    package = management.package(profile, data)
    devices = {name: management.device(profile, firmwareId=package["id"]) for name in UPDATES}
    victims = [management.device(profile, firmwareId=package["id"])["token"] for _ in range(VICTIMS)]
    return package, devices, victims, sha256(data)


def files(host):
    """How many files and connections the host has open."""
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))


def resident(host):
    """The host's resident memory, in bytes."""
    with open(f"/proc/{host.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def update_all(host, fleet):
    package, devices, _, digest = fleet
    for name, update in UPDATES.items():
        device = update(host.addresses, devices[name]["token"], package["title"], package["version"], SIZE)
        assert device.run() == digest, f"the package came over {name} with other bytes"


@pytest.mark.parametrize("name", CROWDS)
def test_a_device_beside_hostile_peers_is_updated_and_all_is_as_before(host, fleet, management, name):
    update_all(host, fleet)
    files_before, memory_before = files(host), resident(host)
    with Peers(CROWDS[name], host.addresses, fleet[2]):
        update_all(host, fleet)
        growth = resident(host) - memory_before
        assert growth < MEMORY_GROWTH_MAX, f"the host grew by {growth >> 20} MiB"
    wait_until(
        lambda: files(host) <= files_before + READER_FILES,
        lambda: f"the host to close what its peers left, it has {files(host)} files open and had {files_before}",
        seconds=60,
    )
    update_all(host, fleet)
    for device in fleet[1].values():
        assert management.latest(device, "fw_state") == {"fw_state": "UPDATED"}
