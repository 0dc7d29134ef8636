"""A program that speaks WebSocket and JSON, of PyPI `websockets`: `URL` connects.

A line of its input is a message, `hex:00ff` a binary one; what it gets it prints.
"""
import asyncio
import sys

import websockets


async def lines(socket):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        text = line.rstrip("\n")
        await socket.send(bytes.fromhex(text[4:]) if text.startswith("hex:") else text)


async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        print("open", flush=True)
        asyncio.create_task(lines(socket))
        try:
            async for message in socket:
                print(message if isinstance(message, str) else f"hex:{message.hex()}", flush=True)
        except websockets.ConnectionClosed:
            pass
        print(f"closed {socket.close_code} {socket.close_reason}", flush=True)


asyncio.run(main())
