"""RTP from senders that we did not write: ffmpeg and GStreamer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamguard.clock import SystemClock
from streamguard.events import Audio, EndReason, Gap, LegEnded, SegmentStarted
from streamguard.sources.rtp import RtpSource
from streamguard.sources.settings import RtpSettings
from tests.sources.collect import Collector, free_ports, running, samples_of

pytestmark = pytest.mark.peer

SECONDS = 1.0
RATE_HZ = 8_000


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextlib.asynccontextmanager
async def process(*command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A peer at work; killed if it is still there at the end."""
    peer = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield peer
    finally:
        if peer.returncode is None:
            peer.kill()
        await peer.wait()


async def run_to_end(*command: str | Path) -> None:
    async with process(*command) as peer:
        assert await peer.wait() == 0


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A 16-bit WAV whose every stretch sounds different, with quiet parts: 1 s at 8 kHz."""
    time_s = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (200 * time_s + 300 * time_s**2)) * np.hanning(len(time_s))
    noise = np.random.default_rng(5).normal(0, 0.05, len(time_s))
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.clip(0.7 * tone + noise, -1, 1), RATE_HZ, subtype="PCM_16")
    return path


async def decoded_by_libsndfile(speech: Path, encoder: str) -> npt.NDArray[np.int16]:
    """What the peer's own encoder makes of the file, decoded by neither of the two."""
    coded = speech.with_name(f"{encoder}.wav")
    ffmpeg = program("ffmpeg")
    await run_to_end(ffmpeg, "-v", "error", "-y", "-i", speech, "-c:a", encoder, coded)
    samples: npt.NDArray[np.int16] = soundfile.read(coded, dtype="int16")[0]
    return samples


def check_clean(source: RtpSource, collector: Collector, expected_samples: int) -> None:
    """One leg, nothing lost, nothing dropped, one packet per 20 ms."""
    assert not collector.of(Gap, SegmentStarted)
    packets = [event for event in collector.events if isinstance(event, Audio)]
    assert len(packets) == expected_samples // 160
    stats = source.stats()
    assert stats.dropped == {}
    assert stats.legs_started == 1


@pytest.mark.parametrize(("encoder", "codec"), [("pcm_mulaw", "PCMU"), ("pcm_alaw", "PCMA")])
async def test_a_call_sent_by_ffmpeg_is_received_sample_for_sample(
    speech: Path, encoder: str, codec: str
) -> None:
    expected = await decoded_by_libsndfile(speech, encoder)
    (port,) = free_ports()
    settings = RtpSettings.model_validate({"name": "t", "ports": [port], "inactivity_s": 5.0})
    source = RtpSource(settings, SystemClock())
    filters = "aresample=8000,asetnsamples=n=160:p=0,arealtime"
    target = f"rtp://127.0.0.1:{port}?pkt_size=172"
    async with running(source) as collector:
        await run_to_end(
            program("ffmpeg"), "-v", "error", "-i", speech,
            "-af", filters, "-c:a", encoder, "-f", "rtp", "-rtpflags", "send_bye", target,
        )  # fmt: skip
        await collector.until(lambda: bool(collector.of(LegEnded)))
    (leg,) = collector.legs()
    assert leg.codec == codec
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), expected)
    check_clean(source, collector, len(expected))
    (ended,) = (event for event in collector.events if isinstance(event, LegEnded))
    assert ended.reason is EndReason.HANGUP


@pytest.mark.parametrize(
    ("elements", "encoder", "codec"),
    [
        ("mulawenc ! rtppcmupay", "pcm_mulaw", "PCMU"),
        ("alawenc ! rtppcmapay", "pcm_alaw", "PCMA"),
    ],
)
async def test_a_call_sent_by_gstreamer_is_received_sample_for_sample(
    speech: Path, elements: str, encoder: str, codec: str
) -> None:
    launch = program("gst-launch-1.0")
    encode, pay = elements.split(" ! ")
    coded = speech.with_name("gst.raw")
    await run_to_end(
        launch, "-q", "filesrc", f"location={speech}", "!", "wavparse", "!", encode,
        "!", "filesink", f"location={coded}",
    )  # fmt: skip
    subtype = encoder.removeprefix("pcm_").upper().replace("MULAW", "ULAW")
    expected, _ = soundfile.read(
        coded, dtype="int16", samplerate=RATE_HZ, channels=1, format="RAW", subtype=subtype
    )
    (port,) = free_ports()
    settings = RtpSettings.model_validate({"name": "t", "ports": [port], "inactivity_s": 0.5})
    source = RtpSource(settings, SystemClock())
    async with running(source) as collector:
        await run_to_end(
            launch, "-q", "filesrc", f"location={speech}", "!", "wavparse", "!", encode,
            "!", pay, "min-ptime=20000000", "max-ptime=20000000",
            "!", "udpsink", "host=127.0.0.1", f"port={port}", "sync=true",
        )  # fmt: skip
        await collector.until(lambda: bool(collector.of(LegEnded)))
    (leg,) = collector.legs()
    assert leg.codec == codec
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), expected)
    check_clean(source, collector, len(expected))
    (ended,) = (event for event in collector.events if isinstance(event, LegEnded))
    assert ended.reason is EndReason.INACTIVITY  # this pipeline has no RTCP


async def test_protected_rtp_of_ffmpeg_is_opened_and_received_sample_for_sample(
    speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pylibsrtp", reason="needs the extra 'srtp'")
    key = base64.b64encode(bytes(range(30))).decode()
    monkeypatch.setenv("TEST_SRTP_KEY", key)
    expected = await decoded_by_libsndfile(speech, "pcm_alaw")
    (port,) = free_ports()
    settings = RtpSettings.model_validate(
        {
            "name": "t",
            "ports": [port],
            "inactivity_s": 0.5,
            "srtp": {"key": {"env": "TEST_SRTP_KEY"}},
        }
    )
    source = RtpSource(settings, SystemClock())
    filters = "aresample=8000,asetnsamples=n=160:p=0,arealtime"
    async with running(source) as collector:
        await run_to_end(
            program("ffmpeg"), "-v", "error", "-i", speech, "-af", filters, "-c:a", "pcm_alaw",
            "-srtp_out_suite", "AES_CM_128_HMAC_SHA1_80", "-srtp_out_params", key,
            "-f", "rtp", f"srtp://127.0.0.1:{port}?pkt_size=186",
        )  # fmt: skip
        await collector.until(lambda: bool(collector.of(LegEnded)))
    (leg,) = collector.legs()
    np.testing.assert_array_equal(samples_of(collector.events, leg.leg), expected)
    check_clean(source, collector, len(expected))
