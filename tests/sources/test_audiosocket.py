"""AudioSocket over real TCP connections on loopback, from a client of our own."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from streamguard.clock import SystemClock
from streamguard.errors import SourceError
from streamguard.events import Audio, CallEnded, CallStarted, EndReason, LegRole, SourceUp
from streamguard.protocols.audiosocket import HANGUP_FRAME, FrameType, build_frame
from streamguard.sources.audiosocket import AudioSocketSource
from streamguard.sources.audiosocket_settings import AudioSocketSettings
from streamguard.sources.base import Refusal
from tests.protocols.media_play import DATA, FIRST_HZ, sine
from tests.sources.collect import Collector, eventually, running, samples_of


def source_with(**values: Any) -> AudioSocketSource:
    settings = {"name": "pbx", "listen": "127.0.0.1:0", "role": "caller", **values}
    return AudioSocketSource(AudioSocketSettings.model_validate(settings), SystemClock())


@contextlib.asynccontextmanager
async def connected(
    source: AudioSocketSource,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def named() -> bytes:
    return build_frame(FrameType.UUID, uuid.uuid4().bytes)


AUDIO = build_frame(0x10, bytes(320))


def ends(collector: Collector) -> list[EndReason]:
    return [event.reason for event in collector.events if isinstance(event, CallEnded)]


async def until_ended(collector: Collector, count: int = 1) -> list[EndReason]:
    await collector.until(lambda: len(ends(collector)) == count)
    return ends(collector)


async def test_a_call_in_pieces_arrives_sample_by_sample() -> None:
    recording = (DATA / "audiosocket" / "call.bin").read_bytes()
    source = source_with()
    async with running(source) as collector:
        async with connected(source) as (reader, writer):
            for at in range(0, len(recording), 101):  # cut wherever TCP likes
                writer.write(recording[at : at + 101])
                await writer.drain()
                await asyncio.sleep(0)
            assert await until_ended(collector) == [EndReason.HANGUP]
            assert await reader.read() == HANGUP_FRAME  # that is all we ever say
        (leg,) = collector.legs()
        stats = source.stats()
    assert (leg.role, leg.rate_hz, leg.source) == (LegRole.CALLER, 16_000, "pbx")
    np.testing.assert_array_equal(
        samples_of(collector.events, leg.leg), sine(16_000, 3_200, FIRST_HZ)
    )
    assert (stats.legs_started, stats.legs_active, dict(stats.dropped)) == (1, 0, {})
    assert stats.last_audio_at is not None


async def test_closing_is_hanging_up() -> None:
    source = source_with()
    async with running(source) as collector:
        async with connected(source) as (_, writer):
            writer.write(named() + AUDIO)
            await collector.until(lambda: bool(collector.of(Audio)))
        assert await until_ended(collector) == [EndReason.HANGUP]


async def test_a_connection_that_breaks_is_a_lost_call() -> None:
    source = source_with()
    async with running(source) as collector:
        async with connected(source) as (_, writer):
            writer.write(named() + AUDIO)
            await collector.until(lambda: bool(collector.of(Audio)))
            _reset(writer)
        assert await until_ended(collector) == [EndReason.SOURCE_LOST]
        assert source.stats().dropped == {"connection_lost": 1}


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    import socket
    import struct

    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_call_too_many_is_hung_up_at_once_and_the_others_go_on() -> None:
    source = source_with(max_calls=1)
    async with running(source) as collector, connected(source) as (_, first):
        first.write(named() + AUDIO)
        await collector.until(lambda: bool(collector.of(Audio)))
        async with connected(source) as (reader, second):
            second.write(named())
            assert await reader.read() == HANGUP_FRAME
        assert source.stats().dropped == {"busy": 1}
        first.write(AUDIO)
        await collector.until(lambda: len(collector.of(Audio)) == 2)
        assert len(collector.of(CallStarted)) == 1


async def test_while_calls_are_refused_those_that_are_up_go_on() -> None:
    source = source_with()
    async with running(source) as collector, connected(source) as (_, up):
        up.write(named() + AUDIO)
        await collector.until(lambda: bool(collector.of(Audio)))
        source.refuse_calls(Refusal.DRAINING)
        async with connected(source) as (reader, _):
            assert await reader.read() == HANGUP_FRAME
        assert source.stats().dropped == {"draining": 1}
        up.write(AUDIO)
        await collector.until(lambda: len(collector.of(Audio)) == 2)
        source.refuse_calls(None)
        async with connected(source) as (_, again):
            again.write(named())
            await collector.until(lambda: len(collector.of(CallStarted)) == 2)


async def test_who_is_not_allowed_gets_nothing() -> None:
    source = source_with(allow=["192.0.2.0/24"])
    async with running(source) as collector:
        async with connected(source) as (reader, writer):
            writer.write(named() + AUDIO)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        assert collector.of(CallStarted) == []
        assert source.stats().dropped == {"not_allowed": 1}


async def test_a_call_that_falls_silent_is_ended_and_says_why() -> None:
    source = source_with(inactivity_s=0.15)
    async with running(source) as collector, connected(source) as (reader, writer):
        writer.write(named() + AUDIO)
        assert await until_ended(collector) == [EndReason.INACTIVITY]
        assert await reader.read() == HANGUP_FRAME


async def test_a_connection_that_begins_no_call_is_closed() -> None:
    source = source_with(start_timeout_s=0.1)
    async with running(source) as collector, connected(source) as (reader, writer):
        writer.write(b"\x10\x01")  # half a header, and no more
        assert await reader.read() == HANGUP_FRAME
        assert collector.of(CallStarted) == []
        assert source.stats().dropped["start_timeout"] == 1


async def test_what_speaks_something_else_is_closed_and_counted() -> None:
    source = source_with()
    async with running(source) as collector, connected(source) as (reader, writer):
        writer.write(b"\x42\x00\x01?" * 200)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() in (HANGUP_FRAME, b"")
        assert collector.of(CallStarted) == []
        dropped = source.stats().dropped
        assert dropped["before_start"] == 100
        assert dropped["too_malformed"] == 1


async def test_a_sender_that_is_faster_than_speech_is_read_slowly_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamguard.sources.connections.AUDIO_AHEAD_S", 0.5)
    source = source_with()
    second = build_frame(0x10, bytes(16_000))
    async with running(source) as collector, connected(source) as (_, writer):
        writer.write(named() + second * 2)  # 2 s at once, where half a second is allowed
        writer.write(second)
        await collector.until(lambda: len(collector.of(Audio)) == 3)
        assert not source.stats().dropped
    assert "is read slowly" in caplog.text


async def test_frames_of_which_nothing_comes_are_paced_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = source_with()
    async with running(source) as collector, connected(source) as (_, writer):
        writer.write(named() + build_frame(0xFF, b"\x02") * 4_000)
        await collector.until(lambda: bool(collector.of(CallStarted)))
        await eventually(lambda: "is read slowly" in caplog.text)


async def test_the_end_of_the_source_hangs_up_and_leaves_the_port_free() -> None:
    source = source_with()
    async with running(source) as collector:
        assert collector.of(SourceUp)
        reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
        writer.write(named() + AUDIO)
        await collector.until(lambda: bool(collector.of(Audio)))
        port = source.port
    assert await reader.read() == HANGUP_FRAME
    assert collector.of(CallEnded) == []  # whoever ran it tells of the ends
    writer.close()
    again = source_with(listen=f"127.0.0.1:{port}")
    async with running(again) as collector, connected(again) as (_, writer):
        writer.write(named())
        await collector.until(lambda: bool(collector.of(CallStarted)))


async def test_a_port_that_is_taken_is_a_source_error_naming_it() -> None:
    source = source_with()
    async with running(source):
        with pytest.raises(SourceError, match=f"cannot listen on 127.0.0.1:{source.port}"):
            await source_with(listen=f"127.0.0.1:{source.port}").run(Collector().emit)
