"""Every codec from ffmpeg and GStreamer: decoded as it was said, and measured as Wireshark does."""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from streamguard.events import Audio, Gap, LegStarted, MediaChanged, SegmentStarted
from streamguard.protocols.rtp_codecs import parse_rtpmap
from streamguard.protocols.rtp_stream import RtpStream
from tests.sources.rtp_peers import (
    CALLS,
    SECONDS,
    Arrival,
    PeerCall,
    heard,
    likeness,
    media,
    record,
    thinned,
    wireshark,
)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(90)]

LIKENESS = {"GSM": 0.75, "opus/48000/2": 0.9}
"""Of waveforms in the telephone band; the others keep the waveform as it is."""


def missing(call: PeerCall) -> str | None:
    """Why a call cannot be made here."""
    if shutil.which(call.program) is None:
        return f"{call.program} is not installed"
    return None


@functools.cache
def recordings(speech: Path) -> dict[str, list[Arrival]]:
    pytest.importorskip("av", reason="needs the extra 'codecs'")
    return record(speech, [call for call in CALLS if missing(call) is None])


@pytest.fixture(scope="module")
def said(voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of speech."""
    samples, rate_hz = soundfile.read(voice, dtype="int16")
    path = tmp_path_factory.mktemp("peers") / "said.wav"
    soundfile.write(path, samples[: round(SECONDS * rate_hz)], rate_hz, subtype="PCM_16")
    return path


def arrivals_of(call: PeerCall, said: Path) -> list[Arrival]:
    reason = missing(call)
    if reason is not None:
        pytest.skip(reason)
    found = recordings(said)[call.name]
    if not found and call.program != "ffmpeg":
        pytest.skip(f"this GStreamer has no {call.codec} (plugins libav and bad)")
    return found


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_each_codec_of_each_peer_is_heard_as_it_was_said(call: PeerCall, said: Path) -> None:
    drops: Counter[str] = Counter()
    events = heard(arrivals_of(call, said), drops)
    (leg,) = [event for event in events if isinstance(event, LegStarted)]
    expected = parse_rtpmap(call.codec)
    assert (leg.codec, leg.rate_hz) == (expected.name, expected.rate_hz)
    assert not [e for e in events if isinstance(e, Gap | MediaChanged | SegmentStarted)]
    assert not +drops
    count = sum(len(event.samples) for event in events if isinstance(event, Audio))
    assert count / leg.rate_hz == pytest.approx(SECONDS, abs=0.1)
    assert likeness(events, leg.rate_hz, said) > LIKENESS.get(call.codec, 0.97)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_packets_loss_and_jitter_of_each_codec_are_those_that_wireshark_finds(
    call: PeerCall, said: Path, tmp_path: Path
) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    packets = thinned(media(arrivals_of(call, said)))
    view = wireshark(tmp_path / "call.pcap", packets, call.codec)
    payload_format = parse_rtpmap(call.codec)
    stream = RtpStream(
        "leg", {call.payload_type: payload_format}, Counter(), announced=payload_format
    )
    jitters_ms = []
    for at_s, packet in packets:
        stream.receive(packet, at_s)
        jitters_ms.append(1_000 * stream.reception.jitter_s)
    stream.flush()
    reception = stream.reception
    assert (reception.expected - reception.lost, reception.lost) == (view.packets, view.lost)
    assert view.lost > 3
    if all(packet.marker for _, packet in packets):
        # ffmpeg's Opus: each packet says that it begins a talk spurt, and Wireshark measures
        # none of those. RFC 3550 knows no such exception.
        assert view.jitter_max_ms == 0.0
    else:
        assert max(jitters_ms) == pytest.approx(view.jitter_max_ms, abs=0.01)
