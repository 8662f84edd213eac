"""What each stage of one leg costs, run alone and one after the other, one hop per call.

Graphs fuse features and encoder: they are one stage here, as they are one call in the daemon.
"""

from __future__ import annotations

import dataclasses
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from streamguard.alerts import schema
from streamguard.alerts.context import LatencySnapshot, QualitySnapshot
from streamguard.alerts.lifecycle import Lifecycle
from streamguard.alerts.message import Message
from streamguard.alerts.outbox import Outbox
from streamguard.alerts.settings import AlertSettings
from streamguard.audio.frames import RawBlock
from streamguard.audio.frontend import FrontEnd
from streamguard.audio.intake import Intake
from streamguard.audio.settings import GateSettings
from streamguard.bench.speech import RATE_HZ, voice, voice_ulaw
from streamguard.bench.steered import LEANING_LLR
from streamguard.bench.timing import StageTimes, measure
from streamguard.clock import HOP_SAMPLES, HOP_SECONDS, WINDOW_HOPS, LegClock
from streamguard.config import parse_config
from streamguard.events import Audio, LegRole, LegStarted
from streamguard.facts import Judging
from streamguard.inference.network import Network
from streamguard.inference.scorer import Models
from streamguard.protocols.rtp import RtpPacket, build_packet
from streamguard.sources.rtp_port import LegCount, RtpPort
from streamguard.sources.settings import RtpSettings
from streamguard.verdict.scores import Channel, State, WindowScore

PACKET_SAMPLES = 160
_BLOCK = round(RATE_HZ * HOP_SECONDS)
_PACKETS = _BLOCK // PACKET_SAMPLES
_SHARE = {"features_encoder": 3.0}
"""Of the measuring time, relative to the other stages: it is most of the cost, and varies most."""

INGEST = "ingest"
GATE = "gate"
ENCODER = "features_encoder"
HEADS = "heads"
ATTRIBUTION_ENCODER = "attribution_features_encoder"
ATTRIBUTION_HEADS = "attribution_heads"
VERDICT = "verdict"
PUBLISH = "publish"

MEANING = {
    INGEST: "25 packets of 20 ms: RTP, order, G.711, half-second block (sockets not included)",
    GATE: "resampling to 16 kHz, level, speech, tones, music, clipping, loss",
    ENCODER: "detector's hop graph: features and encoder are fused in it",
    HEADS: "detector's head on the sums of six hops",
    ATTRIBUTION_ENCODER: "attribution's hop graph: features and encoder are fused in it",
    ATTRIBUTION_HEADS: "attribution's heads on the sums of six hops",
    VERDICT: "evidence of the leg, change detector, state",
    PUBLISH: "per alert, not per window: payload and durable outbox; the broker is not measured",
}


def measure_stages(console: Console, models: Models, seconds: float) -> dict[str, StageTimes]:
    """Every stage for its share of ``seconds``; networks without attribution have fewer."""
    with tempfile.TemporaryDirectory(prefix="streamguard-bench-") as folder:
        with _runs(models, Path(folder)) as runs:
            whole = sum(_SHARE.get(stage, 1.0) for stage in runs)
            return {
                stage: measure(console, stage, seconds * _SHARE.get(stage, 1.0) / whole, run)
                for stage, run in runs.items()
            }


@contextmanager
def _runs(models: Models, folder: Path) -> Iterator[dict[str, Callable[[], object]]]:
    detector = models.detector
    runs: dict[str, Callable[[], object]] = {
        INGEST: _Ingest(),
        GATE: GateLoop("bench", detector.left_context),
        ENCODER: hop_of(detector),
        HEADS: head_of(detector),
    }
    if models.attribution is not None:
        runs[ATTRIBUTION_ENCODER] = hop_of(models.attribution)
        runs[ATTRIBUTION_HEADS] = head_of(models.attribution)
    outbox = Outbox(folder / "outbox.sqlite3", 10_000, 0)
    outbox.open()
    try:
        judge = _Judge(models)
        runs[VERDICT] = judge
        runs[PUBLISH] = _Publish(judge, outbox)
        yield runs
    finally:
        outbox.close()


