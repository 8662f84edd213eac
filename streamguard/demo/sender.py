"""A standalone RTP sender: real-time paced G.711 with comfort noise, telephone events and RTCP BYE.

``python -m streamguard.demo.sender FOLDER --ports 5004 5006 ...`` plays the legs of FOLDER, one per
port in the order of its manifest, all at once, and ends with a BYE on port + 1. It shares no code
with the receiver but the G.711 tables. Packets are planned by pure code; :func:`send` does the I/O.
"""

from __future__ import annotations

import _thread
import argparse
import asyncio
import heapq
import json
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamguard.audio import g711
from streamguard.demo.child import Child
from streamguard.demo.legs import (
    PACKET_SAMPLES,
    RATE_HZ,
    DemoError,
    DemoLeg,
    Mark,
    MarkKind,
    load_legs,
    save_legs,
)

if TYPE_CHECKING:
    from types import FrameType

PT_PCMU: Final = 0
PT_PCMA: Final = 8
PT_COMFORT_NOISE: Final = 13
PT_EVENT: Final = 101
"""Dynamic; the number that nearly everybody uses."""
_CN_EVERY_PACKETS: Final = 10
"""A comfort-noise update every 200 ms."""
_EVENT_VOLUME: Final = 10
"""-dBm0."""
_PERIOD_S: Final = PACKET_SAMPLES / RATE_HZ


@dataclass(frozen=True, slots=True)
class Stream:
    """The random numbers with which an RTP stream begins (RFC 3550, 5.1)."""

    ssrc: int
    sequence: int
    timestamp: int

    @classmethod
    def random(cls, rng: random.Random) -> Stream:
        return cls(rng.getrandbits(32), rng.getrandbits(16), rng.getrandbits(32))


@dataclass(frozen=True, slots=True)
class Planned:
    """A packet and when it is due, in seconds from the start."""

    due_s: float
    data: bytes


