from __future__ import annotations

import json

import pytest

from streamguard.demo.legs import Truth
from streamguard.demo.report import (
    AlertSeen,
    DemoReport,
    Judgement,
    LegOutcome,
    exact_quantiles,
)
from streamguard.verdict.scores import State


def outcome(
    truth: Truth, state: State, raised_s: float | None = None, turn_s: float | None = None
) -> LegOutcome:
    alerts = (AlertSeen("a1", 1, "raised", "SPOOF", raised_s),) if raised_s is not None else ()
    return LegOutcome(
        name="leg",
        truth=truth,
        state=state,
        llr=2.5,
        p_spoof=0.9,
        technology="tts",
        generator=None,
        windows_scored=10,
        windows_rejected={"silence": 3},
        alerts=alerts,
        turn_s=turn_s,
    )


@pytest.mark.parametrize(
    ("leg", "judgement", "words"),
    [
        (outcome(Truth.SYNTHETIC, State.SPOOF, 6.0), Judgement.RIGHT, "alarm after 6.0 s"),
        (outcome(Truth.SYNTHETIC, State.BONAFIDE), Judgement.WRONG, "missed"),
        (outcome(Truth.SYNTHETIC, State.SUSPECT), Judgement.UNDECIDED, "no decision"),
        (outcome(Truth.HUMAN, State.BONAFIDE), Judgement.RIGHT, "no alarm"),
        (outcome(Truth.HUMAN, State.BONAFIDE, 5.0), Judgement.WRONG, "false alarm"),
        (outcome(Truth.HUMAN, State.SPOOF), Judgement.WRONG, "false alarm"),
        (outcome(Truth.HUMAN, State.UNKNOWN), Judgement.UNDECIDED, "no decision"),
        (outcome(Truth.TURNS, State.SPOOF, 20.0, 15.0), Judgement.RIGHT, "5.0 s after the voice"),
        (outcome(Truth.TURNS, State.SPOOF, 9.0, 15.0), Judgement.WRONG, "before the voice changed"),
        (outcome(Truth.TURNS, State.BONAFIDE, None, 15.0), Judgement.WRONG, "missed"),
        (outcome(Truth.NO_SPEECH, State.UNKNOWN), Judgement.RIGHT, "nothing said"),
        (outcome(Truth.NO_SPEECH, State.BONAFIDE), Judgement.WRONG, "nobody speaks"),
        (outcome(Truth.NO_SPEECH, State.UNKNOWN, 4.0), Judgement.WRONG, "nobody speaks"),
    ],
)
def test_a_verdict_is_held_against_the_truth(
    leg: LegOutcome, judgement: Judgement, words: str
) -> None:
    found, said = leg.judgement()
    assert found is judgement
    assert words in said


def test_the_json_object_is_the_contract_and_nothing_else() -> None:
    report = DemoReport(
        (outcome(Truth.SYNTHETIC, State.SPOOF, 6.0),), exact_quantiles([0.1, 0.2]), None, 0.12, 0.03
    )
    assert json.loads(json.dumps(report.as_dict())) == {
        "legs": [
            {
                "name": "leg",
                "truth": "synthetic",
                "verdict": {
                    "state": "SPOOF",
                    "llr": 2.5,
                    "p_spoof": 0.9,
                    "technology": "tts",
                    "generator": None,
                },
                "windows": {"scored": 10, "rejected": {"silence": 3}},
                "alerts": [
                    {
                        "alert_id": "a1",
                        "revision": 1,
                        "kind": "raised",
                        "state": "SPOOF",
                        "stream_offset_s": 6.0,
                    }
                ],
            }
        ],
        "latency_ms": {"verdict": {"p50": 100.0, "p95": 200.0, "p99": 200.0}, "subscriber": None},
        "realtime_factor": 0.12,
        "cpu_per_leg": 0.03,
    }


def test_the_text_says_it_also_when_the_models_are_wrong() -> None:
    legs = (outcome(Truth.HUMAN, State.SPOOF, 4.0), outcome(Truth.SYNTHETIC, State.BONAFIDE))
    text = DemoReport(legs, exact_quantiles([0.08] * 5), None, 0.1234, 0.031).as_text()
    assert "WRONG: false alarm (tts)" in text
    assert "WRONG: missed" in text
    assert "p50 80 ms, p95 80 ms, p99 80 ms (of 5)" in text
    assert "nothing to measure" in text
    assert "Real-time factor 0.123" in text
    assert "3.1 % of a core per leg" in text


def test_quantiles_are_nearest_rank() -> None:
    found = exact_quantiles([float(x) for x in range(100, 0, -1)])
    assert found is not None
    assert (found.p50, found.p95, found.p99, found.count) == (50.0, 95.0, 99.0, 100)
    assert exact_quantiles([]) is None


def test_an_alert_is_read_from_its_payload() -> None:
    payload = {
        "id": "a1/2",
        "data": {
            "alert_id": "a1",
            "revision": 2,
            "kind": "cleared",
            "state": "SPOOF",
            "stream_offset_s": 7.5,
            "more": "fields",
        },
    }
    assert AlertSeen.from_payload(payload) == AlertSeen("a1", 2, "cleared", "SPOOF", 7.5)
    with pytest.raises(KeyError):
        AlertSeen.from_payload({"data": {}})
