"""The servers that are measured: Windlass and its peers, each on loopback and on one core."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

# The checkout of these scripts, and the one whose host, plugins and chains are measured.
ROOT = pathlib.Path(__file__).resolve().parents[2]
MEASURED = pathlib.Path(os.environ.get("WINDLASS_ROOT", ROOT))
BINARY = pathlib.Path(os.environ.get("WINDLASS_BIN", MEASURED / ".build/release/windlass"))
ADMIN = ("admin@example.org", "a password for one run")
SERVER_CORE, LOAD_CORE = {0}, {1}
START_SECONDS_MAX = 300


def on(cores):
    """Binds a new process to cores."""

    def prepare():
        os.sched_setaffinity(0, cores)

    return prepare


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connects(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, what, seconds=START_SECONDS_MAX, pause=0.02):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(pause)
    return result


class Server:
    """A process, ended with the `with` block."""

    def __init__(self, command, cores=SERVER_CORE, **options):
        self.process = subprocess.Popen(command, preexec_fn=on(cores), stdin=subprocess.DEVNULL, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, end=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(end)
        self.process.wait(timeout=60)

    @property
    def pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid] + [int(child) for child in children]

    def memory(self, name="VmRSS"):
        """A figure of /proc/PID/status, in MiB, of all its processes."""
        total = 0
        for pid in self.pids:
            for line in open(f"/proc/{pid}/status"):
                if line.startswith(name + ":"):
                    total += int(line.split()[1])
        return total / 1024

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


class Windlass(Server):
    """A host with the chain that ships, on free ports."""

    def __init__(self, data, chains=MEASURED / "chains", plugins=(), cores=SERVER_CORE, **environment):
        environment = os.environ | {
            "HTTP_PORT": "0", "MQTT_PORT": "0", "COAP_PORT": "0", "DEVICE_HOST": "127.0.0.1",
            "WINDLASS_ADMIN_USER": ADMIN[0], "WINDLASS_ADMIN_PASSWORD": ADMIN[1], "OTA_PUSH_INTERVAL_MS": "0",
        } | environment
        command = [BINARY, "serve", "--data", str(data), "--chains", str(chains), "--management", "127.0.0.1:0"]
        command += ["--log-level", "error"]
        for folder in plugins:
            command += ["--plugins", str(folder)]
        started = time.monotonic()
        super().__init__(command, cores, env=environment, stdout=subprocess.PIPE, text=True)
        self.ports = {}
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.strip() == "ready":
                break
            if line.startswith("listening "):
                scheme, _, address = line.removeprefix("listening ").strip().partition("://")
                self.ports[scheme] = int(address.rpartition(":")[2])
        else:
            raise SystemExit("the host did not become ready: " + "\n".join(self.lines))
        self.start_seconds = time.monotonic() - started
        self._token = None

    def call(self, method, path, body=None, content_type="application/json"):
        """Calls the management API as administrator."""
        if self._token is None and path != "/api/auth/login":
            login = {"username": ADMIN[0], "password": ADMIN[1]}
            self._token = self.call("POST", "/api/auth/login", login)["token"]
        data = json.dumps(body).encode() if content_type == "application/json" and body is not None else body
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['management']}{path}", data, method=method)
        request.add_header("Content-Type", content_type)
        if self._token:
            request.add_header("X-Authorization", "Bearer " + self._token)
        try:
            with urllib.request.urlopen(request, timeout=600) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error
        return json.loads(text) if text else None

    def profile(self, name):
        """Makes a profile; returns its identifier."""
        body = {"name": name, "type": "DEFAULT", "transportType": "DEFAULT"}
        return self.call("POST", "/api/deviceProfile", body)["id"]["id"]

    def default_profile(self):
        return self.call("GET", "/api/deviceProfileInfo/default")["id"]["id"]

    def upload(self, file, profile=None, title="firmware"):
        """Makes a package of a file, for the default profile unless another is named; returns it."""
        package = self.call(
            "POST", "/api/otaPackage",
            {
                "title": title, "version": "1", "type": "FIRMWARE",
                "deviceProfileId": {"entityType": "DEVICE_PROFILE", "id": profile or self.default_profile()},
            },
        )
        body = (
            b'--edge\r\nContent-Disposition: form-data; name="file"; filename="firmware.bin"\r\n'
            b"Content-Type: application/octet-stream\r\n\r\n" + file.read_bytes() + b"\r\n--edge--\r\n"
        )
        path = f"/api/otaPackage/{package['id']['id']}?checksumAlgorithm=SHA256"
        self.call("POST", path, body, "multipart/form-data; boundary=edge")
        return package

    def assign(self, package, profile=None, priority=None):
        """Assigns a package to a profile, the default one unless another is named, and so to all its devices."""
        now = self.call("GET", f"/api/deviceProfile/{profile or self.default_profile()}")
        now["firmwareId"] = package["id"]
        self.call("POST", "/api/deviceProfile" + (f"?priority={priority}" if priority is not None else ""), now)


class Nginx(Server):
    package, program = "nginx-light", "nginx"

    def __init__(self, folder, workers=1, cores=SERVER_CORE, tls=None):
        self.port = free_port()
        listen = f"listen 127.0.0.1:{self.port}{' ssl' if tls else ''};"
        if tls:
            listen += f" ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]}; ssl_protocols TLSv1.3;"
        temporary = " ".join(
            f"{name}_temp_path {folder}/temp-{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.getuid() == 0 else ""
        configuration = folder / "nginx.conf"
        configuration.write_text(f"""{user}
            daemon off; worker_processes {workers}; pid {folder}/nginx.pid; error_log stderr error;
            events {{ worker_connections 4096; }}
            http {{
              access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
              open_file_cache max=100; {temporary}
              server {{ {listen} root {folder}; }}
            }}
        """)
        super().__init__([self.program, "-e", "stderr", "-p", str(folder), "-c", str(configuration)], cores)
        wait_until(lambda: connects(self.port), "nginx")


class Mosquitto(Server):
    package, program = "mosquitto", "mosquitto"

    def __init__(self, folder, tls=None):
        self.port = free_port()
        text = f"listener {self.port} 127.0.0.1\nallow_anonymous true\nlog_type error\nset_tcp_nodelay true\n"
        if tls:
            text += f"certfile {tls[0]}\nkeyfile {tls[1]}\ntls_version tlsv1.3\n"
        if os.getuid() == 0:
            text += "user root\n"
        configuration = folder / "mosquitto.conf"
        configuration.write_text(text)
        super().__init__([self.program, "-c", str(configuration)], stderr=subprocess.DEVNULL)
        wait_until(lambda: connects(self.port), "mosquitto")


class LibCoAP(Server):
    package, program = "libcoap3-bin", "coap-server-notls"

    def __init__(self, folder, file):
        self.port = free_port(socket.SOCK_DGRAM)
        # Lets clients make resources, by PUT.
        super().__init__([self.program, "-A", "127.0.0.1", "-p", str(self.port), "-d", "4"], cwd=folder)
        address = f"coap://127.0.0.1:{self.port}/{file.name}"
        put = ["coap-client-notls", "-B", "10", "-m", "put", "-b", "1024", "-f", str(file), address]
        wait_until(lambda: subprocess.run(put, capture_output=True).returncode == 0, "coap-server")


def installed(peer):
    """Whether a peer can be measured; services are in folders that are not on everyone's PATH."""
    path = os.environ["PATH"]
    if "/usr/sbin" not in path.split(":"):
        os.environ["PATH"] = path + ":/usr/sbin:/usr/local/sbin"
    return shutil.which(peer.program) is not None
