"""Plugins of a running host are replaced, and no device notices."""

import os
import shutil

import pytest

from support.data import sha256, some_bytes
from support.host import Host
from support.management import Management
from support.transfers import CHUNK, TRANSFERS

SIZE = 20 * CHUNK


@pytest.fixture
def installed(windlass, chain_files, tmp_path):
    """Makes hosts on an installation of the test's own; `temporary` is where they make temporary files."""
    folder = tmp_path / "installed"
    folder.mkdir()
    shutil.copy(windlass, folder)
    (folder / "libWindlassPlatform.so").symlink_to(windlass.parent / "libWindlassPlatform.so")
    for plugin in windlass.parent.glob("lib*Plugin.so"):
        shutil.copy(plugin, folder)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    hosts = []

    def make(**environment):
        own = tmp_path / f"host-{len(hosts)}"
        own.mkdir()
        hosts.append(Host(folder / "windlass", own, chain_files, {"TMPDIR": str(temporary), **environment}))
        return hosts[-1].start()

    yield make, folder, temporary
    for host in hosts:
        host.stop()


def overwrite(folder):
    """Overwrites all plugins in place, as `cp` does, once with less and once with other bytes."""
    plugins = list(folder.glob("lib*Plugin.so"))
    assert len(plugins) == 5
    for plugin in plugins:
        size = plugin.stat().st_size
        os.truncate(plugin, 0)
        with plugin.open("r+b") as file:
            file.write(os.urandom(size))


def downloads(host):
    """A download on each transport, by a new device."""
    management = Management(host)
    data = some_bytes(SIZE)
    profile = management.profile()
    package = management.package(profile, data)
    for transport in TRANSFERS:
        device = management.device(profile, firmwareId=package["id"])
        management.wait_for_offer(device, package)
        transfer = transport(host, device, package)
        assert sha256(b"".join(transfer.chunk(index) for index in range(SIZE // CHUNK))) == sha256(data)
        transfer.close()


def test_plugins_that_are_overwritten_in_place_do_not_end_the_host(installed):
    make, folder, temporary = installed
    host = make()
    overwrite(folder)
    downloads(host)
    host.stop()
    assert host.process.returncode == 0, host.log()[-2000:]
    assert list(temporary.iterdir()) == []


def test_copies_of_a_host_that_was_killed_are_removed_by_the_next_one(installed):
    make, folder, temporary = installed
    host = make()
    killed = list(temporary.iterdir())
    host.kill()
    assert len(killed) == 1 and len(list(killed[0].glob("*/libFlowNodesPlugin.so"))) >= 1, killed
    first, second = make(), make()
    kept = set(temporary.iterdir())
    assert len(kept) == 2 and killed[0] not in kept, "those of hosts that run stay"
    first.stop()
    second.stop()
    assert list(temporary.iterdir()) == []


def test_a_host_that_can_copy_nothing_loads_its_plugins_where_they_are_and_says_so(installed, tmp_path):
    make, folder, temporary = installed
    host = make(TMPDIR=str(tmp_path / "missing"))
    assert "plugins are loaded where they are" in host.log()
    downloads(host)
