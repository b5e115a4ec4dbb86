"""Runs the unmodified tb-mqtt-client until its update is over: tb_device.py HOST PORT TOKEN CHUNK_SIZE TITLE.

The client writes the firmware into a file of the package's title in the current folder. Stays connected until its input
ends, since the client tells itself of UPDATED before it tells the server. Exits with 0 if the client says UPDATED, and with
what it knows otherwise.
"""

import logging
import pathlib
import sys
import time

from tb_device_mqtt import TBDeviceMqttClient

SECONDS = 60


def wait(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def main():
    logging.basicConfig(level=logging.DEBUG)
    host, port, token, chunk_size, title = sys.argv[1:]
    client = TBDeviceMqttClient(host, int(port), username=token, chunk_size=int(chunk_size))
    client.connect()
    if not wait(client.is_connected):
        sys.exit("not connected")
    client.get_firmware_update()
    done = wait(lambda: client.current_firmware_info["fw_state"] == "UPDATED" and pathlib.Path(title).exists())
    sys.stdin.read()
    client.disconnect()
    client.stop()
    if not done:
        sys.exit(f"not updated: {client.current_firmware_info} after {client.firmware_info}")


main()
