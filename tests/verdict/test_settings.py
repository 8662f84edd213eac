"""Verdict settings: described, sensible by default, impossible combinations refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from streamguard.verdict.settings import (
    CusumSettings,
    MajoritySettings,
    SequentialSettings,
    VerdictSettings,
    hops_of,
)

SECTIONS: list[type[BaseModel]] = [
    VerdictSettings,
    SequentialSettings,
    CusumSettings,
    MajoritySettings,
]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_described(section: type[BaseModel]) -> None:
    assert all(field.description for field in section.model_fields.values())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"majority": {"k": 9, "n": 8}}, "must not exceed n"),
        ({"majority": {"k": 5, "n": 8, "quorum": 4}}, "quorum"),
        ({"majority": {"k": 5, "n": 8, "quorum": 9}}, "quorum"),
        ({"majority": {"k": 3, "n": 8, "clear_k": 3}}, "below k"),
        ({"majority": {"k": 8, "n": 8, "min_votes_s": 4.5}}, "8 windows of a running leg add 4 s"),
        (
            {"sequential": {"min_net_speech_s": 10, "horizon_net_speech_s": 5}},
            "must be at least min_net_speech_s",
        ),
        ({"suspect_llr": 0.0, "clear_llr": 0.0}, "must be below suspect_llr"),
        ({"sequential": {"false_alarm": 0.0}}, "greater than 0"),
        ({"sequential": {"miss": 0.5}}, "less than 0.5"),
        ({"cusum": {"false_alarms_per_call_hour": 0}}, "greater than or equal"),
        ({"mixed_pause_s": 1.0}, "greater than or equal to 3"),
        ({"rule": "unanimous"}, "'sequential' or 'majority'"),
        ({"quorum": 3}, "Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        VerdictSettings.model_validate(values)


def test_seconds_become_the_fewest_hops_that_hold_them() -> None:
    assert [hops_of(seconds) for seconds in (0.1, 0.5, 0.6, 3.0, 60.0)] == [1, 1, 2, 6, 120]
