#!/usr/bin/env python3
"""A MIDI program on JACK: RtMidi's, with the ports NAME:out and NAME-01:in.

usage: jack_peer.py NAME
Prints `open`, then each message that it hears, a line of hexadecimal digits each, and says each line
of that form that it reads.
"""

import sys

import rtmidi

out = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name=sys.argv[1])
out.open_virtual_port("out")
heard = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name=sys.argv[1])
heard.ignore_types(sysex=False, timing=False, active_sense=False)
heard.set_callback(lambda event, _: print(bytes(event[0]).hex(), flush=True))
heard.open_virtual_port("in")
print("open", flush=True)
for line in sys.stdin:
    out.send_message(list(bytes.fromhex(line)))
