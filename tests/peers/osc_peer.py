"""OSC and OSCQuery clients and servers, by python-osc, websockets and zeroconf, obeying JSON lines.

| command | fields | answer |
|---|---|---|
| send | port, address, args | done, after one datagram to 127.0.0.1 |
| bundle | port, at, messages [address, args] | done, after one bundle; `at` is a Unix time, or null |
| listen_tcp | port, mode | done; then a line `heard` for each message of who connects |
| call | port, mode | done, connected by TCP; then a line `heard` for each message |
| say | address, args | done, after one message over that connection |
| page | port, listen | done, a WebSocket that listens; then a line `heard` for each message |
| browse | service | done; then lines `found` and `gone` for services of this machine |

`mode` is 1.0 (lengths) or 1.1 (SLIP). `heard` holds the address, `args` the arguments.
"""

import json
import sys
import threading

from pythonosc import osc_bundle_builder, osc_message_builder, osc_tcp_server, tcp_client, udp_client
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_message import OscMessage
from websockets.sync.client import connect
from zeroconf import ServiceBrowser, Zeroconf

writing = threading.Lock()


def say(line):
    with writing:
        sys.stdout.write(json.dumps(line, default=repr) + "\n")
        sys.stdout.flush()


def heard(address, *args):
    say({"heard": address, "args": list(args)})


def message(address, args):
    builder = osc_message_builder.OscMessageBuilder(address)
    for arg in args:
        builder.add_arg(arg)
    return builder.build()


def in_background(work):
    threading.Thread(target=work, daemon=True).start()


def read_connection(client):
    # The library gives up when nothing came for the time-out.
    while True:
        for packet in client.receive(timeout=1):
            told = OscMessage(packet)
            heard(told.address, *told.params)


def read_page(page):
    for packet in page:
        if isinstance(packet, bytes):
            told = OscMessage(packet)
            heard(told.address, *told.params)
        else:
            say({"text": json.loads(packet)})


class Found:
    def add_service(self, zeroconf, kind, name):
        info = zeroconf.get_service_info(kind, name)
        say({"found": name, "port": info.port if info else None})

    def update_service(self, *_):
        pass

    def remove_service(self, zeroconf, kind, name):
        say({"gone": name})


kept = []
connection = None

for line in sys.stdin:
    command = json.loads(line)
    kind = command["command"]
    if kind == "send":
        client = udp_client.SimpleUDPClient("127.0.0.1", command["port"])
        client.send(message(command["address"], command["args"]))
    elif kind == "bundle":
        at = command["at"]
        at = osc_bundle_builder.IMMEDIATELY if at is None else at
        bundle = osc_bundle_builder.OscBundleBuilder(at)
        for address, args in command["messages"]:
            bundle.add_content(message(address, args))
        client = udp_client.SimpleUDPClient("127.0.0.1", command["port"])
        client.send(bundle.build())
    elif kind == "listen_tcp":
        dispatcher = Dispatcher()
        dispatcher.set_default_handler(heard)
        server = osc_tcp_server.ThreadingOSCTCPServer(
            ("127.0.0.1", command["port"]), dispatcher, mode=command["mode"]
        )
        in_background(server.serve_forever)
    elif kind == "call":
        connection = tcp_client.TCPClient("127.0.0.1", command["port"], mode=command["mode"])
        in_background(lambda: read_connection(connection))
    elif kind == "say":
        connection.send(message(command["address"], command["args"]))
    elif kind == "page":
        page = connect(f"ws://127.0.0.1:{command['port']}/")
        page.send(json.dumps({"COMMAND": "LISTEN", "DATA": command["listen"]}))
        kept.append(page)
        in_background(lambda: read_page(page))
    elif kind == "browse":
        zeroconf = Zeroconf(interfaces=["127.0.0.1"])
        kept.append((zeroconf, ServiceBrowser(zeroconf, command["service"], Found())))
    say({"done": kind})
