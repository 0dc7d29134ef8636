"""Cuts the golden packets of this folder out of the captures in bench/captures.

Run it here after a change of CHOSEN: python3 extract.py. The .txt beside each packet says what it
means; it is written by hand, from the standard and the sender's own log, never by our decoder.
"""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent
CAPTURES = HERE.parent.parent / "bench" / "captures"

# Capture, index of the datagram among those of the protocol, file.
CHOSEN = [
    ("artnet-olad-poll.pcap", 0, "artnet/olad-dmx-6-slots"),
    ("artnet-olad-poll.pcap", 55, "artnet/olad-dmx-sequence-1"),
    ("artnet-olad-poll.pcap", 2, "artnet/stupidartnet-dmx-512-slots"),
    ("artnet-olad-poll.pcap", 22, "artnet/olad-poll"),
    ("artnet-olad-poll.pcap", 23, "artnet/olad-poll-reply"),
    ("artnet-olad-poll.pcap", 50, "artnet/dmxnet-poll-reply-213-bytes"),
    ("artnet-20-universes-artsync.pcap", 4, "artnet/stupidartnet-dmx-64-slots"),
    ("artnet-20-universes-artsync.pcap", 5, "artnet/stupidartnet-sync"),
    ("qlcplus-artnet-sacn.pcap", "dmx", "artnet/qlcplus-dmx"),
    ("qlcplus-artnet-sacn.pcap", "poll", "artnet/qlcplus-poll"),
    ("sacn-olad.pcap", 0, "sacn/olad-data-3-slots"),
    ("sacn-olad.pcap", 16, "sacn/olad-discovery"),
    ("sacn-olad.pcap", 18, "sacn/olad-terminated"),
    ("sacn-4-universes-sync.pcap", 1, "sacn/python-sacn-data-sync-priority-102"),
    ("sacn-4-universes-sync.pcap", 4, "sacn/python-sacn-sync"),
    ("qlcplus-artnet-sacn.pcap", 3, "sacn/qlcplus-data"),
    ("osc-udp-tcp.pcap", 0, "osc/oscsend-float"),
    ("osc-udp-tcp.pcap", 1, "osc/oscsend-all-types"),
    ("osc-udp-tcp.pcap", 2, "osc/oscsend-midi"),
    ("osc-udp-tcp.pcap", 3, "osc/python-osc-several"),
    ("osc-udp-tcp.pcap", 4, "osc/python-osc-array"),
    ("osc-udp-tcp.pcap", 5, "osc/python-osc-nested-bundle"),
    ("osc-udp-tcp.pcap", 6, "osc/osc-js-bundle-colour-time"),
    ("osc-udp-tcp.pcap", 7, "osc/osc-js-64-bit"),
]

PREFIXES = {"artnet": b"Art-Net\0", "sacn": b"\x00\x10\x00\x00ASC-E1.17\0\0\0"}

# Whole captures, and what a router is told. Each datagram stands behind its length (2 octets); of
# Art-Net, where the sender's address counts, behind that (4 octets) and its length.
WHOLE_SACN = ["sacn-olad", "sacn-4-universes-sync", "qlcplus-artnet-sacn"]
WHOLE_ARTNET = ["artnet-olad-poll", "artnet-20-universes-artsync", "qlcplus-artnet-sacn"]

OPCODES = {"dmx": b"\x00\x50", "poll": b"\x00\x20", "reply": b"\x00\x21"}


def blocks(data):
    """Link type and bytes of every packet of a pcap or pcapng file (little-endian)."""
    if data[:4] != b"\x0a\x0d\x0d\x0a":
        (link,) = struct.unpack_from("<I", data, 20)
        at = 24
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at + 8)
            yield link, data[at + 16 : at + 16 + length]
            at += 16 + length
        return
    at, link = 0, None
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 1:
            (link,) = struct.unpack_from("<H", data, at + 8)
        elif kind == 6:
            (length,) = struct.unpack_from("<I", data, at + 20)
            yield link, data[at + 28 : at + 28 + length]
        at += size


def sent(path):
    """Sender's address and payload of every IPv4 UDP datagram."""
    head = {1: 14, 113: 16, 276: 20}
    for link, packet in blocks(path.read_bytes()):
        packet = packet[head[link] :]
        if packet[0] >> 4 == 4 and packet[9] == 17:
            udp = packet[(packet[0] & 15) * 4 :]
            yield packet[12:16], udp[8 : struct.unpack_from(">H", udp, 4)[0]]


def datagrams(path):
    """Payload of every IPv4 UDP datagram."""
    return (payload for _, payload in sent(path))


class Told:
    """Levels that a router is told, in order: `universe/slot level`."""

    def __init__(self):
        self.looks, self.lines = {}, []

    def show(self, universe, levels):
        look = self.looks.setdefault(universe, {})
        for slot, level in enumerate(levels, 1):
            if look.get(slot) != level:
                look[slot] = level
                self.lines.append(f"{universe}/{slot} {level}")


def told_of_artnet(packets):
    """A second, naive reading: what who says ArtSync has sent before waits for the next one."""
    held, synced, told = {}, set(), Told()
    for sender, packet in packets:
        (opcode,) = struct.unpack_from("<H", packet, 8)
        if opcode == 0x5200:
            synced.add(sender)
            for universe in [one for one, (whose, _) in held.items() if whose == sender]:
                told.show(universe, held.pop(universe)[1])
        elif opcode == 0x5000:
            (universe,) = struct.unpack_from("<H", packet, 14)
            (length,) = struct.unpack_from(">H", packet, 16)
            if sender in synced:
                held[universe] = sender, packet[18 : 18 + length]
            else:
                told.show(universe, packet[18 : 18 + length])
    return told.lines


def told_of_sacn(packets):
    """A second, naive reading."""
    held, synced, told = {}, False, Told()
    show = told.show
    for packet in packets:
        (root,) = struct.unpack_from(">I", packet, 18)
        (frame,) = struct.unpack_from(">I", packet, 40)
        if (root, frame) == (8, 1):
            synced = True
            for universe in list(held):
                show(universe, held.pop(universe))
        elif (root, frame) == (4, 2):
            sync, _, options, universe = struct.unpack_from(">HBBH", packet, 109)
            if options & 0x40:
                continue
            if sync and synced:
                held[universe] = packet[126:]
            else:
                show(universe, packet[126:])
    return told.lines


def replay():
    for name in WHOLE_SACN:
        ours = PREFIXES["sacn"]
        packets = [one for one in datagrams(CAPTURES / f"{name}.pcap") if one.startswith(ours)]
        whole = b"".join(struct.pack(">H", len(packet)) + packet for packet in packets)
        write(f"sacn-captures/{name}", whole, told_of_sacn(packets))
    for name in WHOLE_ARTNET:
        ours = PREFIXES["artnet"]
        packets = [one for one in sent(CAPTURES / f"{name}.pcap") if one[1].startswith(ours)]
        whole = b"".join(
            sender + struct.pack(">H", len(packet)) + packet for sender, packet in packets
        )
        write(f"artnet-captures/{name}", whole, told_of_artnet(packets))


def write(name, whole, lines):
    (HERE / f"{name}.bin").write_bytes(whole)
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def main():
    for capture, choice, name in CHOSEN:
        ours = PREFIXES.get(name.split("/")[0], b"")
        found = [payload for payload in datagrams(CAPTURES / capture) if payload.startswith(ours)]
        if isinstance(choice, str):
            found = [payload for payload in found if payload[8:10] == OPCODES[choice]]
            choice = len(found) - 1
        (HERE / f"{name}.bin").write_bytes(found[choice])
    replay()


main()
