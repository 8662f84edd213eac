"""Bare RTP on fixed ports: the sockets around :class:`~streamguard.sources.rtp_port.RtpPort`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from streamguard.clock import Clock
from streamguard.errors import ProtocolError, SourceError
from streamguard.events import Audio, SourceEvent, SourceUp
from streamguard.protocols.srtp import SrtpReceiver, parse_inline
from streamguard.sources.base import Emit, Refusal, SourceStats
from streamguard.sources.event_queue import EventQueue
from streamguard.sources.networks import membership
from streamguard.sources.rtp_port import LegCount, RtpPort
from streamguard.sources.rtp_socket import (
    Address,
    DatagramReader,
    Traffic,
    bind_udp,
)
from streamguard.sources.settings import RtpSettings

TICK_S = 0.05
"""How often time is noticed where no packet arrives: holes, inactivity, quality."""
QUEUE_EVENTS_PER_LEG = 128
"""2.5 s at 20 ms a packet."""


class RtpSource:
    """Listens on the ports of its settings; counters are by reason, for the whole source."""

    def __init__(self, settings: RtpSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._traffic = Traffic()
        self._legs = LegCount(settings.max_legs)
        self._last_audio_at: float | None = None
        self._is_allowed = membership(settings.allow)

    @property
    def name(self) -> str:
        return self._settings.name

    def stats(self) -> SourceStats:
        return SourceStats(
            received=self._traffic.received,
            dropped={reason: count for reason, count in self._traffic.drops.items() if count},
            legs_active=self._legs.active,
            legs_started=self._legs.started,
            last_audio_at=self._last_audio_at,
        )

    def refuse_calls(self, why: Refusal | None) -> None:
        """Bare RTP has no answer to give: packets that would begin a call are dropped, counted."""
        self._legs.refusal = why

    async def run(self, emit: Emit) -> None:
        """Receive until cancelled; raises SourceError when a port cannot be had or breaks."""
        loop = asyncio.get_running_loop()
        settings, drops = self._settings, self._traffic.drops
        self._legs.active = 0
        queue = EventQueue(QUEUE_EVENTS_PER_LEG * settings.max_legs, drops)
        make_opener = self._make_opener()
        ports: list[RtpPort] = []
        with contextlib.ExitStack() as stack:
            for number in settings.ports:
                port = RtpPort(
                    self.name, settings, self._legs, drops, self._is_allowed, make_opener
                )
                ports.append(port)
                media = self._reader(number, port.datagram, queue)
                stack.callback(media.close)
                control = self._reader(number + 1, port.control, queue, before=media)
                stack.callback(control.close)

            timer: asyncio.TimerHandle

            def tick() -> None:
                nonlocal timer
                timer = loop.call_later(TICK_S, tick)
                now = self._clock.monotonic()
                for port in ports:
                    self._deliver(port.tick(now), queue)

            timer = loop.call_later(TICK_S, tick)
            stack.callback(lambda: timer.cancel())
            await emit(SourceUp(self.name, f"{len(ports)} ports on {self._settings.host}"))
            await queue.pump(emit)

    def _make_opener(self) -> Callable[[], SrtpReceiver] | None:
        srtp = self._settings.srtp
        if srtp is None:
            return None
        try:
            key = parse_inline(f"inline:{srtp.key.read()}")
        except (ValueError, ProtocolError) as err:
            raise SourceError(self.name, f"srtp.key: {err}") from err
        return lambda: SrtpReceiver(srtp.suite, key)

    def _reader(
        self,
        number: int,
        receive: Callable[[bytes, Address, float], list[SourceEvent]],
        queue: EventQueue,
        before: DatagramReader | None = None,
    ) -> DatagramReader:
        return DatagramReader(
            self.name,
            bind_udp(self.name, self._settings.host, number),
            lambda data, sender, now: self._deliver(receive(data, sender, now), queue),
            self._traffic,
            self._clock.monotonic,
            queue.fail,
            before,
        )

    def _deliver(self, events: list[SourceEvent], queue: EventQueue) -> None:
        """Put events on their way, and remember when there was audio."""
        for event in events:
            if isinstance(event, Audio):
                self._last_audio_at = event.received_at
            queue.put(event)
