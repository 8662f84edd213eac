from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from streamguard.clock import SystemClock, VirtualClock
from streamguard.commands.check import source_text
from streamguard.errors import AudioFileError, SourceError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    LegEnded,
    LegRole,
    LegStarted,
    SourceDown,
    SourceEvent,
    SourceUp,
)
from streamguard.protocols.rtp import build_packet
from streamguard.sources.base import Refusal
from streamguard.sources.make import make_source
from streamguard.sources.pcap import PcapSource
from streamguard.sources.pcap_settings import PcapSettings
from tests.captures import START_UTC, rtp_packets, sip_call, tone
from tests.sources.collect import samples_of
from tools.capture_writer import Captured, ip, pcapng_bytes, udp, write_pcap

LENGTH_S = 2.0


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "call.pcap"
    write_pcap(path, sip_call(tone(LENGTH_S), tone(LENGTH_S, 600.0)), link_type=101)
    return path


def settings(*paths: Path, **more: Any) -> PcapSettings:
    return PcapSettings(name="tap", paths=paths, **more)


def cut_short(capture: Path, path: Path) -> Path:
    path.write_bytes(capture.read_bytes()[:-3_000])
    return path


async def played(
    source: PcapSource, emit: Callable[[SourceEvent], Awaitable[None]] | None = None
) -> list[SourceEvent]:
    events: list[SourceEvent] = []

    async def collect(event: SourceEvent) -> None:
        events.append(event)
        if emit is not None:
            await emit(event)

    await source.run(collect)
    return events


def said(events: list[SourceEvent]) -> list[Any]:
    """Events without ids and times."""
    names: dict[str, str] = {}
    out: list[Any] = []
    for event in events:
        fields = {}
        for name in type(event).__dataclass_fields__:
            value = getattr(event, name)
            if name in ("call", "leg"):
                value = names.setdefault(value, str(len(names)))
            if name == "samples":
                value = value.tobytes()
            if name != "received_at":
                fields[name] = value
        out.append((type(event).__name__, fields))
    return out


async def test_a_capture_becomes_the_events_of_its_calls(capture: Path) -> None:
    clock = VirtualClock()
    source = make_source(settings(capture), clock)
    assert isinstance(source, PcapSource)
    events = await played(source)
    assert isinstance(events[0], SourceUp)
    assert isinstance(events[1], CallStarted)
    assert isinstance(events[-2], CallEnded)
    assert isinstance(events[-1], SourceDown)
    legs = [event for event in events if isinstance(event, LegStarted)]
    assert [(leg.role, leg.source) for leg in legs] == [
        (LegRole.CALLER, "tap"),
        (LegRole.CALLEE, "tap"),
    ]
    assert legs[0].started_utc == pytest.approx(START_UTC + 0.08, abs=1e-3)
    for leg in legs:
        assert len(samples_of(events, leg.leg)) == LENGTH_S * 8_000
    # On a virtual clock the capture's own times are those of the run.
    assert clock.monotonic() == pytest.approx(0.1 + LENGTH_S + 0.05, abs=1e-3)
    audio = [event for event in events if isinstance(event, Audio)]
    times = [event.received_at for event in audio if event.leg == legs[1].leg]
    assert times == pytest.approx([0.105 + 0.02 * index for index in range(100)], abs=1e-3)
    stats = source.stats()
    assert (stats.received, stats.legs_active, stats.legs_started) == (204, 0, 2)
    assert stats.dropped == {}
    assert stats.last_audio_at == pytest.approx(times[-1], abs=1e-3)


async def test_the_events_do_not_depend_on_format_speed_or_clock(
    capture: Path, tmp_path: Path
) -> None:
    other = tmp_path / "call.pcapng"
    other.write_bytes(pcapng_bytes(sip_call(tone(LENGTH_S), tone(LENGTH_S, 600.0)), 101))
    virtual = await played(PcapSource(settings(capture), VirtualClock()))
    at_once = await played(PcapSource(settings(capture, speed=0), SystemClock()))
    fast = await played(PcapSource(settings(other, speed=20), SystemClock()))
    assert said(virtual) == said(at_once) == said(fast)


async def test_a_replay_is_paced_by_its_speed(capture: Path) -> None:
    class Paced(VirtualClock):
        reached: float = 0.0

        async def sleep_until(self, monotonic_s: float) -> None:
            self.reached = max(self.reached, monotonic_s)
            await super().sleep_until(monotonic_s)

    clock = Paced()
    await played(PcapSource(settings(capture, speed=4), clock))
    assert clock.reached == pytest.approx((0.15 + LENGTH_S) / 4, abs=1e-3)


async def test_long_pauses_of_a_capture_are_cut_short(tmp_path: Path) -> None:
    later = [
        Captured(frame.time_s + 86_400, frame.data) for frame in sip_call(tone(1.0), tone(1.0))
    ]
    path = tmp_path / "two.pcap"
    write_pcap(path, [*sip_call(tone(1.0), tone(1.0)), *later], link_type=101)
    clock = VirtualClock()
    events = await played(PcapSource(settings(path, max_pause_s=2), clock))
    assert len([event for event in events if isinstance(event, CallEnded)]) == 2
    assert clock.monotonic() < 5.0
    first, *_, last = (event for event in events if isinstance(event, LegStarted))
    assert first.started_utc is not None
    assert last.started_utc is not None
    assert last.started_utc - first.started_utc == pytest.approx(86_400, abs=0.1)


