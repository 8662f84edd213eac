"""RTP over real sockets on loopback, from a sender of our own."""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from streamguard.clock import SystemClock
from streamguard.errors import SourceError
from streamguard.events import Audio, EndReason, LegEnded, LegStarted, SourceUp
from streamguard.protocols.rtcp import build_bye
from streamguard.protocols.rtp import build_packet
from streamguard.sources.rtp import RtpSource
from streamguard.sources.settings import RtpSettings
from tests.protocols.senders import packet, sent
from tests.sources.collect import Collector, eventually, free_ports, running, samples_of


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def source_on(ports: list[int], **values: Any) -> RtpSource:
    settings = RtpSettings.model_validate({"name": "trunk", "ports": ports, **values})
    return RtpSource(settings, SystemClock())


def ended(collector: Collector) -> list[LegEnded]:
    return [event for event in collector.events if isinstance(event, LegEnded)]


async def test_a_burst_of_packets_arrives_whole_and_in_order(sender: socket.socket) -> None:
    (port,) = free_ports()
    source = source_on([port])
    async with running(source) as collector:
        assert collector.of(SourceUp)
        for index in range(200):  # all at once: what plain asyncio endpoints lose
            sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
        await collector.until(lambda: len(collector.of(Audio)) == 200)
    (leg,) = collector.legs()
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), sent(range(200)))
    stats = source.stats()
    assert (stats.received, dict(stats.dropped), stats.legs_started) == (200, {}, 1)
    assert stats.last_audio_at is not None


async def test_bursts_of_fifty_packets_on_many_ports_lose_none(sender: socket.socket) -> None:
    ports = free_ports(8)
    source = source_on(ports)
    async with running(source) as collector:
        for burst in range(4):
            for port in ports:
                for index in range(50 * burst, 50 * (burst + 1)):
                    sender.sendto(build_packet(packet(index, ssrc=port)), ("127.0.0.1", port))
            expected = 50 * (burst + 1) * len(ports)
            await collector.until(lambda n=expected: len(collector.of(Audio)) == n)  # type: ignore[misc]  # early binding
    for leg in collector.legs():
        np.testing.assert_array_equal(samples_of(collector.events, leg.leg), sent(range(200)))
    assert dict(source.stats().dropped) == {}


async def test_protected_packets_are_opened_and_plain_ones_dropped(
    sender: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pylibsrtp = pytest.importorskip("pylibsrtp")
    key = bytes(range(30))
    monkeypatch.setenv("TEST_SRTP_KEY", base64.b64encode(key).decode())
    (port,) = free_ports()
    source = source_on([port], srtp={"key": {"env": "TEST_SRTP_KEY"}})
    policy = pylibsrtp.Policy(key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    async with running(source) as collector:
        session = pylibsrtp.Session(policy)
        for index in range(5):
            protected = session.protect(build_packet(packet(index, ssrc=1)))
            sender.sendto(protected, ("127.0.0.1", port))
            sender.sendto(build_packet(packet(index, ssrc=9)), ("127.0.0.1", port))
        sender.sendto(session.protect_rtcp(build_bye(1)), ("127.0.0.1", port + 1))
        await collector.until(lambda: bool(ended(collector)))
    (leg,) = collector.legs()
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), sent(range(5)))
    assert source.stats().dropped == {"srtp": 5}


async def test_an_srtp_key_that_is_none_is_an_error_that_does_not_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pylibsrtp")
    monkeypatch.setenv("TEST_SRTP_KEY", "c2VjcmV0")
    (port,) = free_ports()
    with pytest.raises(SourceError, match=r"srtp\.key") as error:
        await source_on([port], srtp={"key": {"env": "TEST_SRTP_KEY"}}).run(Collector().emit)
    assert "c2VjcmV0" not in str(error.value)


async def test_a_bye_on_the_port_above_ends_the_leg(sender: socket.socket) -> None:
    (port,) = free_ports()
    source = source_on([port])
    async with running(source) as collector:
        for index in range(3):
            sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
        await collector.until(lambda: len(collector.of(Audio)) == 3)
        assert source.stats().legs_active == 1
        for index in range(3, 50):
            sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
        sender.sendto(build_bye(0xABCD), ("127.0.0.1", port + 1))
        await collector.until(lambda: bool(ended(collector)))
    assert len(collector.of(Audio)) == 50  # the BYE did not overtake what was sent before it
    assert ended(collector)[0].reason is EndReason.HANGUP
    assert source.stats().legs_active == 0


async def test_a_leg_ends_without_packets_and_the_next_stream_is_a_new_call(
    sender: socket.socket,
) -> None:
    (port,) = free_ports()
    async with running(source_on([port], inactivity_s=0.1)) as collector:
        for stream in (1, 2):
            for index in range(3):
                one = packet(index, ssrc=stream)
                sender.sendto(build_packet(one), ("127.0.0.1", port))
            await collector.until(lambda n=stream: len(ended(collector)) == n)  # type: ignore[misc]  # early binding
    assert {event.reason for event in ended(collector)} == {EndReason.INACTIVITY}
    assert len({leg.call for leg in collector.legs()}) == 2


