"""Cuts what each client said to the broker out of bench/captures/mqtt-311-and-5.pcap, a file for each
connection in their order. Run it here: python3 extract_mqtt.py. The .txt beside each says what the router
hears of it; it is written by hand, from what the clients were told to do.
"""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent
CAPTURE = HERE.parent.parent / "bench" / "captures" / "mqtt-311-and-5.pcap"
BROKER = 18830
HEAD = {1: 14, 113: 16, 276: 20}


def packets(data):
    """Link type and bytes of every packet of a pcap file (little-endian)."""
    (link,) = struct.unpack_from("<I", data, 20)
    at = 24
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield link, data[at + 16 : at + 16 + length]
        at += 16 + length


def main():
    said = {}
    for link, packet in packets(CAPTURE.read_bytes()):
        packet = packet[HEAD[link] :]
        if packet[0] >> 4 != 4 or packet[9] != 6:
            continue
        packet = packet[: struct.unpack_from(">H", packet, 2)[0]]
        tcp = packet[(packet[0] & 15) * 4 :]
        source, target, sequence = struct.unpack_from(">HHI", tcp)
        payload = tcp[(tcp[12] >> 4) * 4 :]
        if target == BROKER and payload:
            said.setdefault(source, {})[sequence] = payload
    for number, pieces in enumerate(said.values(), 1):
        everything = b"".join(pieces[sequence] for sequence in sorted(pieces))
        (HERE / "mqtt" / f"mosquitto-{number:02}.bin").write_bytes(everything)


main()
