#!/usr/bin/env python3
"""The device side of an ENTTEC DMX USB Pro on one end of a pty pair or of a USB serial gadget.

olad, DMXEnttecPro and npm dmx take it for a real widget. usage: enttec_widget.py TTY [in | joined TTY]
Prints `open`, then what it is told, a line each: `label N HEX`, and for frames that differ from the last one
`dmx SLOTS HEX-OF-THE-FIRST-TWELVE`. With `in` it also says received frames (label 5), ten a second,
whose slots 1 to 4 are 1, 2, 3 and a count; every other one is cut into pieces, after some noise.
With `joined` there are two, and a DMX cable between them: each says what the other one's host sends
(label 6) as received (label 5), at once and then ten times a second.
"""

import os
import select
import struct
import sys
import termios
import time
import tty

class Widget:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd, termios.TCSANOW)
        self.buffer, self.last = b"", None

    def say(self, label, data):
        os.write(self.fd, message(label, data))

    def answer(self, label):
        if label == 10:
            self.say(10, struct.pack("<I", 0x12345678))  # BCD, the low octet first
        elif label == 3:
            self.say(3, bytes([0x44, 1, 9, 1, 40]))  # firmware 1.68, break 9, mark 1, 40 Hz
        elif label in (77, 78):
            self.say(label, b"")  # a plain Pro has no names

    def messages(self):
        """Reads once, and gives what is whole: labels and data."""
        self.buffer += os.read(self.fd, 4096)
        while len(self.buffer) >= 5:
            length = struct.unpack("<H", self.buffer[2:4])[0]
            if self.buffer[0] != 0x7E or length > 600:
                self.buffer = self.buffer[1:]
                continue
            if len(self.buffer) < length + 5:
                return
            label, data, end = self.buffer[1], self.buffer[4 : 4 + length], self.buffer[4 + length]
            if end != 0xE7:
                print("bad end", hex(end), flush=True)
                self.buffer = self.buffer[1:]
                continue
            self.buffer = self.buffer[5 + length :]
            yield label, data

    def hear(self):
        for label, data in self.messages():
            if label != 6:
                print("label", label, data[:16].hex(), flush=True)
            elif data != self.last:
                print("dmx", len(data) - 1, data[:12].hex(), flush=True)
                self.last = data
            self.answer(label)


def message(label, data):
    return b"\x7e" + bytes([label]) + struct.pack("<H", len(data)) + data + b"\xe7"


def feed(widget, count):
    frame = message(5, bytes([0, 0, 1, 2, 3, count & 255]) + bytes(508))
    if count % 2:
        os.write(widget.fd, frame)
        return
    cut = 1 + count * 7 % (len(frame) - 1)
    os.write(widget.fd, b"\x00\x7e\x05\xff\xff" + frame[:cut])
    time.sleep(0.01)
    os.write(widget.fd, frame[cut:])


def carry(one, other):
    """The DMX cable: what comes in on one's side was sent on the other's."""
    if other.last is not None:
        one.say(5, b"\0" + other.last)


feeds, joined = "in" in sys.argv[2:], "joined" in sys.argv[2:]
widgets = [Widget(sys.argv[1])] + ([Widget(sys.argv[3])] if joined else [])
print("open", flush=True)
count, due = 0, time.monotonic() + 0.3
while True:
    ready, _, _ = select.select([widget.fd for widget in widgets], [], [], 0.02)
    is_due = time.monotonic() > due
    if is_due:
        due = time.monotonic() + 0.1
    if feeds and is_due:
        feed(widgets[0], count)
        count += 1
    for widget in widgets:
        last = widget.last
        if widget.fd in ready:
            widget.hear()
        if joined and (is_due or widget.last != last):
            carry(widgets[1 - widgets.index(widget)], widget)
