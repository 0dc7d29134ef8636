#!/usr/bin/env python3
"""The device side of an ENTTEC DMX USB Pro on one end of a pty pair or of a USB serial gadget.

olad, DMXEnttecPro and npm dmx take it for a real widget. usage: enttec_widget.py TTY [in]
Prints `open`, then what it is told, a line each: `label N HEX`, and for frames that differ from the last one
`dmx SLOTS HEX-OF-THE-FIRST-TWELVE`. With `in` it also says received frames (label 5), ten a second,
whose slots 1 to 4 are 1, 2, 3 and a count; every other one is cut into pieces, after some noise.
"""

import os
import select
import struct
import sys
import termios
import time
import tty

fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
tty.setraw(fd, termios.TCSANOW)
feeds = "in" in sys.argv[2:]
print("open", flush=True)


def message(label, data):
    return b"\x7e" + bytes([label]) + struct.pack("<H", len(data)) + data + b"\xe7"


def say(data):
    os.write(fd, data)


def answer(label):
    if label == 10:
        say(message(10, struct.pack("<I", 0x12345678)))  # BCD, the low octet first
    elif label == 3:
        say(message(3, bytes([0x44, 1, 9, 1, 40])))  # firmware 1.68, break 9, mark 1, 40 Hz
    elif label in (77, 78):
        say(message(label, b""))  # a plain Pro has no names


def feed(count):
    frame = message(5, bytes([0, 0, 1, 2, 3, count & 255]) + bytes(508))
    if count % 2:
        say(frame)
        return
    cut = 1 + count * 7 % (len(frame) - 1)
    say(b"\x00\x7e\x05\xff\xff" + frame[:cut])
    time.sleep(0.01)
    say(frame[cut:])


buffer, last, count, due = b"", None, 0, time.monotonic() + 0.3
while True:
    ready, _, _ = select.select([fd], [], [], 0.02)
    if feeds and time.monotonic() > due:
        feed(count)
        count, due = count + 1, time.monotonic() + 0.1
    if ready:
        buffer += os.read(fd, 4096)
    while len(buffer) >= 5:
        length = struct.unpack("<H", buffer[2:4])[0]
        if buffer[0] != 0x7E or length > 600:
            buffer = buffer[1:]
            continue
        if len(buffer) < length + 5:
            break
        label, data, end = buffer[1], buffer[4 : 4 + length], buffer[4 + length]
        if end != 0xE7:
            print("bad end", hex(end), flush=True)
            buffer = buffer[1:]
            continue
        buffer = buffer[5 + length :]
        if label != 6:
            print("label", label, data[:16].hex(), flush=True)
        elif data != last:
            print("dmx", len(data) - 1, data[:12].hex(), flush=True)
            last = data
        answer(label)
