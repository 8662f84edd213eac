"""UDP sockets for media: bound, and read by hand until there is nothing left.

``add_reader`` and drain: plain asyncio endpoints read one datagram per turn of the loop and lost
half of the bursts of 50 packets. A source opens such sockets for its life, or for that of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from streamguard.errors import SourceError
from streamguard.protocols.rtp import Malformed
from streamguard.telemetry.log import RepeatLimiter

logger = logging.getLogger(__name__)

Address = tuple[str, int]
"""Host and port of a sender."""
Receive = Callable[[bytes, Address, float], None]
"""Take one datagram: what it says, who sent it, the monotonic time at which it was read."""

MAX_DATAGRAM_BYTES = 6_144
"""The longest payload with its headers; the kernel cuts longer ones, and they are dropped."""
RECEIVE_BUFFER_BYTES = 1 << 20
"""Per socket: seconds of G.711, for the moments in which the loop is busy elsewhere."""
DRAIN_LIMIT = 512
"""Datagrams of one socket per turn of the loop: a flooded port must not starve the others."""

_repeats = RepeatLimiter(logger, interval_s=3600.0)
"""Sockets are opened for every call; what is wrong with one is wrong with all."""
_SO_RXQ_OVFL = 40
"""Linux: report, with each datagram, how many the kernel has dropped; not in Python's socket."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(4)
_UINT32 = struct.Struct("=I")


def allow_many_sockets() -> None:
    """Lift the limit of open files to what the system allows: each RTP port takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems report more than they give
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(slots=True)
class Traffic:
    """What the readers of one source count together."""

    received: int = 0
    """Datagrams."""
    drops: Counter[str] = field(default_factory=Counter)
    """By reason."""


def bind_udp(source: str, host: IPv4Address | IPv6Address, port: int) -> socket.socket:
    """A socket of our own on the port. Raises SourceError when it cannot be had."""
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        if host.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(host), port))
    except OSError as err:
        if sock is not None:  # else the system has no IPv6, or no file left
            sock.close()
        reason = f"cannot listen on {host} port {port}: {err.strerror}"
        raise SourceError(source, reason) from err
    got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if got < RECEIVE_BUFFER_BYTES:  # Linux answers with twice what it gives
        _repeats.log(
            logging.WARNING,
            source,
            "source %s: receive buffer of %d bytes instead of %d: raise net.core.rmem_max",
            source,
            got,
            RECEIVE_BUFFER_BYTES,
        )
    return sock


class DatagramReader:
    """Reads one socket from now on, and owns it; on the event loop only.

    ``before`` is read first, so that no BYE on the port above overtakes the audio of a call.
    ``fail`` takes the error that ends the source, where reading becomes impossible.
    """

    def __init__(
        self,
        source: str,
        sock: socket.socket,
        receive: Receive,
        traffic: Traffic,
        now: Callable[[], float],
        fail: Callable[[SourceError], None],
        before: DatagramReader | None = None,
        max_bytes: int = MAX_DATAGRAM_BYTES,
    ) -> None:
        self._source = source
        self._sock = sock
        self._receive = receive
        self._traffic = traffic
        self._now = now
        self._fail = fail
        self._before = before
        self._max_bytes = max_bytes
        self._kernel_drops = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self.drain)

    def close(self) -> None:
        """Read no more, and give the port back."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def drain(self) -> None:
        """Read until there is nothing left, or others must have their turn."""
        if self._before is not None:
            self._before.drain()
        traffic = self._traffic
        for _ in range(DRAIN_LIMIT):
            try:
                data, ancillary, flags, sender = self._sock.recvmsg(
                    self._max_bytes, _ANCILLARY_BYTES
                )
            except BlockingIOError:
                return
            except OSError as err:
                self._fail(SourceError(self._source, f"receiving: {err.strerror}"))
                return
            traffic.received += 1
            if ancillary:
                self._count_kernel_drops(ancillary)
            if flags & socket.MSG_TRUNC:
                traffic.drops[Malformed.OVERSIZED.value] += 1
                continue
            self._receive(data, (sender[0], sender[1]), self._now())

    def _count_kernel_drops(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL and len(value) == 4:
                (total,) = _UINT32.unpack(value)
                self._traffic.drops["kernel"] += total - self._kernel_drops & 0xFFFF_FFFF
                self._kernel_drops = total
