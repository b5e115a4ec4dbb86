"""Two CoAP clients of different makes behind one face, for tests that both must pass: aiocoap, and coap-client of libcoap.

Both do what they do by themselves: message layer, block-wise transfer, observation.
"""

import asyncio
import contextlib
import json
import pathlib
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.parse

import aiocoap
from aiocoap.numbers.codes import Code

SECONDS = 60
# Debian calls it after the TLS library that it was built with.
COAP_CLIENT = shutil.which("coap-client") or shutil.which("coap-client-notls")


class Answer:
    """The code as the documents write it, and the body."""

    def __init__(self, code, payload):
        self.code = code
        self.payload = payload

    def json(self):
        return json.loads(self.payload)

    def __repr__(self):
        return f"{self.code} {self.payload[:200]!r}"


class AioCoAP:
    """aiocoap, on an event loop in a thread of its own."""

    def __init__(self, address):
        self.uri = "coap://{}:{}".format(*address)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.context = self._wait(aiocoap.Context.create_client_context())

    def _wait(self, coroutine, seconds=SECONDS):
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, seconds), self.loop).result()

    def _message(self, code, path, query=(), payload=b""):
        message = aiocoap.Message(code=code, uri=self.uri, payload=payload)
        message.opt.uri_path = tuple(path)
        message.opt.uri_query = tuple(query)
        return message

    def _request(self, message, **arguments):
        async def answer():
            return await self.context.request(message, **arguments).response

        return self._wait(answer())

    def get(self, path, *query):
        answer = self._request(self._message(Code.GET, path, query))
        return Answer(answer.code.dotted, answer.payload)

    def post(self, path, body, szx=None):
        """Posts; a body that is too large for one message goes in blocks, whatever `szx` is."""
        answer = self._request(self._message(Code.POST, path, payload=body))
        return Answer(answer.code.dotted, answer.payload)

    def download(self, path, szx, *query):
        """All blocks of this size."""
        data = b""
        number = 0
        while True:
            message = self._message(Code.GET, path, query)
            message.opt.block2 = (number, False, szx)
            answer = self._request(message, handle_blockwise=False)
            assert answer.code == Code.CONTENT, answer
            assert answer.opt.block2.size_exponent == szx and answer.opt.block2.block_number == number
            data += answer.payload
            number += 1
            if not answer.opt.block2.more:
                return data

    @contextlib.contextmanager
    def observe(self, path):
        """Observes a resource; what is told, the first answer too, can be taken off the queue."""
        told = queue.Queue()

        async def run():
            message = self._message(Code.GET, path)
            message.opt.observe = 0
            request = self.context.request(message)
            answer = await request.response
            told.put(Answer(answer.code.dotted, answer.payload))
            async for notification in request.observation:
                told.put(Answer(notification.code.dotted, notification.payload))

        running = asyncio.run_coroutine_threadsafe(run(), self.loop)
        try:
            yield told
        finally:
            running.cancel()

    def close(self):
        self._wait(self.context.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class LibCoAP:
    """coap-client, a process for each request; what it got is in what it logs."""

    RECEIVED = re.compile(r"^v:1 t:(?:ACK|CON|NON) c:([245]\.\d\d) ", re.MULTILINE)

    def __init__(self, address):
        self.uri = "coap://{}:{}".format(*address)

    def _target(self, path, query=()):
        target = self.uri + "/" + "/".join(urllib.parse.quote(segment, safe="") for segment in path)
        return target + ("?" + "&".join(urllib.parse.quote(text, safe="=,") for text in query) if query else "")

    def _request(self, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "body"
            run = subprocess.run(
                [COAP_CLIENT, "-v", "7", "-B", str(SECONDS), "-o", str(file), *arguments],
                capture_output=True, text=True, errors="replace", timeout=SECONDS + 30,
            )
            codes = self.RECEIVED.findall(run.stdout)
            assert run.returncode == 0 and codes, run.stdout + run.stderr
            # The body of an error is not written to the file, but told.
            refusal = re.match(r"[45]\.\d\d ?(.*)", run.stderr.strip(), re.DOTALL)
            body = file.read_bytes() if file.exists() else b""
            return Answer(codes[-1], refusal[1].encode() if refusal else body)

    def get(self, path, *query):
        return self._request("-m", "get", self._target(path, query))

    def post(self, path, body, szx=None):
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            block = [] if szx is None else ["-b", str(16 << szx)]
            return self._request("-m", "post", *block, "-t", "json", "-f", file.name, self._target(path))

    def download(self, path, szx, *query):
        answer = self._request("-m", "get", "-b", str(16 << szx), self._target(path, query))
        assert answer.code == "2.05", answer
        return answer.payload

    @contextlib.contextmanager
    def observe(self, path):
        """What is told comes as lines; an answer without a body, as the first one to who observes calls, as an empty one."""
        told = queue.Queue()
        command = ["stdbuf", "-oL", COAP_CLIENT, "-v", "7", "-s", str(SECONDS), self._target(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        pattern = re.compile(r"^v:1 t:(?:ACK|CON|NON) c:([245]\.\d\d) .*?\](?: :: '(.*)')?$")

        def read():
            for line in process.stdout:
                match = pattern.match(line.rstrip("\n"))
                if match:
                    told.put(Answer(match[1], (match[2] or "").encode()))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield told
        finally:
            process.kill()
            process.wait()
            reader.join()

    def close(self):
        pass


CLIENTS = [AioCoAP, LibCoAP]
