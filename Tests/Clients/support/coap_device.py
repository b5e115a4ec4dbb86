"""A device that talks CoAP: one request at a time, each block and each repetition in the test's hands.

Encoding is aiocoap's; its own block-wise transfer is tested beside this in `test_downloads.py`.
"""

import itertools
import random
import socket
import time

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type

WAIT = 1.0
_tokens = itertools.count(random.randrange(1 << 30))


class CoAPDevice:
    def __init__(self, host, token):
        self.token = token
        self.address = host.addresses["coap"]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(self.address)
        self.message_id = random.randrange(1 << 16)

    def request(self, code, path, query=(), payload=b"", block=None, seconds=20.0):
        """Sends a confirmable request until it is answered, at most for so many seconds."""
        self.message_id = (self.message_id + 1) % (1 << 16)
        token = next(_tokens).to_bytes(4, "big")
        message = aiocoap.Message(code=code, payload=payload, _mid=self.message_id, _mtype=Type.CON, _token=token)
        message.opt.uri_path = tuple(path)
        message.opt.uri_query = tuple(query)
        if block is not None:
            message.opt.block2 = (block[0], False, block[1])
        datagram = message.encode()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = self._exchange(datagram, token, min(WAIT, deadline - time.monotonic()))
            if answer is not None:
                return answer
        raise TimeoutError(f"no answer from {self.address} within {seconds} s")

    def _exchange(self, datagram, token, seconds):
        end = time.monotonic() + seconds
        try:
            self.socket.send(datagram)
            while (left := end - time.monotonic()) > 0:
                self.socket.settimeout(left)
                answer = aiocoap.Message.decode(self.socket.recv(65536))
                if answer.mtype == Type.CON:
                    acknowledgement = aiocoap.Message(code=Code.EMPTY, _mid=answer.mid, _mtype=Type.ACK, _token=b"")
                    self.socket.send(acknowledgement.encode())
                if answer.token == token and answer.code != Code.EMPTY:
                    return answer
        except ConnectionRefusedError:
            # Nobody listens just now; wait as long as for a lost datagram.
            time.sleep(max(0, min(0.05, end - time.monotonic())))
        except socket.timeout:
            pass
        return None

    def telemetry(self, body, **arguments):
        return self.request(Code.POST, ("api", "v1", self.token, "telemetry"), payload=body, **arguments)

    def firmware(self, *query, block=None, **arguments):
        return self.request(Code.GET, ("fw", self.token), query, block=block, **arguments)

    def blocks(self, szx, *query, **arguments):
        """Fetches block by block; yields each answer."""
        for number in itertools.count():
            answer = self.firmware(*query, block=(number, szx), **arguments)
            yield answer
            if answer.code != Code.CONTENT or answer.opt.block2 is None or not answer.opt.block2.more:
                return

    def close(self):
        self.socket.close()
