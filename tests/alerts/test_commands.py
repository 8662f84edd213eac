from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.alerts.commands import (
    MAX_BYTES,
    MAX_DURATION_S,
    CommandError,
    parse_ack,
    parse_suppress,
)
from streamguard.alerts.suppression import Field

ACK = {"alert_id": "a1", "operator": "op7"}
SUPPRESS = {"source": "trunk", "operator": "op7", "reason": "drill", "duration_s": 60}


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


def test_an_acknowledgement_is_read() -> None:
    command = parse_ack(encoded(ACK | {"note": "called back", "request_id": "r1"}))
    assert (command.alert_id, command.operator) == ("a1", "op7")
    assert (command.note, command.request_id) == ("called back", "r1")


def test_a_suppress_rule_is_read() -> None:
    command = parse_suppress(encoded(SUPPRESS))
    assert (command.field, command.value, command.duration_s) == (Field.SOURCE, "trunk", 60.0)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"duration_s": None}, "field"),
        ({"duration_s": 0}, "field"),
        ({"duration_s": True}, "field"),
        ({"duration_s": MAX_DURATION_S + 1}, "field"),
        ({"duration_s": float("nan")}, "field"),
        ({"duration_s": float("inf")}, "field"),
        ({"reason": ""}, "field"),
        ({"reason": "two\nlines"}, "field"),
        ({"operator": 7}, "field"),
        ({"call_id": "c1"}, "field"),
        ({"source": "x" * 200}, "field"),
        ({"colour": "red"}, "field"),
    ],
)
def test_a_suppress_rule_that_is_not_right_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_suppress(encoded(SUPPRESS | change))
    assert refused.value.code == code


def test_a_suppress_rule_needs_an_end_and_a_reason() -> None:
    for key in ("duration_s", "reason", "operator", "source"):
        with pytest.raises(CommandError):
            parse_suppress(encoded({k: v for k, v in SUPPRESS.items() if k != key}))


def test_only_known_roles_can_be_suppressed() -> None:
    rule = {k: v for k, v in SUPPRESS.items() if k != "source"}
    assert parse_suppress(encoded(rule | {"leg_role": "callee"})).value == "callee"
    with pytest.raises(CommandError, match="caller, callee, mixed, unknown"):
        parse_suppress(encoded(rule | {"leg_role": "everybody"}))


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "not_json"),
        (b"[]", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 4000, "not_json"),
        (b" " * (MAX_BYTES + 1), "too_large"),
    ],
)
def test_bytes_that_are_no_command_are_refused(payload: bytes, code: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_ack(payload)
    assert refused.value.code == code


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(("alert_id", "operator", "source", "reason", "duration_s", "note")),
                inner,
            )
        ),
    ).map(encoded)
)
def test_no_bytes_do_anything_but_parse_or_be_refused(payload: bytes) -> None:
    for parse in (parse_ack, parse_suppress):
        with contextlib.suppress(CommandError):
            parse(payload)
