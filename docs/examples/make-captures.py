#!/usr/bin/env python3
"""Writes primary.pcap and secondary.pcap, the two captures that the README replays.

Both guests serve one client over one TCP connection. The secondary cuts its segments differently, which never
matters. Its third answer has one other byte, which does. Needs nothing but Python's standard library.
"""
import struct
from pathlib import Path

SERVER, CLIENT = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 9])
CLIENT_ACK = 5_001
FIN, SYN, PSH, ACK = 1, 2, 8, 16


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(seq, flags, ack, payload):
    """An Ethernet frame from the server's port 80 to the client's port 4242, padded to 60 bytes as on the wire."""
    tcp = struct.pack("!HHIIBBHHH", 80, 4242, seq, ack, 5 << 4, flags, 65_000, 0, 0)
    pseudo = SERVER + CLIENT + struct.pack("!BBH", 0, 6, len(tcp) + len(payload))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp + payload)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0, SERVER, CLIENT)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    ethernet = bytes.fromhex("020000000009" "020000000001" "0800")
    return (ethernet + ip + tcp + payload).ljust(60, b"\0")


def side(isn, sends):
    """Frames with their times: `sends` are (time in ms, payload, flags, bytes the client is told it has said)."""
    frames = [(sends[0][0], frame(isn, SYN | ACK, CLIENT_ACK, b""))]
    seq = isn + 1
    for ms, payload, flags, heard in sends[1:]:
        frames.append((ms, frame(seq, flags, CLIENT_ACK + heard, payload)))
        seq += len(payload) + (flags & FIN)
    return frames


def write(name, frames):
    path = Path(__file__).with_name(name)
    with path.open("wb") as file:
        # Classic pcap, microseconds, Ethernet.
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for ms, data in frames:
            microseconds = round(ms * 1_000)
            stamp = (1_767_225_600 + microseconds // 1_000_000, microseconds % 1_000_000)
            file.write(struct.pack("<IIII", *stamp, len(data), len(data)) + data)


write("primary.pcap", side(1_000, [
    (0, None, None, None),
    (1, b"hello from both guests\n", PSH | ACK, 10),
    (2, b"one answer, cut differently\n", PSH | ACK, 20),
    (50, b"session id 4711\n", PSH | ACK, 30),
    (51, b"bye\n", PSH | ACK, 30),
    (200, b"", FIN | ACK, 40),
]))
write("secondary.pcap", side(700_000, [
    (0.2, None, None, None),
    (1.3, b"hello from both guests\n", PSH | ACK, 10),
    (2.1, b"one answer, ", ACK, 20),
    (2.4, b"cut differently\n", PSH | ACK, 20),
    (50.3, b"session id 4712\n", PSH | ACK, 30),
    (51.2, b"bye\n", PSH | ACK, 30),
    (200.5, b"", FIN | ACK, 40),
]))
