"""The published Python server of Socket.IO: `PORT`; port 0 is any.

A line of its input is `{"emit": "event", "with": [..], "ack": true}`; what it gets it prints, and
acknowledges with {"took": the first argument}. Bytes are {"$bytes": "00ff"} on both sides.
"""
import json
import os
import sys
import threading

import socketio
from werkzeug.serving import make_server

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


server = socketio.Server(async_mode="threading", ping_interval=1)


@server.event
def connect(sid, environ, auth):
    show({"joined": "/", "auth": auth})


@server.event
def disconnect(sid, reason):
    show({"left": reason, "transport": server.transport(sid)})


@server.on("*")
def anything(event, sid, *rest):
    show({"event": event, "with": out(rest), "transport": server.transport(sid)})
    return {"took": rest[0] if rest else None}


http = make_server("127.0.0.1", int(sys.argv[1]), socketio.WSGIApp(server), threaded=True)
show({"listening": http.server_port})
threading.Thread(target=http.serve_forever, daemon=True).start()

for line in sys.stdin:
    said = json.loads(line)
    rest = tuple(into(item) for item in said.get("with", []))
    told = (lambda *answer: show({"ack": out(answer)})) if said.get("ack") else None
    server.emit(said["emit"], rest, callback=told)
os._exit(0)
