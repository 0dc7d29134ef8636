"""An Art-Net sender and receiver, by stupidArtnet, obeying JSON lines.

| command | fields | answer |
|---|---|---|
| listen | port, universe | done; then a line `levels` for each packet received |
| send | port, universe, levels, host?, source?, sync? | done, after one packet to `host` (default \
127.0.0.1) from the address `source`, and an ArtSync behind it if `sync` |
"""

import json
import sys
import threading

from stupidArtnet import StupidArtnet, StupidArtnetServer

# The library prints; stdout belongs to the protocol.
stdout, sys.stdout = sys.stdout, sys.stderr
writing = threading.Lock()


def say(line):
    with writing:
        stdout.write(json.dumps(line) + "\n")
        stdout.flush()


def levels(data, *_):
    say({"levels": list(data)})


servers = []

for line in sys.stdin:
    command = json.loads(line)
    if command["command"] == "listen":
        server = StupidArtnetServer(port=command["port"])
        server.register_listener(command["universe"], callback_function=levels)
        servers.append(server)
    else:
        source = command.get("source")
        sender = StupidArtnet(
            command.get("host", "127.0.0.1"),
            command["universe"],
            len(command["levels"]),
            source_address=(source, 0) if source else None,
            artsync=command.get("sync", False),
            port=command["port"],
        )
        sender.set(bytearray(command["levels"]))
        sender.show()
        sender.close()
    say({"done": command["command"]})
