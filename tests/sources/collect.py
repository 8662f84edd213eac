"""What the tests of sources share: a place for events, and a free pair of ports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable

import numpy as np
import numpy.typing as npt

from streamguard.events import Audio, Gap, LegStarted, SourceEvent
from streamguard.sources.base import Source


class Collector:
    """Keeps every event; a test waits until what it needs is there."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []
        self._changed = asyncio.Event()

    async def emit(self, event: SourceEvent) -> None:
        self.events.append(event)
        self._changed.set()

    def of(self, *kinds: type) -> list[SourceEvent]:
        return [event for event in self.events if isinstance(event, kinds)]

    def legs(self) -> list[LegStarted]:
        return [event for event in self.events if isinstance(event, LegStarted)]

    async def until(self, done: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not done():
                self._changed.clear()
                await self._changed.wait()


async def eventually(done: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for what announces itself by no event (counters)."""
    async with asyncio.timeout(timeout_s):
        while not done():  # noqa: ASYNC110  # a snapshot has nothing to wait on
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(source: Source) -> AsyncIterator[Collector]:
    """The source at work, ready to receive; an error of its own comes out at the end."""
    collector = Collector()
    task = asyncio.create_task(source.run(collector.emit))
    ready = asyncio.create_task(collector.until(lambda: bool(collector.events)))
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        yield collector
    finally:
        ready.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def free_ports(count: int = 1) -> list[int]:
    """Even ports whose neighbour above is free too."""
    found: list[int] = []
    port = 42_000 + 2 * int(np.random.default_rng().integers(0, 4_000))
    while len(found) < count:
        port += 2
        with contextlib.ExitStack() as stack:
            try:
                for number in (port, port + 1):
                    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    stack.enter_context(sock)
                    sock.bind(("127.0.0.1", number))
            except OSError:
                continue
            found.append(port)
    return found


def samples_of(events: Iterable[SourceEvent], leg: str) -> npt.NDArray[np.float64]:
    """A leg as its listener has it; gaps are zeros. Fails on holes in the positions."""
    parts: list[npt.NDArray[np.float64]] = []
    position = 0
    for event in events:
        if isinstance(event, Audio | Gap) and event.leg == leg:
            assert event.first_sample == position
            if isinstance(event, Audio):
                part = event.samples.astype(np.float64)
            else:
                part = np.zeros(event.count)
            parts.append(part)
            position += len(part)
    return np.concatenate(parts) if parts else np.zeros(0)
