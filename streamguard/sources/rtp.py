"""RTP over UDP: the sockets around :class:`~streamguard.sources.rtp_port.RtpPort`.

Sockets are read by hand (``add_reader`` and drain until there is nothing left): plain asyncio
endpoints read one datagram per turn of the loop and lost half of the bursts of 50 packets.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable

from pydantic import IPvAnyNetwork

from streamguard.clock import Clock
from streamguard.errors import SourceError
from streamguard.events import Audio, SourceEvent, SourceUp
from streamguard.protocols.rtp import Malformed
from streamguard.sources.base import Emit, SourceStats
from streamguard.sources.event_queue import EventQueue
from streamguard.sources.rtp_port import Address, LegCount, RtpPort
from streamguard.sources.settings import RtpSettings

logger = logging.getLogger(__name__)

MAX_DATAGRAM_BYTES = 2_048
"""One Ethernet frame with room to spare; the kernel cuts longer ones, and they are dropped."""
RECEIVE_BUFFER_BYTES = 1 << 20
"""Per socket: seconds of G.711, for the moments in which the loop is busy elsewhere."""
DRAIN_LIMIT = 512
"""Datagrams of one socket per turn of the loop: a flooded port must not starve the others."""
TICK_S = 0.05
"""How often time is noticed where no packet arrives: holes, inactivity, quality."""
QUEUE_EVENTS = 8_192
"""2.5 s of 64 legs at 20 ms a packet."""

_SO_RXQ_OVFL = 40
"""Linux: report, with each datagram, how many the kernel has dropped; not in Python's socket."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(4)
_UINT32 = struct.Struct("=I")

_Receive = Callable[[bytes, Address, float], list[SourceEvent]]


class RtpSource:
    """Listens on the ports of its settings; counters are by reason, for the whole source."""

    def __init__(self, settings: RtpSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._received = 0
        self._drops: Counter[str] = Counter()
        self._legs = LegCount(settings.max_legs)
        self._last_audio_at: float | None = None
        networks = settings.allow
        self._is_allowed = functools.lru_cache(maxsize=1024)(lambda host: _is_in(host, networks))

    @property
    def name(self) -> str:
        return self._settings.name

    def stats(self) -> SourceStats:
        return SourceStats(
            received=self._received,
            dropped={reason: count for reason, count in self._drops.items() if count},
            legs_active=self._legs.active,
            legs_started=self._legs.started,
            last_audio_at=self._last_audio_at,
        )

    async def run(self, emit: Emit) -> None:
        """Receive until cancelled; raises SourceError when a port cannot be had or breaks."""
        loop = asyncio.get_running_loop()
        self._legs.active = 0
        queue = EventQueue(QUEUE_EVENTS, self._drops)
        ports: list[RtpPort] = []
        with contextlib.ExitStack() as stack:
            for number in self._settings.ports:
                port = RtpPort(self.name, self._settings, self._legs, self._drops, self._is_allowed)
                ports.append(port)
                media_socket = stack.enter_context(self._bind(number))
                control_socket = stack.enter_context(self._bind(number + 1))
                media = _Reader(self, media_socket, port.datagram, queue)
                control = _Reader(self, control_socket, port.control, queue, before=media)
                for sock, reader in ((media_socket, media), (control_socket, control)):
                    loop.add_reader(sock, reader.drain)
                    stack.callback(loop.remove_reader, sock)

            timer: asyncio.TimerHandle

            def tick() -> None:
                nonlocal timer
                timer = loop.call_later(TICK_S, tick)
                now = self._clock.monotonic()
                for port in ports:
                    self.deliver(port.tick(now), queue)

            timer = loop.call_later(TICK_S, tick)
            stack.callback(lambda: timer.cancel())
            await emit(SourceUp(self.name, f"{len(ports)} ports on {self._settings.host}"))
            await queue.pump(emit)

    def count_datagram(self) -> float:
        """Note one datagram; its time of arrival."""
        self._received += 1
        return self._clock.monotonic()

    def count_drop(self, reason: str, count: int = 1) -> None:
        self._drops[reason] += count

    def deliver(self, events: list[SourceEvent], queue: EventQueue) -> None:
        """Put events on their way, and remember when there was audio."""
        for event in events:
            if isinstance(event, Audio):
                self._last_audio_at = event.received_at
            queue.put(event)

    def _bind(self, port: int) -> socket.socket:
        host = self._settings.host
        family = socket.AF_INET if host.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
            if host.version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(host), port))
        except OSError as err:
            sock.close()
            reason = f"cannot listen on {host} port {port}: {err.strerror}"
            raise SourceError(self.name, reason) from err
        got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        if got < RECEIVE_BUFFER_BYTES:  # Linux answers with twice what it gives
            logger.warning(
                "source %s: receive buffer of %d bytes instead of %d: raise net.core.rmem_max",
                self.name,
                got,
                RECEIVE_BUFFER_BYTES,
            )
        return sock


class _Reader:
    """The reading end of one socket; ``before`` is read first, so that no BYE overtakes audio."""

    def __init__(
        self,
        source: RtpSource,
        sock: socket.socket,
        receive: _Receive,
        queue: EventQueue,
        before: _Reader | None = None,
    ) -> None:
        self._source = source
        self._sock = sock
        self._receive = receive
        self._queue = queue
        self._before = before
        self._kernel_drops = 0

    def drain(self) -> None:
        """Read until there is nothing left, or others must have their turn."""
        if self._before is not None:
            self._before.drain()
        for _ in range(DRAIN_LIMIT):
            try:
                data, ancillary, flags, sender = self._sock.recvmsg(
                    MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES
                )
            except BlockingIOError:
                return
            except OSError as err:
                self._queue.fail(SourceError(self._source.name, f"receiving: {err.strerror}"))
                return
            now = self._source.count_datagram()
            if ancillary:
                self._count_kernel_drops(ancillary)
            if flags & socket.MSG_TRUNC:
                self._source.count_drop(Malformed.OVERSIZED.value)
                continue
            self._source.deliver(self._receive(data, (sender[0], sender[1]), now), self._queue)

    def _count_kernel_drops(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL and len(value) == 4:
                (total,) = _UINT32.unpack(value)
                self._source.count_drop("kernel", total - self._kernel_drops & 0xFFFF_FFFF)
                self._kernel_drops = total


def _is_in(host: str, networks: tuple[IPvAnyNetwork, ...]) -> bool:
    if not networks:
        return True
    address = ipaddress.ip_address(host)
    return any(address.version == net.version and address in net for net in networks)
