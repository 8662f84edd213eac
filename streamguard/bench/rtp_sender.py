"""The far end of ``bench --source rtp``: many G.711 legs at real-time pace, in its own process.

Legs begin spread over half a second, as calls do. The parent says how many are to speak, a number
per line; the answer is how many packets have been sent so far, and how late the latest of them was
since the last line: a sender that cannot keep pace measures itself.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from streamguard.bench.machine import hold_to
from streamguard.bench.speech import silence_ulaw, voice_ulaw
from streamguard.demo.child import tell
from streamguard.protocols.rtcp import build_bye
from streamguard.sources.rtp_socket import allow_many_sockets

PACKET_SAMPLES = 160
PACKET_S = 0.02
SLOTS = 20
"""Groups of legs that send at the same millisecond."""
START = 25
"""Packets over which the beginnings of legs are spread: half seconds of calls end at any time."""
_HEADER = struct.Struct("!BBHII")


@dataclass(frozen=True, slots=True)
class _Leg:
    port: int
    sock: socket.socket
    ssrc: int
    first: int
    """Packet of the sender with which it begins."""
    offset: int
    """Of what it says."""


class Sender:
    """Legs to ports on loopback, one to each; the youngest end first."""

    def __init__(self, ports: Sequence[int], said: bytes) -> None:
        self._free = list(reversed(ports))
        self._packets = [
            said[at : at + PACKET_SAMPLES]
            for at in range(0, len(said) - PACKET_SAMPLES + 1, PACKET_SAMPLES)
        ]
        # Of no seed: a port remembers for a while whose stream said BYE.
        self._random = random.Random()  # noqa: S311  # a bench, not a secret
        self._legs: list[_Leg] = []
        self.sent = 0

    def bring_to(self, count: int, index: int) -> None:
        """``index``: of the packet that is next."""
        while len(self._legs) > count:
            leg = self._legs.pop()
            self._free.append(leg.port)
            with leg.sock as sock:
                sock.connect(("127.0.0.1", leg.port + 1))
                sock.send(build_bye(leg.ssrc))
        while len(self._legs) < count and self._free:
            port, rng = self._free.pop(), self._random
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(("127.0.0.1", port))
            first = index + 1 + rng.randrange(START)
            said = rng.randrange(len(self._packets))
            self._legs.append(_Leg(port, sock, rng.getrandbits(32), first, said))

    def send(self, slot: int, index: int) -> None:
        """The packet ``index`` of each leg of a slot that has begun."""
        for leg in self._legs[slot::SLOTS]:
            if index < leg.first:
                continue
            header = _HEADER.pack(0x80, 0, index & 0xFFFF, index * PACKET_SAMPLES, leg.ssrc)
            leg.sock.send(header + self._packets[(index + leg.offset) % len(self._packets)])
            self.sent += 1


def serve(sender: Sender) -> None:
    """Until standard input ends."""
    started = time.perf_counter()
    latest_s, tick = 0.0, 0
    while True:
        due = started + tick * PACKET_S / SLOTS
        wait_s = due - time.perf_counter()
        if select.select([0], [], [], max(0.0, wait_s))[0]:
            lines = os.read(0, 4096).split()
            sender.bring_to(int(lines[-1]) if lines else 0, tick // SLOTS)
            if not lines:
                return
            cpu_s = round(time.process_time(), 3)
            tell("sent", packets=sender.sent, latest_ms=round(1000 * latest_s, 1), cpu_s=cpu_s)
            latest_s = 0.0
            continue
        sender.send(tick % SLOTS, tick // SLOTS)
        latest_s = max(latest_s, time.perf_counter() - due)
        tick += 1


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m streamguard.bench.rtp_sender")
    parser.add_argument("--first-port", type=int, required=True)
    parser.add_argument("--most", type=int, required=True, help="legs")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--cores", help="that it is held to")
    options = parser.parse_args(argv)
    hold_to(options.cores)
    allow_many_sockets()
    first = options.first_port
    said = silence_ulaw() if options.silent else voice_ulaw()
    serve(Sender(range(first, first + 2 * options.most, 2), said))


if __name__ == "__main__":
    main(sys.argv[1:])
