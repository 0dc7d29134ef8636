"""Builds golden packets of Art-Net that no capture holds, octet by octet from the tables of the
standard (Art-Net 4, protocol release V1.4), never by our encoder.

Run it here after a change: python3 artnet_tables.py. Each packet is a list of pairs, octet number
and octets; what no pair names is 0. The .txt beside each says what it means and is written by hand.
"""

import pathlib

HERE = pathlib.Path(__file__).parent / "artnet"

# Name: length, opcode, fields. The head (ID, opcode low byte first, version 14) is common to all.
PACKETS = {
    "table-poll-targeted": (22, 0x2000, [
        (12, [0x2E]),  # Targeted, diagnostics by unicast, on change.
        (13, [0x40]),  # Diagnostics of medium priority and above.
        (14, [0x01, 0x2F]),  # Top: 1:2:15.
        (16, [0x01, 0x20]),  # Bottom: 1:2:0.
        (18, [0x7F, 0xF0]),
        (20, [0x00, 0xFF]),
    ]),
    "table-diag-data": (26, 0x2300, [
        (13, [0x80]), (14, [2]), (16, [0x00, 0x08]), (18, b"too hot\0"),
    ]),
    "table-command": (36, 0x2400, [
        (12, [0xFF, 0xFF]), (14, [0x00, 0x14]), (16, b"SwoutText=Playback&\0"),
    ]),
    "table-nzs": (22, 0x5100, [
        (12, [7]), (13, [0x17]), (14, [0x23]), (15, [0x01]), (16, [0x00, 0x04]), (18, b"text"),
    ]),
    "table-sync": (14, 0x5200, []),
    "table-address-names": (107, 0x6000, [
        (12, [0x7F]), (13, [2]), (14, b"stage left"), (32, b"dimmers, stage left"),
        (96, [0x7F] * 4), (100, [0x7F] * 4), (104, [0x7F]), (105, [0xFF]), (106, [0x00]),
    ]),
    "table-address-switches-ltp": (107, 0x6000, [
        (12, [0x81]), (13, [1]), (96, [0x7F, 0x00, 0x7F, 0x7F]), (100, [0x85, 0x7F, 0x7F, 0x8F]),
        (104, [0x82]), (105, [0xFF]), (106, [0x12]),
    ]),
    "table-address-cancel-merge": (107, 0x6000, [
        (12, [0x7F]), (96, [0x7F] * 4), (100, [0x7F] * 4), (104, [0x7F]), (105, [0xFF]),
        (106, [0x01]),
    ]),
    "table-input": (20, 0x7000, [(13, [1]), (14, [0, 4]), (16, [0x01, 0x00, 0x00, 0x01])]),
    "table-tod-request": (56, 0x8000, [(21, [0x01]), (22, [0x00]), (23, [2]), (24, [0x23, 0x24])]),
    "table-tod-data": (40, 0x8100, [
        (12, [1]), (13, [1]), (20, [1]), (21, [0x00]), (22, [0x00]), (23, [0x05]),
        (24, [0x00, 0x02]), (26, [0]), (27, [2]),
        (28, [0x7F, 0xF0, 0, 0, 0, 1]), (34, [0x7F, 0xF0, 0, 0, 0, 2]),
    ]),
    "table-tod-control-flush": (24, 0x8200, [(21, [0x00]), (22, [0x01]), (23, [0x05])]),
    # GET DEVICE_INFO of 7ff0:00000001, as E1.20 has it but for the start code.
    "table-rdm": (49, 0x8300, [
        (12, [1]), (21, [0x00]), (22, [0x00]), (23, [0x05]),
        (24, [0x01, 24, 0x7F, 0xF0, 0, 0, 0, 1, 0x7F, 0xF0, 0, 0, 0, 9, 0, 1, 0, 0, 0, 0x20,
              0x00, 0x60, 0x00]),
        (47, [0x04, 0x4E]),
    ]),
    "table-time-code-ebu": (19, 0x9700, [
        (13, [3]), (14, [24]), (15, [59]), (16, [30]), (17, [21]), (18, [1]),
    ]),
    "table-trigger-show": (530, 0x9900, [(14, [0xFF, 0xFF]), (16, [3]), (17, [12])]),
    "table-trigger-oem": (530, 0x9900, [
        (14, [0x04, 0x30]), (16, [0x40]), (17, [1]), (18, [0xDE, 0xAD]),
    ]),
    "table-ip-prog": (34, 0xF800, [
        (14, [0x86]), (16, [10, 0, 0, 99]), (20, [255, 0, 0, 0]), (26, [10, 0, 0, 254]),
    ]),
    "table-ip-prog-reply": (34, 0xF900, [
        (16, [10, 0, 0, 7]), (20, [255, 255, 0, 0]), (24, [0x19, 0x36]), (26, [0x40]),
        (28, [10, 0, 0, 1]),
    ]),
    # A node with two groups of ports tells its second one.
    "table-poll-reply-group-2": (239, 0x2100, [
        (10, [10, 0, 0, 7]), (14, [0x36, 0x19]), (16, [1, 2]), (18, [1]), (19, [2]),
        (20, [0x04, 0x30]),
        (23, [0xD2]), (24, [0x53, 0x41]), (26, b"stage left"), (44, b"dimmers, stage left"),
        (108, b"#0001 [0042] all well"), (172, [0, 4]), (174, [0x80, 0x80, 0x40, 0xC0]),
        (178, [0, 0, 0x80, 0x08]), (182, [0x80, 0x8A, 0, 0]), (186, [0, 0, 6, 7]),
        (190, [4, 5, 0, 7]), (200, [0]), (201, [2, 0, 0x5E, 0x10, 0, 1]), (207, [10, 0, 0, 7]),
        (211, [2]), (212, [0x08]), (226, [0, 44]),
    ]),
}


def main():
    for name, (length, opcode, fields) in PACKETS.items():
        packet = bytearray(length)
        packet[:12] = b"Art-Net\0" + opcode.to_bytes(2, "little") + bytes([0, 14])
        for at, octets in fields:
            assert at + len(octets) <= length, name
            packet[at : at + len(octets)] = bytes(octets)
        (HERE / f"{name}.bin").write_bytes(packet)


main()
