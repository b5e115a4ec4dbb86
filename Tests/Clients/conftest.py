"""What the tests of real clients share: hosts that run, and logins at them.

`WINDLASS_BIN` names the executable; its plugins lie beside it. `WINDLASS_THINGSBOARD_PYTHON` names the interpreter of
the environment of `requirements-thingsboard.txt`, and `WINDLASS_SCHEMATHESIS` the command of that of
`requirements-schemathesis.txt`. `Tests/Clients/run` sets all of them.
"""

import os
import pathlib
import re
import shutil
import sys

import pytest

from support.host import Host
from support.management import Management


ERROR = re.compile(r"\b(error|critical) windlass:")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--crash-rounds", type=int, default=3, help="how often a host is killed under load (test_crash.py)")
    parser.addoption("--crash-seed", type=int, default=None, help="what decides when; printed by a run that fails")


@pytest.fixture(scope="session")
def windlass():
    """The executable."""
    binary = pathlib.Path(os.environ.get("WINDLASS_BIN", ROOT / ".build/debug/windlass"))
    if not binary.exists():
        pytest.exit(f"there is no {binary}; run 'swift build', or name another with WINDLASS_BIN", returncode=2)
    return binary.resolve()


@pytest.fixture(scope="session")
def chain_files():
    """The folder of chain files that ships."""
    return pathlib.Path(os.environ.get("WINDLASS_CHAINS", ROOT / "chains"))


@pytest.fixture(scope="session")
def thingsboard_python():
    """The interpreter that has tb-mqtt-client and tb-rest-client 4.3."""
    default = ROOT / ".build/clients/thingsboard/bin/python"
    python = pathlib.Path(os.environ.get("WINDLASS_THINGSBOARD_PYTHON", default))
    if not python.exists():
        pytest.fail(f"there is no {python}; run Tests/Clients/run, which makes it")
    return python


@pytest.fixture(scope="session")
def schemathesis():
    """The command that tests an API against its OpenAPI document."""
    command = pathlib.Path(os.environ.get("WINDLASS_SCHEMATHESIS", ROOT / ".build/clients/schemathesis/bin/schemathesis"))
    if not command.exists():
        pytest.fail(f"there is no {command}; run Tests/Clients/run, which makes it")
    return command


@pytest.fixture(scope="session")
def host(windlass, chain_files, tmp_path_factory):
    """A host for all tests that leave it as it is."""
    host = Host(windlass, tmp_path_factory.mktemp("host"), chain_files).start()
    yield host
    host.stop()
    # What devices and administrators do wrong is no error of the host's.
    errors = [line for line in host.log().splitlines() if ERROR.search(line)]
    assert not errors, "\n".join(errors[:20])


@pytest.fixture(scope="session")
def management(host):
    return Management(host)


@pytest.fixture
def make_host(windlass, chain_files, tmp_path):
    """Starts hosts of the test's own, with chain files that it may change; `chain` makes another text of that which ships."""
    hosts = []

    def make(*options, chain=None, **environment):
        folder = tmp_path / f"host-{len(hosts)}"
        folder.mkdir()
        chains = folder / "chains"
        shutil.copytree(chain_files, chains)
        if chain is not None:
            file = chains / "ota.xml"
            file.write_text(chain(file.read_text()))
        host = Host(windlass, folder, chains, environment, options)
        hosts.append(host)
        return host.start()

    yield make
    for host in hosts:
        host.stop()


@pytest.fixture(scope="session")
def python():
    """The interpreter that runs the tests."""
    return pathlib.Path(sys.executable)