async def test_ports_are_legs_of_their_own(sender: socket.socket) -> None:
    ports = free_ports(3)
    async with running(source_on(ports)) as collector:
        for index in range(5):
            for port in ports:
                sender.sendto(build_packet(packet(index, ssrc=port)), ("127.0.0.1", port))
        await collector.until(lambda: len(collector.of(Audio)) == 15)
    assert len({leg.leg for leg in collector.legs()}) == 3


async def test_random_datagrams_are_counted_by_reason_and_the_call_goes_on(
    sender: socket.socket,
) -> None:
    (port,) = free_ports()
    source = source_on([port])
    random = np.random.default_rng(7)
    async with running(source) as collector:
        for index in range(100):
            junk = random.integers(0, 256, int(random.integers(0, 300)), np.uint8).tobytes()
            sender.sendto(junk, ("127.0.0.1", port + index % 2))
            sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
        sender.sendto(bytes(60_000), ("127.0.0.1", port))
        await collector.until(lambda: len(collector.of(Audio)) == 100)
        await eventually(lambda: source.stats().received == 201)
    (leg,) = collector.legs()
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), sent(range(100)))
    dropped = source.stats().dropped
    assert sum(dropped.values()) == 101
    assert dropped["oversized"] == 1
    assert dropped["version"] > 10


async def test_another_sender_on_the_port_is_locked_out(sender: socket.socket) -> None:
    (port,) = free_ports()
    source = source_on([port])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as intruder:
        async with running(source) as collector:
            for index in range(10):
                sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
                if index > 1:
                    injected = build_packet(packet(index, payload=b"\x00" * 160))
                    intruder.sendto(injected, ("127.0.0.1", port))
            await eventually(lambda: source.stats().received == 18)
            await collector.until(lambda: len(collector.of(Audio)) == 10)
    (leg,) = collector.legs()
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), sent(range(10)))
    assert source.stats().dropped == {"locked_out": 8}


async def test_only_allowed_networks_may_send(sender: socket.socket) -> None:
    (port,) = free_ports()
    source = source_on([port], allow=["192.0.2.0/24"])
    async with running(source) as collector:
        for index in range(5):
            sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
        await eventually(lambda: source.stats().received == 5)
    assert not collector.legs()
    assert source.stats().dropped == {"not_allowed": 5}


async def test_ipv6_is_received(sender: socket.socket) -> None:
    (port,) = free_ports()
    try:
        six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        six.bind(("::1", 0))
    except OSError as err:
        pytest.skip(f"no IPv6 loopback here: {errno.errorcode.get(err.errno or 0)}")
    with six:
        async with running(source_on([port], host="::1", allow=["::1/128"])) as collector:
            for index in range(3):
                six.sendto(build_packet(packet(index)), ("::1", port))
            await collector.until(lambda: len(collector.of(Audio)) == 3)


async def test_a_port_that_is_taken_is_a_source_error_naming_it() -> None:
    (port,) = free_ports()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port + 1))
        with pytest.raises(SourceError, match=f"port {port + 1}"):
            await source_on([port]).run(Collector().emit)
    # and what it had bound before is free again
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))


async def test_what_the_kernel_drops_is_counted(
    sender: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "streamguard.sources.rtp_socket.RECEIVE_BUFFER_BYTES", 1
    )  # the least there is
    (port,) = free_ports()
    source = source_on([port])
    async with running(source) as collector:
        for index in range(100):  # the loop gets no turn meanwhile
            sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
        await collector.until(lambda: bool(collector.of(Audio)))
        received = source.stats().received
        assert received < 100
        sender.sendto(build_packet(packet(100)), ("127.0.0.1", port))  # carries the kernel's count
        await eventually(lambda: source.stats().received == received + 1)
        assert source.stats().dropped["kernel"] == 100 - received


async def test_a_consumer_that_hangs_costs_old_audio_and_no_memory(
    sender: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamguard.sources.rtp.QUEUE_EVENTS_PER_LEG", 50)
    (port,) = free_ports()
    source = source_on([port], max_legs=1)
    go_on = asyncio.Event()
    collector = Collector()

    async def emit(event: object) -> None:
        if isinstance(event, Audio | LegStarted):
            await go_on.wait()
        await collector.emit(event)  # type: ignore[arg-type]  # every event is one of the union

    task = asyncio.create_task(source.run(emit))
    await collector.until(lambda: bool(collector.events))
    for index in range(200):
        sender.sendto(build_packet(packet(index)), ("127.0.0.1", port))
        await asyncio.sleep(0)
    await eventually(lambda: source.stats().received == 200)
    go_on.set()
    await collector.until(lambda: len(collector.of(Audio)) >= 49)
    task.cancel()
    await asyncio.wait([task])
    positions = [e.first_sample for e in collector.events if isinstance(e, Audio)]
    assert positions[-1] == 199 * 160
    assert len(positions) + source.stats().dropped["overload"] == 200
