"""sACN sources and a receiver, by PyPI's sacn, obeying JSON lines.

| command | fields | answer |
|---|---|---|
| source | as, host, priority?, sync?, universes {number: levels} | done: it sends from now on |
| levels | as, universes {number: levels} | done; with sync: sent together, a sync packet behind |
| stop | as | done, after the stream-terminated packets of each universe |
| listen | host, universes | done; then a line `universe` for each change, `gone` for each loss |

A source's CID is its `as`, sixteen times. Its name is its `as`.
"""

import json
import sys
import threading

import sacn

stdout, sys.stdout = sys.stdout, sys.stderr
writing = threading.Lock()
sources, receivers = {}, []


def say(line):
    with writing:
        stdout.write(json.dumps(line) + "\n")
        stdout.flush()


def cid(name):
    return tuple((name * 16).encode()[:16])


def set_levels(sender, universes):
    for number, levels in universes.items():
        number = int(number)
        if number not in sender.get_active_outputs():
            sender.activate_output(number)
            sender[number].multicast = True
            sender[number].priority = sender.priority
        sender[number].dmx_data = tuple(levels)
    if sender.syncs:
        sender.flush()


def source(command):
    name = command["as"]
    more = {"sync_universe": command["sync"]} if "sync" in command else {}
    sender = sacn.sACNsender(
        bind_address=command["host"], source_name=name, cid=cid(name), fps=44, **more
    )
    sender.priority = command.get("priority", 100)
    sender.syncs = "sync" in command
    sender.manual_flush = sender.syncs
    sender.start()
    sources[name] = sender
    set_levels(sender, command["universes"])


def heard(packet):
    say(
        {
            "universe": packet.universe,
            "priority": packet.priority,
            "source": packet.sourceName,
            "levels": list(packet.dmxData),
        }
    )


def available(universe, changed):
    if changed == "timeout":
        say({"gone": universe})


def listen(command):
    receiver = sacn.sACNreceiver()
    receiver.register_listener("availability", available)
    receiver.start()
    for number in command["universes"]:
        receiver.register_listener("universe", heard, universe=number)
        receiver.join_multicast(number)
    receivers.append(receiver)


for line in sys.stdin:
    command = json.loads(line)
    if command["command"] == "source":
        source(command)
    elif command["command"] == "levels":
        set_levels(sources[command["as"]], command["universes"])
    elif command["command"] == "stop":
        sender = sources.pop(command["as"])
        for number in sender.get_active_outputs():
            sender.deactivate_output(number)
        sender.stop()
    else:
        listen(command)
    say({"done": command["command"]})
