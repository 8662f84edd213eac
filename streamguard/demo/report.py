"""The end of the demonstration: what was said of each leg, and whether it was right."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamguard.demo.legs import Truth
from streamguard.telemetry.latency import Quantiles
from streamguard.verdict.scores import State


class Judgement(enum.StrEnum):
    """A verdict held against the truth."""

    RIGHT = "right"
    WRONG = "WRONG"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class AlertSeen:
    """A revision of an alert as the subscriber received it."""

    alert_id: str
    revision: int
    kind: str
    state: str
    stream_offset_s: float

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> AlertSeen:
        """From the CloudEvents envelope of an alert. Raises KeyError for what isn't one."""
        data = payload["data"]
        return cls(
            str(data["alert_id"]),
            int(data["revision"]),
            str(data["kind"]),
            str(data["state"]),
            float(data["stream_offset_s"]),
        )

    def as_dict(self) -> dict[str, object]:
        return {
            "alert_id": self.alert_id,
            "revision": self.revision,
            "kind": self.kind,
            "state": self.state,
            "stream_offset_s": self.stream_offset_s,
        }


@dataclass(frozen=True, slots=True)
class LegOutcome:
    """What became of one leg."""

    name: str
    truth: Truth
    state: State
    llr: float | None
    p_spoof: float | None
    technology: str | None
    generator: str | None
    windows_scored: int
    windows_rejected: Mapping[str, int]
    alerts: tuple[AlertSeen, ...] = ()
    turn_s: float | None = None

    @property
    def raised_at_s(self) -> float | None:
        """Stream offset of the first alert, in seconds."""
        return min((a.stream_offset_s for a in self.alerts if a.kind == "raised"), default=None)

    def judgement(self) -> tuple[Judgement, str]:
        """Whether an operator would have been told the truth, and in words."""
        raised = self.raised_at_s
        accused = raised is not None or self.state is State.SPOOF
        if self.truth is Truth.NO_SPEECH:
            if accused or self.state is not State.UNKNOWN:
                return Judgement.WRONG, f"{self.state.value} where nobody speaks"
            return Judgement.RIGHT, "nothing said of a leg without speech"
        if self.truth is Truth.HUMAN:
            if accused:
                return Judgement.WRONG, "false alarm"
            if self.state is State.BONAFIDE:
                return Judgement.RIGHT, "no alarm"
            return Judgement.UNDECIDED, "no alarm, no decision"
        if self.truth is Truth.TURNS and raised is not None and raised < (self.turn_s or 0.0):
            return Judgement.WRONG, f"false alarm at {raised:.1f} s, before the voice changed"
        if accused:
            return Judgement.RIGHT, f"alarm{_after(raised, self.turn_s)}"
        if self.state is State.BONAFIDE:
            return Judgement.WRONG, "missed"
        return Judgement.UNDECIDED, "no alarm, no decision"

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "truth": self.truth.value,
            "verdict": {
                "state": self.state.value,
                "llr": self.llr,
                "p_spoof": self.p_spoof,
                "technology": self.technology,
                "generator": self.generator,
            },
            "windows": {
                "scored": self.windows_scored,
                "rejected": dict(self.windows_rejected),
            },
            "alerts": [alert.as_dict() for alert in self.alerts],
        }


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The summary, as text and as the object of ``demo --json``."""

    legs: tuple[LegOutcome, ...]
    verdict_latency: Quantiles | None
    """From the arrival of a window's last sample to its verdict."""
    subscriber_latency: Quantiles | None
    """From the arrival of a window's last sample to the alert's arrival at the subscriber."""
    realtime_factor: float
    """Seconds of inference per second of audio, all legs together: below 1 keeps up."""
    cpu_per_leg: float
    """Share of one core that the daemon used, divided by the legs."""

    def as_dict(self) -> dict[str, object]:
        return {
            "legs": [leg.as_dict() for leg in self.legs],
            "latency_ms": {
                "verdict": self.verdict_latency.as_ms() if self.verdict_latency else None,
                "subscriber": self.subscriber_latency.as_ms() if self.subscriber_latency else None,
            },
            "realtime_factor": self.realtime_factor,
            "cpu_per_leg": self.cpu_per_leg,
        }

    def as_text(self) -> str:
        name_width = max((len(leg.name) for leg in self.legs), default=0)
        truth_width = max((len(leg.truth.value) for leg in self.legs), default=0)
        lines = ["What was said of each leg:"]
        for leg in self.legs:
            judgement, words = leg.judgement()
            llr = "   –  " if leg.llr is None else f"{leg.llr:+6.2f}"
            named = ", ".join(label for label in (leg.technology, leg.generator) if label)
            lines.append(
                f"  {leg.name:{name_width}}  truth: {leg.truth.value:{truth_width}}  "
                f"{leg.state.value:8}  LLR {llr}  {judgement.value}: {words}"
                + (f" ({named})" if named else "")
            )
        lines += [
            f"Last sample to verdict:    {_latency(self.verdict_latency)}",
            f"Last sample to subscriber: {_latency(self.subscriber_latency)}",
            f"Real-time factor {self.realtime_factor:.3f} (below 1 keeps up), "
            f"{self.cpu_per_leg * 100:.1f} % of a core per leg",
        ]
        return "\n".join(lines)


def exact_quantiles(seconds: Sequence[float]) -> Quantiles | None:
    """Nearest-rank quantiles of a list; None for an empty one."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    count = len(ordered)
    return Quantiles(count, *(ordered[math.ceil(q * count) - 1] for q in (0.50, 0.95, 0.99)))


def _after(raised_s: float | None, turn_s: float | None) -> str:
    if raised_s is None:
        return ""
    if turn_s is None:
        return f" after {raised_s:.1f} s"
    return f" {raised_s - turn_s:.1f} s after the voice changed"


def _latency(quantiles: Quantiles | None) -> str:
    if quantiles is None:
        return "nothing to measure"
    ms = quantiles.as_ms()
    return (
        f"p50 {ms['p50']:.0f} ms, p95 {ms['p95']:.0f} ms, p99 {ms['p99']:.0f} ms "
        f"(of {quantiles.count})"
    )
