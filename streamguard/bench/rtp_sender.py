"""The far end of ``bench --source rtp``: many G.711 legs at real-time pace, in its own process.

Legs begin spread over the packet time, as those of a switch do. Says how many packets it sent, and
how late the latest of them was: a sender that cannot keep pace measures itself.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import struct
import sys
import time
from collections.abc import Sequence

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


def send(ports: Sequence[int], seconds: float, *, silent: bool) -> None:
    """One leg to each port on loopback; a BYE of each when the parent has seen enough."""
    said = silence_ulaw() if silent else voice_ulaw()
    packets = [
        said[at : at + PACKET_SAMPLES]
        for at in range(0, len(said) - PACKET_SAMPLES + 1, PACKET_SAMPLES)
    ]
    header = struct.Struct("!BBHII")
    # Of no seed: a port remembers for a while whose stream said BYE.
    rng = random.Random()  # noqa: S311  # a bench, not a secret
    sent = 0
    latest_s = 0.0
    with contextlib.ExitStack() as stack:
        slots: list[list[tuple[socket.socket, int, int, int]]] = [[] for _ in range(SLOTS)]
        for number, port in enumerate(ports):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.connect(("127.0.0.1", port))
            leg = (sock, rng.getrandbits(32), rng.randrange(len(packets)), rng.randrange(START))
            slots[number % SLOTS].append(leg)
        cpu_s = time.process_time()
        started = time.perf_counter() + 0.05
        for tick in range(round(seconds / PACKET_S) * SLOTS):
            due = started + tick * PACKET_S / SLOTS
            wait_s = due - time.perf_counter()
            if wait_s > 0.0002:
                time.sleep(wait_s)
            index = tick // SLOTS
            for sock, ssrc, offset, first in slots[tick % SLOTS]:
                if index < first:
                    continue
                start = header.pack(0x80, 0, index & 0xFFFF, index * PACKET_SAMPLES, ssrc)
                sock.send(start + packets[(index + offset) % len(packets)])
                sent += 1
            latest_s = max(latest_s, time.perf_counter() - due)
        cpu_s = time.process_time() - cpu_s
        tell("sent", packets=sent, latest_ms=round(1000 * latest_s, 1), cpu_s=round(cpu_s, 3))
        sys.stdin.read()
        for slot in slots:
            for sock, ssrc, *_ in slot:
                port = int(sock.getpeername()[1])
                sock.connect(("127.0.0.1", port + 1))
                sock.send(build_bye(ssrc))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m streamguard.bench.rtp_sender")
    parser.add_argument("--first-port", type=int, required=True)
    parser.add_argument("--legs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--silent", action="store_true")
    options = parser.parse_args(argv)
    allow_many_sockets()
    first = options.first_port
    send(range(first, first + 2 * options.legs, 2), options.seconds, silent=options.silent)


if __name__ == "__main__":
    main()
