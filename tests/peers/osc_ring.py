"""Says at one OSC address what it is told at another, by python-osc: half of a ring.

    osc_ring.py PORT FROM TO GAIN OFFSET

Tells `GAIN * value + OFFSET` to PORT of 127.0.0.1. Prints the port that it listens on.
"""

import sys

from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer
from pythonosc.udp_client import SimpleUDPClient

port, heard, told, gain, offset = sys.argv[1:]
client = SimpleUDPClient("127.0.0.1", int(port))
dispatcher = Dispatcher()
dispatcher.map(heard, lambda _, value: client.send_message(told, float(gain) * value + float(offset)))
server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
print(server.server_address[1], flush=True)
server.serve_forever()
