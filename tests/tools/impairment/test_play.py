from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamguard.analysis import analyst
from streamguard.clock import VirtualClock
from streamguard.config import load_config
from streamguard.events import Gap, GapReason, LegStarted, SourceEvent
from streamguard.protocols.rtcp import RtcpPacket
from streamguard.protocols.rtp import RtpPacket, parse
from streamguard.sources.pcap import PcapSource
from streamguard.sources.pcap_settings import PcapSettings
from tests.captures import narrow, tone
from tests.sources.collect import samples_of
from tools import impair
from tools.impairment.catalogue import BY_NAME
from tools.impairment.play import ImpairedSource, capture, send
from tools.impairment.stream import clean_stream
from tools.impairment.table import as_markdown, rows
from tools.impairment.voices import Voice


async def heard(source: ImpairedSource | PcapSource) -> list[SourceEvent]:
    events: list[SourceEvent] = []

    async def emit(event: SourceEvent) -> None:
        events.append(event)

    await source.run(emit)
    return events


@pytest.mark.parametrize("name", ["clean", "loss-10", "reorder-5", "wrap", "ssrc-flip"])
async def test_a_capture_is_heard_as_what_the_protocol_layer_hears_at_once(
    tmp_path: Path, name: str
) -> None:
    clean = clean_stream(tone(6.0), np.random.default_rng(1))
    arrivals = BY_NAME[name].apply(clean, np.random.default_rng(2))
    direct = ImpairedSource(arrivals, VirtualClock())
    first = samples_of(await heard(direct), "leg")
    capture(tmp_path / "call.pcap", arrivals.packets)
    settings = PcapSettings(name="tap", paths=(tmp_path / "call.pcap",))
    events = await heard(PcapSource(settings, VirtualClock()))
    (leg,) = (event for event in events if isinstance(event, LegStarted))
    second = samples_of(events, leg.leg)
    assert np.array_equal(first, second)


async def test_what_is_lost_is_counted_and_gaps_are_in_its_place() -> None:
    clean = clean_stream(tone(10.0), np.random.default_rng(1))
    arrivals = BY_NAME["loss-10"].apply(clean, np.random.default_rng(2))
    source = ImpairedSource(arrivals, VirtualClock())
    events = await heard(source)
    gaps = [one for one in events if isinstance(one, Gap) and one.reason is GapReason.LOST]
    assert arrivals.lost > 20
    assert source.reception.lost == arrivals.lost
    assert sum(gap.count for gap in gaps) == 160 * arrivals.lost


def test_packets_are_sent_when_they_are_due_and_a_goodbye_after_them() -> None:
    clean = clean_stream(tone(0.4), np.random.default_rng(1))
    now = 10.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control,
    ):
        media.settimeout(5)
        control.settimeout(5)
        media.bind(("127.0.0.1", 0))
        port = media.getsockname()[1]
        try:
            control.bind(("127.0.0.1", port + 1))
        except OSError:
            pytest.skip("the port above is taken")
        assert send(clean, ("127.0.0.1", port), now=lambda: now, sleep=sleep) < 1e-9
        received = [parse(media.recv(2_000)) for _ in clean]
        goodbye = parse(control.recv(2_000))
    assert received == [one.packet for one in clean]
    assert sum(slept) == pytest.approx(0.02 * len(clean))
    assert isinstance(goodbye, RtcpPacket)
    first = received[0]
    assert isinstance(first, RtpPacket)
    assert goodbye.leaving == (first.ssrc,)


async def test_the_table_compares_with_the_clean_calls(small_models: Path, voice: Path) -> None:
    voices = [Voice("one", narrow(voice)), Voice("two", narrow(voice)[::-1])]
    chosen = [BY_NAME[name] for name in ("wrap", "duplicate-10", "loss-20")]
    async with analyst(await asyncio.to_thread(load_config, small_models)) as models:
        found = {row.name: row for row in await rows(models, voices, 1, chosen)}
    clean, wrap, twice, lossy = (
        found[name] for name in ("clean", "wrap", "duplicate-10", "loss-20")
    )
    assert (clean.calls, clean.agreed, clean.difference, clean.coverage) == (2, 2, 0.0, 1.0)
    for row in (wrap, twice):  # neither changes a sample
        assert (row.agreed, row.injected, row.counted) == (2, 0, 0)
        assert row.difference == pytest.approx(0.0, abs=1e-3)
        assert row.coverage == 1.0
    assert lossy.injected == pytest.approx(0.2 * lossy.sent, rel=0.3)
    assert lossy.injected - lossy.counted <= 2  # what is lost at the very end nobody can tell
    assert lossy.coverage < 0.5  # windows abstain on such loss
    text = as_markdown(list(found.values()))
    assert text.count("\n") == 5
    assert f"| {lossy.injected} of {lossy.sent} |" in text


def test_the_command_writes_captures_and_lists_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "voice.wav"
    soundfile.write(recording, tone(1.0), 8_000)
    path = tmp_path / "call.pcap"
    assert impair.main(["--pcap", str(path), "--impair", "loss-20", str(recording)]) == 0
    assert path.stat().st_size > 5_000
    assert "50 packets sent" in capsys.readouterr().err
    assert impair.main(["--list"]) == 0
    assert "burst-10" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        impair.main(["--send", "nowhere", str(recording)])