class _Ingest:
    """Half a second of one caller's packets, from datagrams to the block of a hop."""

    def __init__(self) -> None:
        settings = RtpSettings(name="bench", ports=(40_000,))
        self._port = RtpPort("bench", settings, LegCount(1), Counter(), lambda _: True)
        self._intake = Intake("bench", RATE_HZ, "PCMU")
        said = voice_ulaw()
        self._payloads = [
            said[at : at + PACKET_SAMPLES]
            for at in range(0, len(said) - PACKET_SAMPLES, PACKET_SAMPLES)
        ]
        self._next = 0

    def __call__(self) -> int:
        blocks = 0
        for _ in range(_PACKETS):
            number = self._next
            self._next += 1
            payload = self._payloads[number % len(self._payloads)]
            data = build_packet(
                RtpPacket(0, False, number & 0xFFFF, number * PACKET_SAMPLES, 7, payload)
            )
            for event in self._port.datagram(data, ("127.0.0.1", 40_002), number * 0.02):
                if isinstance(event, Audio):
                    blocks += len(self._intake.audio(event))
        return blocks


class GateLoop:
    """Feeds one leg's front end, a hop per call."""

    def __init__(self, leg: str, left_context: int) -> None:
        self._front_end = FrontEnd(leg, left_context, GateSettings())
        self._samples = voice()
        self._leg = leg
        self._next = 0

    def __call__(self) -> object:
        at = self._next * _BLOCK % (len(self._samples) - _BLOCK)
        block = RawBlock(
            leg=self._leg,
            segment=0,
            first_sample=self._next * _BLOCK,
            samples=self._samples[at : at + _BLOCK],
            rate_hz=RATE_HZ,
            spans=(),
            received_at=0.0,
        )
        self._next += 1
        return self._front_end.process(block)


def hop_of(network: Network) -> Callable[[], object]:
    """One hop through the graph; a graph of whole windows does its work in the head."""
    rng = np.random.default_rng(11)
    samples = rng.uniform(-0.5, 0.5, network.left_context + HOP_SAMPLES).astype(np.float32)
    state = network.fresh_state()
    return lambda: network.hops([samples], [state])


def head_of(network: Network) -> Callable[[], object]:
    """One window from the parts of six hops."""
    rng = np.random.default_rng(12)
    samples = rng.uniform(-0.5, 0.5, network.left_context + HOP_SAMPLES).astype(np.float32)
    parts = network.hops([samples], [network.fresh_state()])[0].parts
    return lambda: network.windows([[parts] * WINDOW_HOPS])


class _Judge:
    """One leg that is judged with every window; it leans to spoof."""

    def __init__(self, models: Models) -> None:
        source = "sources: [{name: bench, type: rtp, ports: [40000]}]"
        self.judging = Judging.of(parse_config(source, "bench"), models)
        self.started = LegStarted("bench", "call", "bench", LegRole.UNKNOWN, "PCMU", RATE_HZ, 0.0)
        self._voter = self.judging.voter(self.started)
        self._index = WINDOW_HOPS - 1

    def __call__(self) -> object:
        self._index += 1
        end_s = (self._index + 1) * HOP_SECONDS
        score = WindowScore(
            leg="bench",
            segment=0,
            index=self._index,
            start_s=end_s - WINDOW_HOPS * HOP_SECONDS,
            end_s=end_s,
            raw=LEANING_LLR,
            # Not constant: a change detector that never sees deviations has less to do.
            llr=LEANING_LLR + 0.5 * (self._index % 3 - 1),
            rejected=None,
            new_hops=1,
            usable_hops=WINDOW_HOPS,
            net_speech_s=HOP_SECONDS,
            channel=Channel.NARROW,
        )
        self.verdict = self._voter.update(score)
        return self.verdict


class _Publish:
    """A new leg raises an alert, which is written down; and is struck as delivered."""

    def __init__(self, judge: _Judge, outbox: Outbox) -> None:
        judge()
        self._verdict = dataclasses.replace(judge.verdict, state=State.SPOOF, llr=5.0)
        self._context = judge.judging.context(judge.started, LegClock(0.0))
        self._lifecycle = Lifecycle(AlertSettings(), lambda: uuid.uuid4().hex)
        self._outbox = outbox
        self._legs = 0

    def __call__(self) -> None:
        self._legs += 1
        context = dataclasses.replace(self._context, leg=str(self._legs))
        alert = self._lifecycle.verdict(
            context, self._verdict, QualitySnapshot(), LatencySnapshot()
        )
        assert alert is not None, "SPOOF raises"
        payload = schema.encode(alert)
        self._outbox.write(
            [Message(alert.alert_id, alert.revision, alert.kind, "bench", payload, 0.0)]
        )
        for message in self._outbox.queued(1):
            self._outbox.delivered(message.seq)
