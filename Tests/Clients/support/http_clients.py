"""HTTP clients of several makes behind one face: each request is answered with status, header fields and body."""

import json
import shutil
import socket
import ssl
import subprocess
import urllib.parse

import requests

TIMEOUT = 60


class Reply:
    """What came back, whichever client brought it."""

    def __init__(self, status, fields, body):
        self.status = status
        self.fields = {name.lower(): value for name, value in fields}
        self.body = body

    def json(self):
        return json.loads(self.body)


class RequestsClient:
    """The library most Python devices use, with one keep-alive connection."""

    name = "requests"

    def __init__(self, base, authority):
        self.base = base
        self.session = requests.Session()
        # REQUESTS_CA_BUNDLE and proxies of the machine would go before what is asked for here.
        self.session.trust_env = False
        self.session.verify = str(authority)

    def request(self, method, path, body=None, fields=None):
        reply = self.session.request(method, self.base + path, data=body, headers=fields, timeout=TIMEOUT)
        return Reply(reply.status_code, reply.headers.items(), reply.content)

    def close(self):
        self.session.close()


class CurlClient:
    """The command-line tool, a process for each request, as shell scripts on devices use it."""

    name = "curl"
    command = shutil.which("curl")

    def __init__(self, base, authority):
        self.base = base
        self.options = ["--silent", "--show-error", "--max-time", str(TIMEOUT), "--cacert", str(authority)]

    def request(self, method, path, body=None, fields=None):
        arguments = ["--include"] if method != "HEAD" else ["--head"]
        if method == "POST":
            arguments += ["--data-binary", "@-"]
        for name, value in (fields or {}).items():
            arguments += ["--header", f"{name}: {value}"]
        answer = self.run(*arguments, self.base + path, data=body or b"")
        head, _, content = answer.partition(b"\r\n\r\n")
        # A client that asked whether to go on is told so first.
        while head.startswith(b"HTTP/1.1 100"):
            head, _, content = content.partition(b"\r\n\r\n")
        return parse(head, content)

    def run(self, *arguments, data=b""):
        """What curl writes; fails if curl does."""
        command = [self.command, *self.options, *arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=2 * TIMEOUT)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode} {done.stderr.decode()}"
        return done.stdout

    def close(self):
        pass


class SocketClient:
    """A socket and nothing else, as the smallest devices have it; one keep-alive connection."""

    name = "socket"

    def __init__(self, base, authority):
        url = urllib.parse.urlsplit(base)
        self.host = url.netloc
        self.socket = socket.create_connection((url.hostname, url.port), timeout=TIMEOUT)
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=str(authority))
            self.socket = context.wrap_socket(self.socket, server_hostname=url.hostname)
        self.buffer = b""

    def request(self, method, path, body=None, fields=None):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if method == "POST":
            lines.append(f"Content-Length: {len(body or b'')}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        while b"\r\n\r\n" not in self.buffer:
            self._receive()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        reply = parse(head, b"")
        length = 0 if method == "HEAD" or reply.status == 304 else int(reply.fields["content-length"])
        while len(self.buffer) < length:
            self._receive()
        reply.body, self.buffer = self.buffer[:length], self.buffer[length:]
        return reply

    def _receive(self):
        received = self.socket.recv(65536)
        assert received, f"the host closed the connection after {self.buffer[:200]}"
        self.buffer += received

    def close(self):
        self.socket.close()


def parse(head, body):
    status, *fields = head.decode().split("\r\n")
    return Reply(int(status.split(" ")[1]), [field.split(": ", 1) for field in fields], body)


CLIENTS = [RequestsClient, CurlClient, SocketClient]
