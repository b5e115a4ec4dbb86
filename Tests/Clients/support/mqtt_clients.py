"""MQTT clients of several makes, each with the same few things that a device does.

A client that is made is connected and listens for attribute updates and calls.
"""

import asyncio
import json
import queue
import ssl
import subprocess
import threading
import uuid

import gmqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TIMEOUT = 30
SHARED = "v1/devices/me/attributes"
CALLS = "v1/devices/me/rpc/request/+"
FILTERS = (SHARED, f"{SHARED}/response/+", CALLS, "v1/devices/me/rpc/response/+", "v2/fw/response/+")
SESSION_SECONDS = 600


class Endpoint:
    """Where and how to connect, and as whom."""

    def __init__(self, host, scheme, token, certificate=None, version=5):
        self.address, self.port = host.addresses[scheme]
        self.is_tls = scheme in ("mqtts", "wss")
        self.is_websocket = scheme in ("ws", "wss")
        self.token = token
        self.certificate = certificate
        self.version = version


class Client:
    """What all clients do with messages; how these come and go is up to each make."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.client_id = f"client-{uuid.uuid4().hex[:12]}"
        self.requests = 0
        self.messages = queue.Queue()
        self.connect(is_clean=True)

    def receive(self, prefix):
        """The payload of the next message on a topic that begins so, with its topic."""
        while True:
            try:
                topic, payload = self.messages.get(timeout=TIMEOUT)
            except queue.Empty:
                raise TimeoutError(f"nothing came on {prefix}") from None
            if topic.startswith(prefix):
                return topic, payload

    def ask(self, topic, payload, answer):
        self.publish(topic, payload, 1)
        return self.receive(answer)[1]

    def telemetry(self, body, qos):
        self.publish("v1/devices/me/telemetry", json.dumps(body), qos)

    def attributes(self, *names):
        """Shared attributes, by request."""
        self.requests += 1
        payload = json.dumps({"sharedKeys": ",".join(names)})
        answer = self.ask(f"{SHARED}/request/{self.requests}", payload, f"{SHARED}/response/{self.requests}")
        return json.loads(answer)["shared"]

    def call(self, method):
        """Calls the server."""
        self.requests += 1
        topic = "v1/devices/me/rpc"
        payload = json.dumps({"method": method, "params": {}})
        return json.loads(self.ask(f"{topic}/request/{self.requests}", payload, f"{topic}/response/{self.requests}"))

    def chunk(self, request, index, size):
        answer = f"v2/fw/response/{request}/chunk/{index}"
        return self.ask(f"v2/fw/request/{request}/chunk/{index}", str(size), answer)

    def pushed(self, change):
        """Has something changed, and returns the update."""
        change()
        return json.loads(self.receive(SHARED)[1])

    def answering(self, trigger, answer):
        """Has the server call, and answers; returns the call."""
        trigger()
        topic, payload = self.receive("v1/devices/me/rpc/request/")
        self.publish(topic.replace("request", "response"), json.dumps(answer), 1)
        return json.loads(payload)

    def away(self, change):
        """Goes with a session that is kept, has something changed, comes back, and returns the update."""
        self.close()
        self.connect(is_clean=False)
        self.close()
        change()
        self.connect(is_clean=False)
        return json.loads(self.receive(SHARED)[1])


class Paho(Client):
    """paho-mqtt, from Eclipse."""

    def connect(self, is_clean):
        endpoint = self.endpoint
        is_five = endpoint.version == 5
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5 if is_five else paho.MQTTv311,
            clean_session=None if is_five else is_clean,
            transport="websockets" if endpoint.is_websocket else "tcp",
            reconnect_on_failure=False,
        )
        self.client.username_pw_set(endpoint.token)
        if endpoint.is_tls:
            self.client.tls_set(ca_certs=str(endpoint.certificate))
        if endpoint.is_websocket:
            self.client.ws_set_options(path="/mqtt")
        events = queue.Queue()
        self.client.on_connect = lambda client, data, flags, reason, _: events.put(reason)
        self.client.on_subscribe = lambda client, data, mid, reasons, _: events.put(reasons)
        self.client.on_message = lambda client, data, message: self.messages.put((message.topic, message.payload))
        options = {}
        if is_five:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if is_clean else SESSION_SECONDS
            options = {"clean_start": is_clean, "properties": properties}
        self.client.connect("localhost", endpoint.port, keepalive=60, **options)
        self.client.loop_start()
        reason = events.get(timeout=TIMEOUT)
        assert not reason.is_failure, reason
        self.client.subscribe([(filter, 1) for filter in FILTERS])
        granted = events.get(timeout=TIMEOUT)
        assert not any(code.is_failure for code in granted), granted

    def publish(self, topic, payload, qos):
        self.client.publish(topic, payload, qos=qos).wait_for_publish(TIMEOUT)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Gmqtt(Client):
    """gmqtt, an asyncio client that speaks MQTT 5; it has a thread with an event loop of its own here."""

    def connect(self, is_clean):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._run(self._connect(is_clean))

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT)

    async def _connect(self, is_clean):
        endpoint = self.endpoint
        expiry = 0 if is_clean else SESSION_SECONDS
        self.client = gmqtt.Client(self.client_id, clean_session=is_clean, session_expiry_interval=expiry)
        self.client.set_auth_credentials(endpoint.token)
        self.client.set_config({"reconnect_retries": 0})
        subscribed = asyncio.Event()

        async def on_message(client, topic, payload, qos, properties):
            self.messages.put((topic, bytes(payload)))
            return 0

        self.client.on_message = on_message
        self.client.on_subscribe = lambda *_: subscribed.set()
        context = ssl.create_default_context(cafile=str(endpoint.certificate)) if endpoint.is_tls else False
        await self.client.connect("localhost", endpoint.port, ssl=context, keepalive=60)
        self.client.subscribe([gmqtt.Subscription(filter, qos=1) for filter in FILTERS])
        await asyncio.wait_for(subscribed.wait(), TIMEOUT)

    def publish(self, topic, payload, qos):
        async def publish():
            self.client.publish(topic, payload, qos=qos)

        self._run(publish())

    def close(self):
        self._run(self.client.disconnect())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(TIMEOUT)
        self.loop.close()


class Mosquitto(Client):
    """The commands of mosquitto: one connection for each thing to do."""

    def connect(self, is_clean):
        pass

    def close(self):
        pass

    def _command(self, name, *arguments):
        endpoint = self.endpoint
        command = [
            name, "-h", "localhost", "-p", str(endpoint.port), "-u", endpoint.token,
            "-V", "mqttv5" if endpoint.version == 5 else "mqttv311",
        ]
        if endpoint.is_tls:
            command += ["--cafile", str(endpoint.certificate)]
        return [*command, *arguments]

    def publish(self, topic, payload, qos):
        command = self._command("mosquitto_pub", "-t", topic, "-q", str(qos), "-s")
        subprocess.run(command, input=payload.encode(), check=True, timeout=TIMEOUT, capture_output=True)

    def ask(self, topic, payload, answer):
        command = self._command("mosquitto_rr", "-t", topic, "-e", answer, "-m", payload, "-q", "1", "-N")
        command += ["-W", str(TIMEOUT)]
        return subprocess.run(command, check=True, timeout=TIMEOUT, capture_output=True).stdout

    def _listening(self, filter, change, *options):
        """Has something changed while one message is waited for; returns its topic and payload."""
        command = self._command("mosquitto_sub", "-t", filter, "-q", "1", "-C", "1", "-d", "-F", "%t %p", *options)
        command = ["stdbuf", "-oL", *command]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            watchdog = threading.Timer(TIMEOUT, process.kill)
            watchdog.start()
            try:
                for line in process.stdout:
                    if line.startswith("Subscribed"):
                        change()
                    elif line.startswith("v1/"):
                        topic, _, payload = line.rstrip("\n").partition(" ")
                        return topic, payload
                raise AssertionError("mosquitto_sub ended without a message")
            finally:
                # Not terminate(): on SIGTERM and SIGALRM mosquitto_sub disconnects within the signal's handler, and if it
                # is just doing so by itself, it waits for its own lock for ever.
                watchdog.cancel()
                process.kill()

    def pushed(self, change):
        return json.loads(self._listening(SHARED, change)[1])

    def answering(self, trigger, answer):
        topic, payload = self._listening(CALLS, trigger)
        self.publish(topic.replace("request", "response"), json.dumps(answer), 1)
        return json.loads(payload)

    def away(self, change):
        kept = ["-c", "-i", self.client_id]
        if self.endpoint.version == 5:
            kept += ["-x", str(SESSION_SECONDS)]
        command = self._command("mosquitto_sub", "-t", SHARED, "-q", "1", "-E", *kept)
        subprocess.run(command, check=True, timeout=TIMEOUT, capture_output=True)
        change()
        return json.loads(self._listening(SHARED, lambda: None, *kept)[1])
