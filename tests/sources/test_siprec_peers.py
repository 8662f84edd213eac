"""SIPREC calls of a client that we did not write: SIPp."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from streamguard.audio.g711 import decode_alaw, encode_alaw
from streamguard.events import Audio, CallEnded, CallStarted, EndReason, LegRole
from tests.sources import sipp
from tests.sources.collect import eventually, free_ports, running, samples_of
from tests.sources.sip_peer import free_sip_port, make_source

pytestmark = [pytest.mark.peer, pytest.mark.timeout(60)]


@pytest.fixture(autouse=True)
def _installed() -> None:
    if shutil.which("sipp") is None:
        pytest.skip("sipp is not installed")


async def call(*words: str) -> str:
    """SIPp to its end; what it says."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode("utf-8", "replace")
    if "Operation not permitted" in text:
        pytest.skip("sipp may not open the raw socket that it plays captures with")
    assert process.returncode == 0, text
    return text


async def test_calls_at_a_rising_rate_are_taken_until_they_are_refused(tmp_path: Path) -> None:
    # As short as it can be and have more calls at once than there is room: 0.6 s each, up to 26/s.
    noise = np.random.default_rng(4).normal(0, 3_000, 8_000 // 2).astype(np.int16)
    audio = tmp_path / "audio.pcap"
    packets = sipp.write_audio(audio, noise)
    port = free_sip_port()
    source = make_source(port, "udp", media_ports=12, max_calls=6, requests_burst=1000)
    rising = ("-r", "2", "-rate_increase", "8", "-rate_interval", "1", "-rate_max", "1000")
    words = sipp.command(
        tmp_path, audio, 600, port, "udp", free_ports()[0], *rising, "-m", "40", "-l", "64"
    )
    async with running(source) as collector:
        await call(*words)
        await eventually(lambda: source.stats().legs_active == 0)
        await collector.until(
            lambda: len(collector.of(CallEnded)) == len(collector.of(CallStarted))
        )
    taken = len(collector.of(CallStarted))
    dropped = dict(source.stats().dropped)
    assert 6 <= taken < 40
    assert dropped.pop("busy") == 40 - taken
    # Of what was taken, nothing is missing: every packet of every call was heard.
    assert len(collector.of(Audio)) == taken * packets
    assert dropped == {}
    ends = {event.reason for event in collector.events if isinstance(event, CallEnded)}
    assert ends == {EndReason.HANGUP}


async def test_a_call_over_tcp_is_heard_sample_for_sample(tmp_path: Path) -> None:
    samples = np.random.default_rng(5).normal(0, 3_000, 8_000).astype(np.int16)
    audio = tmp_path / "audio.pcap"
    packets = sipp.write_audio(audio, samples)
    port = free_sip_port()
    source = make_source(port, "tcp")
    words = sipp.command(tmp_path, audio, 1_300, port, "tcp", free_ports()[0], "-m", "1")
    async with running(source) as collector:
        await call(*words)
        await collector.until(lambda: bool(collector.of(CallEnded)))
    near, far = collector.legs()
    assert (near.role, far.role) == (LegRole.CALLER, LegRole.CALLEE)
    assert near.codec == "PCMA"
    heard = samples_of(collector.events, near.leg)
    np.testing.assert_array_equal(heard, decode_alaw(encode_alaw(samples)))
    assert len(heard) == packets * sipp.PACKET_SAMPLES
    assert len(samples_of(collector.events, far.leg)) == 0
    assert source.stats().dropped == {}