async def test_a_clock_that_is_set_back_in_mid_capture_stops_nothing(tmp_path: Path) -> None:
    frames = sip_call(tone(4.0), tone(4.0))
    half = len(frames) // 2
    set_back = [Captured(frame.time_s - 3_600, frame.data) for frame in frames[half:]]
    path = tmp_path / "set.pcap"
    write_pcap(path, [*frames[:half], *set_back], link_type=101)
    clock = VirtualClock()
    events = await played(PcapSource(settings(path), clock))
    legs = [event.leg for event in events if isinstance(event, LegStarted)]
    assert [len(samples_of(events, leg)) for leg in legs] == [32_000, 32_000]
    assert clock.monotonic() == pytest.approx(4.15, abs=0.05)


async def test_a_consumer_that_is_slow_makes_the_replay_wait_and_loses_nothing(
    capture: Path,
) -> None:
    async def slow(event: SourceEvent) -> None:
        await asyncio.sleep(0.001)

    events = await played(PcapSource(settings(capture, speed=0), SystemClock()), slow)
    assert said(events) == said(await played(PcapSource(settings(capture), VirtualClock())))


async def test_a_capture_that_breaks_off_is_played_to_there_and_told(
    capture: Path, tmp_path: Path
) -> None:
    cut = cut_short(capture, tmp_path / "cut.pcap")
    events: list[SourceEvent] = []

    async def collect(event: SourceEvent) -> None:
        events.append(event)

    with pytest.raises(AudioFileError, match="truncated: breaks off after"):
        await PcapSource(settings(cut), VirtualClock()).run(collect)
    ended = [event for event in events if isinstance(event, LegEnded)]
    assert len(ended) == 2
    assert not any(isinstance(event, SourceDown) for event in events)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "empty: 0 bytes"),
        (b"RIFFxxxxWAVE", "not a capture"),
    ],
)
async def test_what_is_no_capture_is_told_when_the_others_are_played(
    capture: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    bad = tmp_path / "bad.pcap"
    if content is not None:
        bad.write_bytes(content)
    source = PcapSource(settings(bad, capture), VirtualClock())
    with pytest.raises(AudioFileError, match=reason):
        await played(source)
    assert source.stats().legs_started == 2
    with pytest.raises(SourceError, match=r"bad\.pcap.*bad\.pcap"):
        await played(PcapSource(settings(bad, bad), VirtualClock()))


async def test_a_capture_without_a_call_says_what_was_in_it(tmp_path: Path) -> None:
    path = tmp_path / "noise.pcap"
    ping = ip("192.0.2.1", "192.0.2.2", 1, bytes(8))
    write_pcap(path, [Captured(START_UTC, ping)], link_type=101)
    with pytest.raises(AudioFileError, match=r"no call found in 1 frames \(transport 1\)"):
        await played(PcapSource(settings(path), VirtualClock()))


async def test_a_looped_capture_begins_again(capture: Path) -> None:
    calls = 0

    async def count(event: SourceEvent) -> None:
        nonlocal calls
        calls += isinstance(event, CallStarted)
        if calls == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await PcapSource(settings(capture, loop=True), VirtualClock()).run(count)
    assert calls == 3


async def test_while_draining_no_call_begins(capture: Path) -> None:
    source = PcapSource(settings(capture), VirtualClock())
    source.refuse_calls(Refusal.DRAINING)
    with pytest.raises(AudioFileError, match="no call found"):
        await played(source)
    assert source.stats().dropped["draining"] > 0
    source.refuse_calls(None)
    assert await played(source)


def test_check_tells_a_capture_in_words() -> None:
    assert source_text(settings(Path("calls.pcap"))) == "1 capture(s), 1x"
    looped = settings(Path("a.pcap"), Path("b.pcap"), speed=0, loop=True)
    assert source_text(looped) == "2 capture(s), as fast as possible, looped"


async def test_a_clock_that_leaps_by_ages_is_a_clock_that_was_set(tmp_path: Path) -> None:
    """Beyond 2**53 ticks of a float, time would not go on any more, and the replay neither."""
    packets = [build_packet(packet) for packet in rtp_packets(tone(0.4))]
    ends = ("192.0.2.1", 4_000), ("192.0.2.2", 5_000)
    late = [Captured(1e18, udp(*ends, packet)) for packet in packets]
    path = tmp_path / "leap.pcapng"
    path.write_bytes(pcapng_bytes([Captured(1.0, b"x"), *late], link_type=101, resolution=0))
    source = make_source(settings(path), VirtualClock())
    assert isinstance(source, PcapSource)
    async with asyncio.timeout(10):
        events = await played(source)
    assert len([event for event in events if isinstance(event, Audio)]) == len(packets)
    assert isinstance(events[-2], CallEnded)
