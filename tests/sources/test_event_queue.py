"""The bounded queue between callbacks and the consumer."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import SourceError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    LegEnded,
    LegRole,
    LegStarted,
    MediaChanged,
    SegmentStarted,
    SourceEvent,
)
from streamguard.sources.event_queue import EventQueue


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


class Passed:
    """Takes what a queue passes on."""

    def __init__(self) -> None:
        self.events: list[SourceEvent] = []

    async def emit(self, event: SourceEvent) -> None:
        self.events.append(event)

    async def all_of(self, queue: EventQueue) -> list[SourceEvent]:
        queue.fail(SourceError("s", "over"))
        with pytest.raises(SourceError):
            await queue.pump(self.emit)
        return self.events


def starts(call: str) -> list[SourceEvent]:
    leg = LegStarted("s", call, f"{call}.leg", LegRole.UNKNOWN, "PCMU", 8000, 0.0)
    return [CallStarted("s", call, 0.0), leg]


def ends(call: str) -> list[SourceEvent]:
    hangup = EndReason.HANGUP
    return [LegEnded(f"{call}.leg", hangup, 0.0), CallEnded(call, hangup, 0.0)]


async def test_marks_do_not_fill_the_queue_and_no_sample_is_misread() -> None:
    queue = EventQueue(8, Counter())
    for event in starts("c"):
        queue.put(event)
    for number in range(1000):
        queue.put(MediaChanged("c.leg", ("PCMU", "PCMA")[number % 2], 8000))
        queue.put(SegmentStarted("c.leg", number, "test"))
        queue.put(Audio("c.leg", number, np.zeros(1, np.int16), 0.0))
    assert len(queue) == 8
    passed = await Passed().all_of(queue)
    assert passed[:2] == starts("c")
    names = [type(event).__name__ for event in passed]
    assert names[-6:] == ["MediaChanged", "SegmentStarted", "Audio"] * 2
    assert len(passed) <= 8 + 2, "what waits, and one mark of each kind"
    media, segment, sample = passed[-6:-3]
    assert isinstance(media, MediaChanged)
    assert isinstance(segment, SegmentStarted)
    assert isinstance(sample, Audio)
    assert (media.codec, segment.first_sample, sample.first_sample) == ("PCMU", 998, 998)


async def test_calls_that_come_and_go_while_nobody_listens_go_as_a_whole() -> None:
    drops: Counter[str] = Counter()
    queue = EventQueue(12, drops)
    for number in range(100):
        for event in (*starts(f"c{number}"), audio(0), *ends(f"c{number}")):
            queue.put(event)
    assert len(queue) <= 12
    passed = await Passed().all_of(queue)
    whole = [e for e in passed if not isinstance(e, Audio)]
    kept = [e.call for e in whole if isinstance(e, CallStarted)]
    assert kept == [f"c{n}" for n in range(100 - len(kept), 100)]
    assert whole == [e for call in kept for e in (*starts(call), *ends(call))]
    assert drops["overload_call"] == 100 - len(kept)


async def test_the_end_of_a_call_that_is_known_is_never_dropped() -> None:
    queue = EventQueue(2, Counter())
    known = [f"c{number}" for number in range(20)]
    passed = Passed()
    for call in known:
        for event in starts(call):
            queue.put(event)
    pump = asyncio.create_task(queue.pump(passed.emit))
    await asyncio.sleep(0)
    pump.cancel()
    for call in known:
        for event in ends(call):
            queue.put(event)
    assert [e.call for e in await passed.all_of(queue) if isinstance(e, CallEnded)] == known


_STEP = st.tuples(
    st.sampled_from(("call", "media", "segment", "audio", "audio", "audio", "pass")),
    st.integers(0, 2),
)


@given(steps=st.lists(_STEP, min_size=30, max_size=120), limit=st.integers(1, 12))
def test_whatever_comes_the_queue_is_bounded_and_what_it_passes_on_makes_sense(
    steps: list[tuple[str, int]], limit: int
) -> None:
    """Against a model: each sample is read as it was meant, each leg has one start and one end."""
    asyncio.run(_check(steps, limit))


async def _check(steps: list[tuple[str, int]], limit: int) -> None:
    drops: Counter[str] = Counter()
    queue = EventQueue(limit, drops)
    passed = Passed()
    up: dict[int, str] = {}
    codecs: dict[str, str] = {}
    meant: dict[int, str] = {}
    """By the sample's position (here a serial number): the codec it was sent in."""
    for serial, (what, line) in enumerate(steps):
        events: list[SourceEvent] = []
        if what == "call":
            call = up.pop(line, None)
            if call is None:
                call = up[line] = f"c{serial}"
                codecs[call] = "PCMU"
                events = starts(call)
            else:
                events = ends(call)
        elif what == "pass":
            pump = asyncio.create_task(queue.pump(passed.emit))
            await asyncio.sleep(0)
            pump.cancel()
            await asyncio.wait([pump])
        elif line in up:
            call = up[line]
            if what == "media":
                codecs[call] = f"codec{serial}"
                events = [MediaChanged(f"{call}.leg", codecs[call], 8000)]
            elif what == "segment":
                events = [SegmentStarted(f"{call}.leg", serial, "test")]
            else:
                meant[serial] = codecs[call]
                events = [Audio(f"{call}.leg", serial, np.zeros(1, np.int16), 0.0)]
        for event in events:
            queue.put(event)
        assert len(queue) <= max(limit, 4 * 3), "beyond the limit, two starts and two ends a line"
    passed_on = await passed.all_of(queue)
    codec: dict[str, str] = {}
    heard = 0
    for event in passed_on:
        if isinstance(event, LegStarted):
            assert event.leg not in codec
            codec[event.leg] = event.codec
        elif isinstance(event, MediaChanged):
            assert event.leg in codec
            codec[event.leg] = event.codec
        elif isinstance(event, Audio):
            heard += 1
            assert codec[event.leg] == meant[event.first_sample]
        elif isinstance(event, LegEnded):
            del codec[event.leg]
    assert set(codec) == {f"{call}.leg" for call in up.values()}
    assert heard + drops["overload"] == len(meant)
