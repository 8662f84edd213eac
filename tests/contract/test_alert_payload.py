"""The alert payload, which users rely on: envelope, every field, stable bytes, careful words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamguard.alerts import schema
from streamguard.alerts.alert import Acknowledgement, Alert, ClearedReason, Kind
from streamguard.alerts.context import LatencySnapshot, QualitySnapshot
from streamguard.verdict.scores import Attribution, Label, Rejection, State
from tests.alerts.builders import START_UTC, context, verdict

CONTRACT_FIELDS = {
    *("alert_id", "revision", "kind", "severity", "source", "call_id", "leg", "leg_role", "codec"),
    *("first_seen", "last_seen", "stream_offset_s", "net_speech_s", "state", "llr", "p_spoof"),
    *("decision_rule", "windows", "attribution", "model", "calibration", "engine", "latency_ms"),
    *("quality", "evidence", "explanation"),
}
ADDITIVE_FIELDS = {
    *("cleared_reason", "cleared_detail", "acknowledged", "attribution_model"),
    "attribution_engine",
}


def alert(kind: Kind = Kind.RAISED, **changes: Any) -> Alert:
    made = Alert(
        alert_id="a1",
        revision=3,
        kind=kind,
        at_utc=START_UTC + 3.0,
        severity=4,
        first_seen_utc=START_UTC + 3.0,
        last_seen_utc=START_UTC + 3.0,
        context=context(),
        verdict=verdict(),
        quality=QualitySnapshot(loss_pct=0.5, jitter_ms=3.25, level_dbfs=-27.04),
        latency=LatencySnapshot(p50_ms=40.0, p95_ms=61.2),
    )
    return replace(made, **changes)


def data_of(made: Alert) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(schema.encode(made))["data"]
    return data


def test_the_envelope_is_a_cloud_event() -> None:
    event = json.loads(schema.encode(alert()))
    assert event["specversion"] == "1.0"
    assert event["id"] == "a1/3"
    assert event["type"] == "io.streamguard.alert.raised.v1"
    assert event["source"] == "/streamguard/node1"
    assert event["subject"] == "call/call-secret-7/leg/0"
    assert event["time"] == "2027-01-15T08:00:03.000Z"
    assert event["datacontenttype"] == "application/json"


@pytest.mark.parametrize("kind", list(Kind))
def test_every_field_of_the_contract_is_present_in_every_kind(kind: Kind) -> None:
    data = data_of(alert(kind))
    assert data.keys() == CONTRACT_FIELDS | ADDITIVE_FIELDS
    assert data["kind"] == kind.value


def test_the_nested_fields_are_those_of_the_contract() -> None:
    data = data_of(alert())
    assert data["decision_rule"] == {
        "name": "sequential",
        "thresholds": {"lower": -2.0, "upper": 3.2},
    }
    assert data["windows"] == {"scored": 4, "rejected": {"silence": 2}}
    assert data["model"] == {"name": "cnn_lstm", "version": "0.1.0", "sha256": "ab" * 32}
    assert data["engine"] == {
        "target": "cpu-fp32",
        "provider": "CPUExecutionProvider",
        "precision": "fp32",
    }
    assert data["attribution_engine"] == {
        "target": "cpu-int8",
        "provider": "CPUExecutionProvider",
        "precision": "int8",
    }
    assert data["latency_ms"] == {"p50": 40.0, "p95": 61.2}
    assert data["quality"] == {"loss_pct": 0.5, "jitter_ms": 3.25, "level_dbfs": -27.0}
    assert (data["leg_role"], data["state"], data["evidence"]) == ("caller", "SPOOF", None)


def test_attribution_is_a_label_a_rejection_or_not_run() -> None:
    made = alert(
        verdict=verdict(
            attribution=Attribution(Label("vocoder", 0.41239), Rejection.LOW_CONFIDENCE)
        )
    )
    assert data_of(made)["attribution"] == {
        "technology": {"label": "vocoder", "p_value": 0.4124},
        "generator": {"rejected": "low_confidence"},
    }
    assert data_of(alert())["attribution"] == {"technology": "not_run", "generator": "not_run"}


def test_what_is_not_known_is_null() -> None:
    data = data_of(
        alert(
            quality=QualitySnapshot(),
            latency=LatencySnapshot(),
            context=replace(context(), attribution=None, attribution_engine=None, calibration=None),
            verdict=replace(verdict(), llr=float("nan")),
        )
    )
    assert data["quality"] == {"loss_pct": None, "jitter_ms": None, "level_dbfs": None}
    assert data["latency_ms"] == {"p50": None, "p95": None}
    assert (data["attribution_model"], data["attribution_engine"]) == (None, None)
    assert (data["calibration"], data["llr"]) == (None, None)


def test_a_cleared_alert_says_why() -> None:
    made = alert(Kind.CLEARED, cleared_reason=ClearedReason.CALL_ENDED, cleared_detail="inactivity")
    data = data_of(made)
    assert (data["cleared_reason"], data["cleared_detail"]) == ("call_ended", "inactivity")
    assert {reason.value for reason in ClearedReason} == {
        *("evidence", "call_ended", "source_lost", "shutdown", "model_changed")
    }


def test_an_acknowledgement_is_in_the_alert() -> None:
    who = Acknowledgement("op7", "called\nback", START_UTC + 60)
    assert data_of(alert(acknowledged=who))["acknowledged"] == {
        "operator": "op7",
        "note": "called back",
        "at": "2027-01-15T08:01:00.000Z",
    }


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("reason", [None, *ClearedReason])
def test_the_words_are_careful(kind: Kind, state: State, reason: ClearedReason | None) -> None:
    made = alert(kind, verdict=verdict(state), cleared_reason=reason)
    assert "fake" not in schema.encode(made).decode().lower()


def test_a_raised_alert_says_likely_synthetic() -> None:
    summary = data_of(alert())["explanation"]["summary"]
    assert summary.startswith("Speech on the caller leg is likely synthetic after 1.5 s of speech")


def test_the_bytes_of_a_revision_are_always_the_same() -> None:
    """A change of these bytes is a change of the contract: additive only, and on purpose."""
    assert schema.encode(alert()) == schema.encode(alert())
    assert schema.encode(alert()).startswith(b'{"data":{"acknowledged":null,"alert_id":"a1",')


def test_hostile_names_stay_inside_their_strings() -> None:
    hostile = 'x","data":{"state":"BONAFIDE"}}\n\x00\ud800'
    made = alert(context=replace(context(), codec=hostile, call=hostile))
    event = json.loads(schema.encode(made))
    assert event["data"]["codec"] == hostile
    assert event["data"]["state"] == "SPOOF"
    assert b"\n" not in schema.encode(made)


def test_an_interrupted_alert_is_closed_with_the_next_revision() -> None:
    revision, closed = schema.close_interrupted(schema.encode(alert()), START_UTC + 99)
    event = json.loads(closed)
    assert (revision, event["id"]) == (4, "a1/4")
    assert event["type"] == "io.streamguard.alert.cleared.v1"
    assert event["data"]["kind"] == "cleared"
    assert event["data"]["cleared_reason"] == "shutdown"
    assert event["data"]["cleared_detail"].startswith("interrupted")
    assert event["data"].keys() == CONTRACT_FIELDS | ADDITIVE_FIELDS


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"data":{}}', b'{"data":3}', b"\xff"])
def test_a_payload_that_is_not_ours_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not an alert payload"):
        schema.close_interrupted(payload, START_UTC)
