"""Media WebSockets over real connections on loopback: what is heard, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from streamguard.errors import SourceError
from streamguard.events import Audio, CallStarted, EndReason, LegEnded, SourceUp, Tone
from streamguard.sources.base import Refusal
from tests.protocols.media_play import FIRST_HZ, SECOND_HZ, transcript
from tests.sources.collect import Collector, eventually, running
from tests.sources.media_client import (
    alaw,
    ends,
    heard,
    refused,
    send,
    source_with,
    ulaw,
    until_ended,
    url,
    wide,
)


@pytest.mark.parametrize(
    ("path", "recording", "expected"),
    [
        ({"dialect": "twilio"}, "twilio", [ulaw(FIRST_HZ), ulaw(SECOND_HZ)]),
        ({"dialect": "telnyx"}, "telnyx", [alaw(FIRST_HZ), alaw(SECOND_HZ)]),
        ({"dialect": "vonage"}, "vonage", [wide(FIRST_HZ)]),
        ({"dialect": "freeswitch"}, "freeswitch", [wide(FIRST_HZ), wide(SECOND_HZ)]),
        ({"dialect": "asterisk"}, "asterisk_plain", [wide(FIRST_HZ)]),
        ({"dialect": "asterisk"}, "asterisk_json", [wide(FIRST_HZ)]),
    ],
)
async def test_each_dialect_is_heard_sample_by_sample(
    path: dict[str, Any], recording: str, expected: list[np.ndarray[Any, Any]]
) -> None:
    source = source_with(path)
    async with running(source) as collector:
        async with connect(url(source, f"/{path['dialect']}")) as client:
            await send(client, transcript(recording))
            if recording not in {"twilio", "telnyx"}:  # their last message ends the call
                await client.close()
            with pytest.raises(ConnectionClosed):
                await client.recv()  # nothing is ever said to these
        assert await until_ended(collector) == [EndReason.HANGUP]
        assert len(collector.legs()) == len(expected)
        for leg, samples in zip(heard(collector), expected, strict=True):
            np.testing.assert_array_equal(leg, samples)
        stats = source.stats()
    assert (stats.legs_started, stats.legs_active) == (len(expected), 0)
    duplicates = {"duplicate": 1} if recording == "telnyx" else {}
    assert stats.dropped == duplicates
    assert stats.last_audio_at is not None
    assert bool(collector.of(Tone)) == (recording not in {"telnyx", "freeswitch"})


@pytest.mark.parametrize(
    ("dialect", "subprotocol"), [("freeswitch", "audio.drachtio.org"), ("asterisk", "media")]
)
async def test_the_subprotocol_that_a_module_asks_for_is_accepted(
    dialect: str, subprotocol: str
) -> None:
    source = source_with({"dialect": dialect})
    async with running(source):
        async with connect(
            url(source, f"/{dialect}"), subprotocols=[Subprotocol(subprotocol)]
        ) as client:
            assert client.subprotocol == subprotocol


async def test_a_call_too_many_is_refused_with_the_status_for_it() -> None:
    source = source_with({"dialect": "vonage"}, {"dialect": "twilio"}, max_calls=1)
    async with running(source) as collector:
        async with connect(url(source, "/vonage")) as client:
            await send(client, transcript("vonage")[:2])
            await collector.until(lambda: bool(collector.of(Audio)))
            assert await refused(source, "/twilio") == 503
            assert source.stats().dropped == {"busy": 1}
        await until_ended(collector)
        await eventually(lambda: source.stats().legs_active == 0)
        assert await refused(source, "/twilio") == 0


async def test_while_calls_are_refused_those_that_are_up_go_on() -> None:
    source = source_with({"dialect": "vonage"}, {"dialect": "audiohook"})
    first, second, third, *_ = transcript("vonage")
    async with running(source) as collector, connect(url(source, "/vonage")) as up:
        await send(up, [first, second])
        await collector.until(lambda: bool(collector.of(Audio)))
        source.refuse_calls(Refusal.DRAINING)
        assert await refused(source, "/vonage") == 503
        async with connect(url(source, "/audiohook")) as hook:  # which has a word for it
            await send(hook, transcript("audiohook")[:1])
            disconnect = json.loads(await hook.recv())
            assert (disconnect["type"], disconnect["parameters"]["reason"]) == (
                "disconnect",
                "error",
            )
        await send(up, [third])
        await collector.until(lambda: len(collector.of(Audio)) == 2)
        assert source.stats().dropped == {"draining": 2}
        source.refuse_calls(None)
        assert await refused(source, "/vonage") == 0


async def test_a_connection_that_breaks_is_a_lost_call() -> None:
    source = source_with({"dialect": "twilio"})
    async with running(source) as collector:
        async with connect(url(source, "/twilio")) as client:
            await send(client, transcript("twilio")[:5])
            await collector.until(lambda: bool(collector.of(Audio)))
            client.transport.abort()
        assert await until_ended(collector) == [EndReason.SOURCE_LOST]
        assert source.stats().dropped == {"connection_lost": 1}


async def test_a_peer_that_answers_no_ping_is_gone() -> None:
    source = source_with({"dialect": "vonage"}, heartbeat_s=0.1)
    async with running(source) as collector:
        reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
        writer.write(
            b"GET /vonage HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        first = transcript("vonage")[0].content
        assert isinstance(first, str)
        # One text frame, masked with zeros (RFC 6455 section 5.2); then nothing, not even a pong.
        writer.write(b"\x81\xfe" + len(first).to_bytes(2, "big") + bytes(4) + first.encode())
        assert await until_ended(collector) == [EndReason.SOURCE_LOST]
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_of_many_that_come_at_once_only_so_many_find_room() -> None:
    source = source_with({"dialect": "vonage"}, max_calls=3)
    async with running(source), contextlib.AsyncExitStack() as stack:

        async def one() -> int:
            try:
                await stack.enter_async_context(connect(url(source, "/vonage")))
            except InvalidStatus as err:
                return err.response.status_code
            return 0

        assert sorted(await asyncio.gather(*(one() for _ in range(12)))) == [0] * 3 + [503] * 9


async def test_a_call_that_falls_silent_is_ended_and_one_that_is_held_is_not() -> None:
    source = source_with({"dialect": "audiohook"}, {"dialect": "vonage"}, inactivity_s=0.2)
    async with running(source) as collector:
        async with (
            connect(url(source, "/audiohook")) as hook,
            connect(url(source, "/vonage")) as silent,
        ):
            await send(hook, transcript("audiohook")[:8])  # until it pauses
            await send(silent, transcript("vonage")[:2])
            with pytest.raises(ConnectionClosed):
                await silent.recv()
            assert await until_ended(collector) == [EndReason.INACTIVITY]
            await asyncio.sleep(0.3)
            assert len(ends(collector)) == 1
        await until_ended(collector, 2)


async def test_a_connection_that_begins_no_call_is_closed() -> None:
    source = source_with({"dialect": "twilio"}, start_timeout_s=0.1)
    async with running(source) as collector, connect(url(source, "/twilio")) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert collector.of(CallStarted) == []
        assert source.stats().dropped == {"start_timeout": 1}


async def test_a_message_that_is_too_long_closes_its_connection_alone() -> None:
    source = source_with({"dialect": "vonage"}, max_message_bytes=2_000)
    async with running(source) as collector:
        async with connect(url(source, "/vonage")) as client:
            await send(client, transcript("vonage")[:2])
            await client.send(bytes(2_002))
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        assert await until_ended(collector) == [EndReason.SOURCE_LOST]
        async with connect(url(source, "/vonage")) as client:
            await send(client, transcript("vonage"))
            await collector.until(lambda: len(collector.legs()) == 2)


async def test_a_sender_that_is_faster_than_speech_is_read_slowly_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamguard.sources.connections.AUDIO_AHEAD_S", 0.5)
    source = source_with({"dialect": "freeswitch"})
    async with running(source) as collector, connect(url(source, "/freeswitch")) as client:
        for _ in range(4):  # 2 s at once, where half a second is allowed
            await client.send(bytes(8_000))
        await collector.until(lambda: len(collector.of(Audio)) == 4)
        assert not source.stats().dropped
    assert "is read slowly" in caplog.text


async def test_what_is_no_web_socket_gets_a_status_and_no_name_of_ours() -> None:
    source = source_with({"dialect": "twilio"})
    async with running(source):
        for request, status in (
            (b"GET /twilio HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
            (b"POST /twilio HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"405"),
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split(b" ")[1] == status
            if status != b"400":  # that one is aiohttp's own affair
                assert b"Server: streamguard" in answer
            writer.close()
            await writer.wait_closed()


async def test_strangers_who_only_connect_take_so_many_sockets_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamguard.sources.media_ws.SOCKETS_BESIDE", 1)
    source = source_with({"dialect": "twilio"}, max_calls=1)
    async with running(source):
        idle = [await asyncio.open_connection("127.0.0.1", source.port) for _ in range(2)]
        for reader, writer in idle:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"404" in await reader.readuntil(b"\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert source.stats().dropped == {"sockets": 1}
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        assert await refused(source, "/none") == 404


async def test_the_end_of_the_source_closes_every_connection_politely() -> None:
    source = source_with({"dialect": "vonage"}, {"dialect": "audiohook"})
    async with contextlib.AsyncExitStack() as stack:
        async with running(source) as collector:
            assert collector.of(SourceUp)
            client = await stack.enter_async_context(connect(url(source, "/vonage")))
            hook = await stack.enter_async_context(connect(url(source, "/audiohook")))
            await send(client, transcript("vonage")[:3])
            await send(hook, transcript("audiohook")[:2])
            await collector.until(lambda: len(collector.legs()) == 3)
            assert json.loads(await hook.recv())["type"] == "opened"
        assert collector.of(LegEnded) == []  # whoever ran it tells of the ends
        assert json.loads(await hook.recv())["type"] == "disconnect"
        for one in (client, hook):
            with pytest.raises(ConnectionClosed) as closed:
                await one.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1000


async def test_a_port_that_is_taken_is_a_source_error_naming_it() -> None:
    source = source_with({"dialect": "vonage"})
    async with running(source):
        again = source_with({"dialect": "vonage"}, listen=f"127.0.0.1:{source.port}")
        with pytest.raises(SourceError, match=f"cannot listen on 127.0.0.1:{source.port}"):
            await again.run(Collector().emit)