def plan(leg: DemoLeg, stream: Stream) -> Iterator[Planned]:
    """The RTP packets of a leg in order; the last part of a packet is filled up with silence.

    Raises DemoError for a codec that is not G.711 and for marks that are not whole packets.
    """
    import numpy as np

    encode, payload_type = _codec(leg.codec)
    marks: dict[int, Mark] = {}
    for mark in leg.marks:
        if mark.start % PACKET_SAMPLES or mark.count % PACKET_SAMPLES or mark.count <= 0:
            raise DemoError(f"leg {leg.name}: mark at {mark.start} is not whole packets")
        for slot in range(mark.count // PACKET_SAMPLES):
            marks[mark.start // PACKET_SAMPLES + slot] = mark
    slots = -(-len(leg.samples) // PACKET_SAMPLES)
    samples = np.pad(leg.samples, (0, slots * PACKET_SAMPLES - len(leg.samples)))
    sequence = stream.sequence
    talking = False

    for slot in range(slots):
        now = slot * PACKET_SAMPLES
        marked = marks.get(slot)
        if marked is None:
            payload = encode(samples[now : now + PACKET_SAMPLES])
            contents = [(payload_type, not talking, now, payload)]
            talking = True
        elif marked.kind is MarkKind.COMFORT_NOISE:
            contents = _comfort_noise(marked, now)
            talking = False
        else:
            contents = _event(marked, now)
        for kind, marker, sample, payload in contents:
            header = struct.pack(
                "!BBHII",
                0x80,
                marker << 7 | kind,
                sequence & 0xFFFF,
                (stream.timestamp + sample) & 0xFFFFFFFF,
                stream.ssrc,
            )
            yield Planned(slot * _PERIOD_S, header + payload)
            sequence += 1


def goodbye(ssrc: int) -> bytes:
    """RR (no reports) + SDES CNAME + BYE, the least compound packet of RFC 3550, 6.1."""
    cname = b"streamguard-demo"
    item = struct.pack("!BB", 1, len(cname)) + cname
    item += b"\0" * (4 - len(item) % 4)  # ends with one to four zero octets
    report = struct.pack("!BBHI", 0x80, 201, 1, ssrc)
    description = struct.pack("!BBHI", 0x81, 202, 1 + len(item) // 4, ssrc) + item
    return report + description + struct.pack("!BBHI", 0x81, 203, 1, ssrc)


@dataclass(slots=True)
class Sent:
    """What became of one leg."""

    name: str
    port: int
    ssrc: int
    packets: int = 0
    late_ms_max: float = 0.0
    """Worst delay behind the plan: above a few ms the machine is too busy to play in real time."""

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "port": self.port,
            "ssrc": self.ssrc,
            "packets": self.packets,
            "late_ms_max": round(self.late_ms_max, 3),
        }


@dataclass(frozen=True, slots=True)
class Clock:
    """Replaced in tests."""

    now: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)


def send(
    legs: Sequence[DemoLeg],
    host: str,
    ports: Sequence[int],
    rng: random.Random,
    started: Callable[[Sequence[Sent]], object],
    clock: Clock | None = None,
) -> tuple[Sent, ...]:
    """Play all legs at real-time pace, each with a goodbye at its end; also when interrupted.

    Paced against absolute time, so that delays don't add up. Legs are spread over the 20 ms as
    independent calls are.
    """
    clock = clock or Clock()
    streams = [Stream.random(rng) for _ in legs]
    sent = tuple(
        Sent(leg.name, port, stream.ssrc)
        for leg, port, stream in zip(legs, ports, streams, strict=True)
    )
    sockets = [_socket_pair() for _ in legs]
    speaking = set(range(len(legs)))
    try:
        started(sent)
        begin = clock.now()
        timeline = heapq.merge(
            *(
                _timed(index, index * _PERIOD_S / len(legs), leg, stream)
                for index, (leg, stream) in enumerate(zip(legs, streams, strict=True))
            )
        )
        for due_s, index, data in timeline:
            wait_s = begin + due_s - clock.now()
            if wait_s > 0:
                clock.sleep(wait_s)
            if data is None:
                _say_goodbye(sockets[index][1], streams[index], host, ports[index])
                speaking.discard(index)
                continue
            sockets[index][0].sendto(data, (host, ports[index]))
            sent[index].packets += 1
            late_ms = (clock.now() - begin - due_s) * 1000
            sent[index].late_ms_max = max(sent[index].late_ms_max, late_ms)
    finally:
        for index, (rtp, rtcp) in enumerate(sockets):
            if index in speaking:
                _say_goodbye(rtcp, streams[index], host, ports[index])
            rtp.close()
            rtcp.close()
    return sent


@asynccontextmanager
async def running_sender(
    legs: Sequence[DemoLeg], ports: Sequence[int], host: str = "127.0.0.1"
) -> AsyncIterator[Child]:
    """A sender in a process of its own, playing when the block begins; ``expect("done")`` of it."""
    with tempfile.TemporaryDirectory(prefix="streamguard-demo-") as folder:
        await asyncio.to_thread(save_legs, Path(folder), legs)
        child = await Child.start(
            "streamguard.demo.sender",
            folder,
            "--attached",
            "--host",
            host,
            "--ports",
            *(str(port) for port in ports),
        )
        try:
            await child.expect("sending", 15.0)
            yield child
        finally:
            await child.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes one JSON line when sending starts and one when it is done. 0 ok, 1 failed, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m streamguard.demo.sender")
    parser.add_argument("folder", type=Path, help="folder with legs.json and the legs' samples")
    parser.add_argument("--host", default="127.0.0.1", help="address to send to")
    parser.add_argument("--attached", action="store_true", help="end when standard input does")
    parser.add_argument(
        "--ports", type=int, nargs="+", required=True, help="one RTP port per leg; RTCP is next"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    if options.attached:
        threading.Thread(target=_end_with_parent, daemon=True, name="stdin").start()
    try:
        legs = load_legs(options.folder)
        if len(options.ports) != len(legs):
            parser.error(f"{len(legs)} legs need {len(legs)} ports, not {len(options.ports)}")
        rng = random.SystemRandom()
        sent = send(legs, options.host, options.ports, rng, lambda s: _tell("sending", s))
    except (DemoError, OSError) as err:
        sys.stderr.write(f"{err}\n")
        return 1
    except KeyboardInterrupt:
        return 1
    _tell("done", sent)
    return 0


def _codec(name: str) -> tuple[Callable[..., bytes], int]:
    if name == "PCMU":
        return g711.encode_ulaw, PT_PCMU
    if name == "PCMA":
        return g711.encode_alaw, PT_PCMA
    raise DemoError(f"codec {name}: must be PCMU or PCMA")


Content = tuple[int, bool, int, bytes]
"""Payload type, marker, sample that the timestamp names, payload."""


def _comfort_noise(mark: Mark, now: int) -> list[Content]:
    if (now - mark.start) // PACKET_SAMPLES % _CN_EVERY_PACKETS:
        return []
    return [(PT_COMFORT_NOISE, False, now, bytes([min(mark.value, 127)]))]


def _event(mark: Mark, now: int) -> list[Content]:
    """RFC 4733: the timestamp stays, the duration grows, the last packet is sent three times."""
    duration = now + PACKET_SAMPLES - mark.start
    last = duration == mark.count
    payload = struct.pack("!BBH", mark.value, last << 7 | _EVENT_VOLUME, duration)
    return [(PT_EVENT, now == mark.start, mark.start, payload)] * (3 if last else 1)


def _timed(
    index: int, offset_s: float, leg: DemoLeg, stream: Stream
) -> Iterator[tuple[float, int, bytes | None]]:
    """When, which leg, and what; None is the goodbye."""
    for packet in plan(leg, stream):
        yield packet.due_s + offset_s, index, packet.data
    yield -(-len(leg.samples) // PACKET_SAMPLES) * _PERIOD_S + offset_s, index, None


def _say_goodbye(rtcp: socket.socket, stream: Stream, host: str, port: int) -> None:
    rtcp.sendto(goodbye(stream.ssrc), (host, port + 1))


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two neighbouring ports, as a receiver that locks to its sender's address expects."""
    for _ in range(50):
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            rtp.bind(("", 0))
            rtcp.bind(("", rtp.getsockname()[1] + 1))
        except (OSError, OverflowError):  # taken, or there is no port 65536
            rtp.close()
            rtcp.close()
        else:
            return rtp, rtcp
    raise DemoError("no two neighbouring UDP ports are free")


def _tell(event: str, sent: Sequence[Sent]) -> None:
    line = {
        "event": event,
        "monotonic": time.monotonic(),
        "legs": [one.as_dict() for one in sent],
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    # The bare descriptor: a thread inside sys.stdin would hold its lock when the process ends.
    while os.read(0, 4096):
        pass
    _thread.interrupt_main(signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
