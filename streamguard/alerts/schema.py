"""The alert on the wire: CloudEvents 1.0, structured JSON, snake_case inside ``data``.

Bytes are made once per revision and never again: what waits in the outbox is what is sent. Every
field of the public contract (see tests/contract) is present; a value that is not known is null.
Added to it since: ``cleared_reason``, ``cleared_detail``, ``acknowledged``, ``attribution_model``,
``attribution_engine``.

``attribution.technology`` and ``attribution.generator`` are ``{"label", "p_value"}``,
``{"rejected": <reason>}`` or ``"not_run"``.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

from streamguard.alerts.alert import Alert, ClearedReason, Kind
from streamguard.alerts.context import EngineFacts, ModelFacts
from streamguard.verdict.scores import Label, Rejection, State, Verdict

CONTENT_TYPE = "application/cloudevents+json"
_TYPE = "io.streamguard.alert.{kind}.v1"
_TEXT_CHARS_MAX = 500
INTERRUPTED = "interrupted: the daemon ended without closing this alert"


def encode(alert: Alert) -> bytes:
    """The bytes of one revision."""
    context, verdict = alert.context, alert.verdict
    data = {
        "alert_id": alert.alert_id,
        "revision": alert.revision,
        "kind": alert.kind.value,
        "severity": alert.severity,
        "source": context.source,
        "call_id": context.call,
        "leg": context.leg,
        "leg_role": context.role.value,
        "codec": context.codec,
        "first_seen": rfc3339(alert.first_seen_utc),
        "last_seen": rfc3339(alert.last_seen_utc),
        "stream_offset_s": _number(verdict.offset_s, 3),
        "net_speech_s": _number(verdict.net_speech_s, 2),
        "state": verdict.state.value,
        "llr": _number(verdict.llr, 3),
        "p_spoof": _number(verdict.p_spoof, 6),
        "decision_rule": {
            "name": context.rule.name,
            "thresholds": {k: _number(v, 6) for k, v in sorted(context.rule.thresholds.items())},
        },
        "windows": {
            "scored": verdict.windows_scored,
            "rejected": {
                reason.value: count for reason, count in sorted(verdict.windows_rejected.items())
            },
        },
        "attribution": {
            "technology": _label(verdict.attribution.technology),
            "generator": _label(verdict.attribution.generator),
        },
        "model": _model(context.detector),
        "attribution_model": _model(context.attribution) if context.attribution else None,
        "calibration": context.calibration,
        "engine": _engine(context.engine),
        "attribution_engine": (
            _engine(context.attribution_engine) if context.attribution_engine else None
        ),
        "latency_ms": {
            "p50": _number(alert.latency.p50_ms, 1),
            "p95": _number(alert.latency.p95_ms, 1),
        },
        "quality": {
            "loss_pct": _number(alert.quality.loss_pct, 2),
            "jitter_ms": _number(alert.quality.jitter_ms, 2),
            "level_dbfs": _number(alert.quality.level_dbfs, 1),
        },
        "evidence": None,
        "explanation": {"type": "text", "summary": summary(alert)},
        "cleared_reason": alert.cleared_reason.value if alert.cleared_reason else None,
        "cleared_detail": plain(alert.cleared_detail) if alert.cleared_detail else None,
        "acknowledged": {
            "operator": plain(alert.acknowledged.operator),
            "note": plain(alert.acknowledged.note),
            "at": rfc3339(alert.acknowledged.at_utc),
        }
        if alert.acknowledged
        else None,
    }
    return _canonical(
        {
            "specversion": "1.0",
            "id": f"{alert.alert_id}/{alert.revision}",
            "type": _TYPE.format(kind=alert.kind.value),
            "source": f"/streamguard/{context.node}",
            "subject": f"call/{context.call}/leg/{context.leg_index}",
            "time": rfc3339(alert.at_utc),
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def cause(alert: Alert) -> bytes:
    """The state that an alert came from, kept beside it until it is closed (not published)."""
    verdict = alert.verdict
    return _canonical(
        {
            "leg": verdict.leg,
            "state": verdict.state.value,
            "rule": verdict.rule,
            "changed": verdict.changed,
            "llr": _number(verdict.llr, 6),
            "offset_s": _number(verdict.offset_s, 3),
            "net_speech_s": _number(verdict.net_speech_s, 2),
            "evidence_s": [[round(a, 3), round(b, 3)] for a, b in verdict.evidence],
        }
    )


def close_interrupted(payload: bytes, at_utc: float) -> tuple[int, bytes]:
    """The revision after ``payload`` that closes its alert: the daemon died with it open.

    Returns the new revision and its bytes. Raises ValueError if ``payload`` is not one of ours.
    """
    try:
        event: dict[str, Any] = json.loads(payload)
        data: dict[str, Any] = event["data"]
        revision = int(data["revision"]) + 1
        data |= {
            "revision": revision,
            "kind": Kind.CLEARED.value,
            "cleared_reason": ClearedReason.SHUTDOWN.value,
            "cleared_detail": INTERRUPTED,
            "explanation": {"type": "text", "summary": f"Alert closed: {INTERRUPTED}."},
        }
        event |= {
            "id": f"{data['alert_id']}/{revision}",
            "type": _TYPE.format(kind=Kind.CLEARED.value),
            "time": rfc3339(at_utc),
        }
    except (KeyError, TypeError, ValueError) as err:
        raise ValueError(f"not an alert payload: {err}") from err
    return revision, _canonical(event)


def summary(alert: Alert) -> str:
    """One sentence for a person; says what is likely, never what is certain."""
    verdict = alert.verdict
    leg = f"the {alert.context.role.value} leg"
    heard = f"after {verdict.net_speech_s:.1f} s of speech (LLR {verdict.llr:+.1f})"
    if alert.kind is Kind.CLEARED:
        why = {
            ClearedReason.EVIDENCE: "the evidence now speaks for a bona fide voice",
            ClearedReason.CALL_ENDED: "the call ended",
            ClearedReason.SOURCE_LOST: "the source was lost",
            ClearedReason.SHUTDOWN: "the monitor stopped",
            ClearedReason.MODEL_CHANGED: "the model was changed",
            None: "it is over",
        }[alert.cleared_reason]
        return f"Alert on {leg} closed: {why}."
    what = {
        State.SPOOF: f"Speech on {leg} is likely synthetic {heard}",
        State.SUSPECT: f"Speech on {leg} may be synthetic {heard}",
    }.get(verdict.state, f"Speech on {leg} was likely synthetic; now undecided {heard}")
    origin = _origin(verdict)
    since = "; the voice changed in mid-call" if verdict.changed else ""
    return f"{what}{since}{origin}."


def rfc3339(utc: float) -> str:
    """POSIX seconds as UTC with milliseconds."""
    stamp = dt.datetime.fromtimestamp(utc, dt.UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(text: str) -> str:
    """Free text of a person or a peer, on one line and not too long."""
    return "".join(c if c.isprintable() else " " for c in text)[:_TEXT_CHARS_MAX]


def _origin(verdict: Verdict) -> str:
    technology, generator = verdict.attribution.technology, verdict.attribution.generator
    if not isinstance(technology, Label):
        return ""
    named = f"; closest to {technology.label}"
    return f"{named} ({generator.label})" if isinstance(generator, Label) else named


def _label(value: Label | Rejection | None) -> dict[str, Any] | str:
    if value is None:
        return "not_run"
    if isinstance(value, Rejection):
        return {"rejected": value.value}
    return {"label": value.label, "p_value": _number(value.p_value, 4)}


def _model(facts: ModelFacts) -> dict[str, str]:
    return {"name": facts.name, "version": facts.version, "sha256": facts.sha256}


def _engine(facts: EngineFacts) -> dict[str, str]:
    return {"target": facts.target, "provider": facts.provider, "precision": facts.precision}


def _number(value: float | None, digits: int) -> float | None:
    """Rounded; null where JSON has no such number."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def _canonical(value: dict[str, Any]) -> bytes:
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")
