"""The bounded queue between callbacks and the consumer."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest

from streamguard.errors import SourceError
from streamguard.events import Audio, CallStarted, EndReason, LegEnded, SourceEvent
from streamguard.sources.base import EventQueue, new_id


def audio(position: int) -> Audio:
    return Audio("leg", position, np.zeros(1, np.int16), 0.0)


async def test_a_full_queue_drops_the_oldest_samples_and_keeps_every_start_and_end() -> None:
    drops: Counter[str] = Counter()
    queue = EventQueue(4, drops)
    started, ended = CallStarted("s", "call", 0.0), LegEnded("leg", EndReason.HANGUP, 0.0)
    newest = [audio(position) for position in range(10)]
    events: list[SourceEvent] = [started, *newest, ended]
    for event in events:
        queue.put(event)
    assert len(queue) == 4
    assert drops["overload"] == 8
    got: list[SourceEvent] = []

    async def emit(event: SourceEvent) -> None:
        got.append(event)

    queue.fail(SourceError("s", "over"))
    with pytest.raises(SourceError):
        await queue.pump(emit)
    assert got == [started, newest[8], newest[9], ended]


async def test_a_slow_consumer_gets_events_in_order() -> None:
    queue = EventQueue(100, Counter())
    got: list[int] = []
    done = asyncio.Event()

    async def emit(event: SourceEvent) -> None:
        assert isinstance(event, Audio)
        await asyncio.sleep(0)
        got.append(event.first_sample)
        if len(got) == 20:
            done.set()

    pump = asyncio.create_task(queue.pump(emit))
    for position in range(20):
        queue.put(audio(position))
        await asyncio.sleep(0)
    await done.wait()
    pump.cancel()
    assert got == list(range(20))


def test_ids_are_opaque_and_differ() -> None:
    ids = {new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(one.isalnum() for one in ids)
