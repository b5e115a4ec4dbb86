"""A windlass process with its data, its log and its addresses."""

import os
import re
import signal
import subprocess
import threading

from .waiting import wait_until

ADMIN = "admin@example.org"
PASSWORD = "a password for tests only"
LISTENING = re.compile(r"^listening (\w+)://(.+):(\d+)$")


class Host:
    """`windlass serve` on a folder of its own; may be killed and started again on the same data and the same ports."""

    def __init__(self, binary, folder, chains, environment=None, options=()):
        self.binary = binary
        self.folder = folder
        self.chains = chains
        self.options = options
        self.data = folder / "data"
        self.log_file = folder / "windlass.log"
        self.environment = {
            "DEVICE_HOST": "127.0.0.1",
            "OTA_PUSH_INTERVAL_MS": "0",
            "WINDLASS_ADMIN_USER": ADMIN,
            "WINDLASS_ADMIN_PASSWORD": PASSWORD,
            **(environment or {}),
        }
        self.addresses = {}
        self.process = None

    def start(self):
        """Starts the process and waits until it says that it is ready."""
        ports = {scheme: str(port) for scheme, (_, port) in self.addresses.items()}
        environment = {
            **os.environ,
            **self.environment,
            "HTTP_PORT": ports.get("http", "0"),
            "MQTT_PORT": ports.get("mqtt", "0"),
            "COAP_PORT": ports.get("coap", "0"),
        }
        command = [
            str(self.binary), "serve",
            "--data", str(self.data),
            "--chains", str(self.chains),
            "--plugins", str(self.binary.parent),
            "--management", f"127.0.0.1:{ports.get('management', '0')}",
            *self.options,
        ]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
        # The addresses of before stay known until the new ones are: devices go on trying them meanwhile.
        addresses = {}
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self.process, addresses, ready), daemon=True).start()
        wait_until(
            lambda: ready.is_set() or self.process.poll() is not None,
            lambda: f"'ready'; the log ends with:\n{self.log()[-2000:]}",
            seconds=30,
        )
        log = self.log()[-2000:]
        assert ready.is_set(), f"windlass ended with {self.process.returncode}; the log ends with:\n{log}"
        missing = {"http", "mqtt", "coap", "management"} - addresses.keys()
        assert not missing, f"windlass is ready but named no address for {sorted(missing)}"
        self.addresses = addresses
        return self

    def _read(self, process, addresses, ready):
        # Read to the end, so that the process never waits for a full pipe.
        with self.log_file.open("a") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                match = LISTENING.match(line.strip())
                if match:
                    addresses[match[1]] = (match[2].strip("[]"), int(match[3]))
                elif line.strip() == "ready":
                    ready.set()

    def log(self):
        """All that the process wrote so far, to both outputs."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def url(self, scheme="http"):
        host, port = self.addresses[scheme]
        return f"{'https' if scheme == 'https' else 'http'}://{host}:{port}"

    def kill(self):
        """Ends the process as a power cut would."""
        self.process.kill()
        self.process.wait(timeout=60)

    def stop(self):
        """Ends the process as a service manager would.

        It has five seconds, which the tests of the command line hold it to; a machine that builds something else meanwhile
        is no reason for every other test to fail.
        """
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("windlass did not end within 60 s of SIGTERM")

    def reload(self):
        """Tells the process to read its chain files anew."""
        self.process.send_signal(signal.SIGHUP)
