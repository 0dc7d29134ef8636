"""Drives the published Python client by JSON lines: commands on stdin, what happened on stdout.

The commands are those of clasp_peer.mjs and of ../published: see ../src/peer.rs.
"""

import asyncio
import json
import sys

from clasp import Clasp

# The client prints; stdout belongs to the protocol.
stdout, sys.stdout = sys.stdout, sys.stderr


def say(line):
    stdout.write(json.dumps(line) + "\n")
    stdout.flush()


def from_json(value):
    if isinstance(value, list):
        return [from_json(inner) for inner in value]
    if isinstance(value, dict):
        if "$bytes" in value:
            return bytes.fromhex(value["$bytes"])
        return {key: from_json(inner) for key, inner in value.items()}
    return value


def to_json(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": bytes(value).hex()}
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    if isinstance(value, dict):
        return {key: to_json(inner) for key, inner in value.items()}
    return value


class Peer:
    def __init__(self):
        self.client = None
        self.subscriptions = {}

    async def connect(self, url, name, token=None):
        self.client = Clasp(url, name=name, token=token, reconnect=True, reconnect_interval=0.1)
        self.client.on_connect(lambda: say({"connected": True}))
        self.client.on_disconnect(lambda *_: say({"disconnected": True}))
        await self.client.connect()

    async def session(self):
        return None

    async def on(self, pattern, options=None):
        def heard(value, address, *_):
            say({"heard": to_json(value), "address": address, "pattern": pattern})

        self.subscriptions[pattern] = self.client.subscribe(pattern, heard, **(options or {}))
        # The client sends SUBSCRIBE from a task of its own.
        await asyncio.sleep(0)

    async def off(self, pattern):
        self.subscriptions.pop(pattern)()
        await asyncio.sleep(0)

    async def set(self, address, value):
        await self.client.set(address, from_json(value))

    async def count(self, address, to):
        for number in range(1, to + 1):
            await self.client.set(address, number)

    async def get(self, address):
        return to_json(await self.client.get(address))

    async def cached(self, address):
        return to_json(self.client.cached(address))

    async def emit(self, address, value):
        await self.client.emit(address, from_json(value))

    async def stream(self, address, value):
        await self.client.stream(address, from_json(value))

    async def gesture(self, address, id, phase, value):
        await self.client.gesture(address, id, phase, from_json(value))

    async def bundle(self, messages, in_ms=None):
        at = None if in_ms is None else self.client.time() + in_ms * 1000
        await self.client.bundle([from_json(message) for message in messages], at=at)

    async def query(self, pattern):
        return to_json(await self.client.query_signals(pattern))

    async def close(self):
        await self.client.close()


async def main():
    peer = Peer()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while line := await lines.readline():
        command = json.loads(line)
        name = command.pop("command")
        try:
            say({"done": name, "answer": await getattr(peer, name)(**command)})
        except Exception as error:
            say({"failed": name, "why": f"{type(error).__name__}: {error}"})


asyncio.run(main())
