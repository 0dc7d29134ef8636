"""The published Python client of Socket.IO: `URL TRANSPORTS [TOKEN]`.

A line of its input is `{"emit": "event", "with": [..], "ack": true}`; what it gets it prints.
Bytes are {"$bytes": "00ff"} on both sides.
"""
import json
import sys
import threading
import urllib.parse

import socketio


one_line = threading.Lock()


def show(thing):
    with one_line:
        print(json.dumps(thing, ensure_ascii=False), flush=True)


def out(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": bytes(value).hex()}
    if isinstance(value, (list, tuple)):
        return [out(item) for item in value]
    if isinstance(value, dict):
        return {key: out(item) for key, item in value.items()}
    return value


def into(value):
    if isinstance(value, dict):
        if set(value) == {"$bytes"}:
            return bytes.fromhex(value["$bytes"])
        return {key: into(item) for key, item in value.items()}
    if isinstance(value, list):
        return [into(item) for item in value]
    return value


client = socketio.Client(reconnection=False)


url, transports, *token = sys.argv[1:]
# As the JavaScript client reads it: the path of the URL is the namespace.
namespace = urllib.parse.urlparse(url).path or "/"


@client.on("*", namespace=namespace)
def anything(event, *rest):
    show({"event": event, "with": out(rest)})


@client.on("connect_error", namespace=namespace)
def connect_error(why):
    show({"refused": why.get("message", "") if isinstance(why, dict) else str(why)})


try:
    auth = {"token": token[0]} if token else None
    client.connect(url, transports=transports.split(","), auth=auth, namespaces=[namespace],
                   wait_timeout=10)
    show({"connected": client.transport()})
except socketio.exceptions.ConnectionError:
    sys.exit(0)

for line in sys.stdin:
    said = json.loads(line)
    rest = tuple(into(item) for item in said.get("with", []))
    if said.get("ack"):
        client.emit(said["emit"], rest, namespace=namespace,
                    callback=lambda *answer: show({"ack": out(answer)}))
    else:
        client.emit(said["emit"], rest, namespace=namespace)
client.disconnect()
