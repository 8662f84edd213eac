"""What happens to hops, sources and calls, turned into metrics and the figures of ``/status``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prometheus_client import Gauge

from streamguard.audio.decoders import Codec
from streamguard.clock import HOP_SECONDS, Clock
from streamguard.events import LegRole
from streamguard.inference.leg import HopKind
from streamguard.inference.scorer import HopResult
from streamguard.monitor import Leg
from streamguard.telemetry.latency import LatencyBook, Stage
from streamguard.telemetry.metrics import Metrics
from streamguard.verdict.scores import Attribution, Label, Rejection

CODEC_LABELS = frozenset({*Codec, "file", "mic"})


@dataclass(slots=True)
class SourceHealth:
    """What is known of one source's life."""

    up: bool
    reason: str
    since_utc: float


class Observation:
    """Implements :class:`streamguard.monitor.Observer` for the daemon."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self.metrics = metrics
        self.latency = LatencyBook()
        self.sources: dict[str, SourceHealth] = {}
        self.hops = 0
        self._clock = clock
        # A child of its own for each stage: looking it up costs as much as observing.
        self._stage_seconds = {
            stage: metrics.window_latency_seconds.labels(stage.value) for stage in Stage
        }

        self._last_audio: dict[str, Gauge] = {}
        """By source; as above, and asked for with every packet."""

    def source(self, name: str, *, up: bool, reason: str) -> None:
        self.sources[name] = SourceHealth(up, reason, self._clock.utc())
        self.metrics.source_up.labels(name).set(up)

    def forget_source(self, name: str) -> None:
        """It is no longer configured."""
        self._last_audio.pop(name, None)
        if self.sources.pop(name, None) is not None:
            self.metrics.forget_source(name)

    def calls(self, source: str, active: int) -> None:
        self.metrics.calls_active.labels(source).set(active)

    def audio(self, source: str, utc: float) -> None:
        gauge = self._last_audio.get(source)
        if gauge is None:
            gauge = self.metrics.source_last_audio_timestamp_seconds.labels(source)
            self._last_audio[source] = gauge
        gauge.set(utc)

    def lost(self, source: str, seconds: float) -> None:
        self.metrics.audio_lost_seconds_total.labels(source).inc(seconds)

    def finished(self, leg: Leg) -> None:
        if leg.excluded is not None:
            said = "excluded"
        else:
            said = leg.verdict.state.value
        labels = (leg.started.source, leg.trunk, codec_label(leg.context.codec))
        self.metrics.legs_total.labels(*labels, said).inc()

    def result(self, leg: Leg, result: HopResult, latency_s: float) -> None:
        source = leg.started.source
        match result.kind:
            case HopKind.LATE:
                return  # its window was counted when it came
            case HopKind.HOP:
                self.hops += 1
            case HopKind.DROPPED:
                self.metrics.windows_dropped_total.labels(source, "overload").inc()
            case HopKind.REST:
                pass  # a window of hops that were counted
        stages = result.stages
        detection_s = stages.detector + stages.head
        for stage, seconds in (
            (Stage.FRONT_END, stages.front_end),
            (Stage.DETECTION, detection_s),
            (Stage.ATTRIBUTION, stages.attribution),
        ):
            if seconds:  # a stage that did not run has no latency
                self._stage(stage, seconds)
        score = result.score
        if score is None:
            return
        computed_s = stages.front_end + detection_s + stages.attribution
        self._stage(Stage.QUEUE, max(0.0, latency_s - computed_s))
        self._stage(Stage.VERDICT, latency_s)
        if score.rejected is None:
            self.metrics.windows_total.labels(source, "scored").inc()
            if score.llr is not None:
                labels = (source, leg.trunk, codec_label(leg.context.codec))
                self.metrics.window_llr.labels(*labels).observe(score.llr)
        else:
            self.metrics.windows_total.labels(source, "rejected").inc()
            self.metrics.verdict_rejections_total.labels(source, score.rejected.value).inc()

    def _stage(self, stage: Stage, seconds: float) -> None:
        self.latency.add(stage, seconds)
        self._stage_seconds[stage].observe(seconds)

    @property
    def audio_seconds(self) -> float:
        """Of all legs together, that went through inference."""
        return self.hops * HOP_SECONDS


def codec_label(codec: str) -> str:
    """A codec as a label: one of few values, whatever a source has been told."""
    return codec if codec in CODEC_LABELS else "other"


def outcome_json(outcome: Label | Rejection | None) -> dict[str, Any] | str | None:
    """A label with its p-value, the reason of its rejection, or None when not run."""
    match outcome:
        case None:
            return None
        case Label():
            return {"label": outcome.label, "p_value": round(outcome.p_value, 4)}
        case _:
            return outcome.value


def attribution_json(attribution: Attribution) -> dict[str, Any]:
    return {
        "technology": outcome_json(attribution.technology),
        "generator": outcome_json(attribution.generator),
    }


def leg_json(leg: Leg) -> dict[str, Any]:
    """One leg for ``/status``: no call id, no address."""
    verdict = leg.verdict
    return {
        "source": leg.started.source,
        "index": leg.started.index,
        "role": LegRole(leg.context.role).value,
        "trunk": leg.trunk,
        "excluded": leg.excluded.value if leg.excluded else None,
        "codec": leg.context.codec,
        "live": leg.ended is None,
        "ended": leg.ended.value if leg.ended else None,
        "level_dbfs": None if leg.level_dbfs is None else round(leg.level_dbfs, 1),
        "loss_pct": leg.loss_pct,
        "jitter_ms": leg.jitter_ms,
        "far_loss_pct": leg.far_loss_pct,
        "far_jitter_ms": leg.far_jitter_ms,
        "heard_s": round(leg.hops * HOP_SECONDS, 1),
        "net_speech_s": round(verdict.net_speech_s, 2),
        "windows": {
            "scored": verdict.windows_scored,
            "rejected": {r.value: n for r, n in sorted(verdict.windows_rejected.items())},
        },
        "state": verdict.state.value,
        "llr": round(verdict.llr, 3),
        "p_spoof": round(verdict.p_spoof, 5),
        "changed": verdict.changed,
        "attribution": attribution_json(verdict.attribution),
    }
