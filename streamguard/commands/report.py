"""What `analyze` found in one file, and how it is said in JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from streamguard.alerts.context import ModelFacts
from streamguard.verdict.scores import (
    Attribution,
    Label,
    Rejection,
    State,
    Verdict,
    WindowScore,
)

_RANK = {State.BONAFIDE: 0, State.UNKNOWN: 1, State.SUSPECT: 2, State.SPOOF: 3}


@dataclass(frozen=True, slots=True)
class LegReport:
    """One channel of a file, or one leg of a call in a capture."""

    index: int
    verdict: Verdict
    windows: tuple[WindowScore, ...]
    channel: str
    """Channel class: wide, narrow, ..."""
    course: tuple[tuple[float, State, float], ...] = ()
    """(end_s, state, LLR of the leg) after each window."""
    call: int | None = None
    """Of a capture: which of its calls, from 0 in the order of their beginning."""
    role: str = ""
    """Of a capture: who speaks."""
    codec: str = ""
    """Of a capture: as the leg began."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """One analysed file; the leg that leans most to spoof speaks for it."""

    file: str
    """As the user named it."""
    duration_s: float
    """Of what was played."""
    legs: tuple[LegReport, ...]
    notes: tuple[str, ...] = ()
    error: str | None = None
    """Why there is no more than this: the file is truncated, or broken further on."""

    @property
    def worst(self) -> LegReport:
        """A leg on which nothing could be judged does not speak for those that were."""
        return max(
            self.legs,
            key=lambda leg: (
                leg.verdict.windows_scored > 0,
                _RANK[leg.verdict.state],
                leg.verdict.llr,
            ),
        )


def label_text(outcome: Label | Rejection | None) -> str | None:
    """A label, or None when rejected or not run."""
    return outcome.label if isinstance(outcome, Label) else None


def _model(facts: ModelFacts) -> dict[str, str]:
    return {"name": facts.name, "sha256": facts.sha256}


def _attribution(attribution: Attribution | None) -> dict[str, str | None]:
    found = attribution or Attribution()
    return {
        "technology": label_text(found.technology),
        "generator": label_text(found.generator),
    }


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "state": verdict.state.value,
        "llr": round(verdict.llr, 4),
        "p_spoof": round(verdict.p_spoof, 6),
        **_attribution(verdict.attribution),
    }


def _window_json(window: WindowScore) -> dict[str, Any]:
    return {
        "start_s": round(window.start_s, 3),
        "end_s": round(window.end_s, 3),
        "llr": None if window.llr is None else round(window.llr, 4),
        "rejected": window.rejected.value if window.rejected else None,
        **_attribution(window.attribution),
    }


def _captured_json(leg: LegReport) -> dict[str, Any]:
    if leg.call is None:
        return {}
    return {"call": leg.call, "role": leg.role, "codec": leg.codec}


def report_json(
    report: FileReport, detector: ModelFacts, attribution: ModelFacts | None
) -> dict[str, Any]:
    """One object of ``analyze --json``; public, see tests/contract.

    Several channels add ``leg`` and ``legs``; so does a capture, whose legs have ``call``, ``role``
    and ``codec`` besides. A file that breaks off has ``file``, ``error``, and
    what was played of it as ``partial``.
    """
    if report.error is not None:
        whole = report_json(replace(report, error=None), detector, attribution)
        return {"file": report.file, "error": report.error, "partial": whole}
    worst = report.worst
    out: dict[str, Any] = {
        "file": report.file,
        "duration_s": round(report.duration_s, 3),
        "net_speech_s": round(worst.verdict.net_speech_s, 2),
        "channel": worst.channel,
        "verdict": _verdict_json(worst.verdict),
        "windows": [_window_json(w) for w in worst.windows],
        "model": {
            "detector": _model(detector),
            "attribution": _model(attribution) if attribution else None,
        },
    }
    if len(report.legs) > 1 or worst.call is not None:
        out["leg"] = worst.index
        out["legs"] = [
            {
                "index": leg.index,
                "net_speech_s": round(leg.verdict.net_speech_s, 2),
                "channel": leg.channel,
                "verdict": _verdict_json(leg.verdict),
                "windows": [_window_json(w) for w in leg.windows],
                **_captured_json(leg),
            }
            for leg in report.legs
        ]
    if report.notes:
        out["notes"] = list(report.notes)
    return out
