"""Digest authentication: against the example of the RFC, replays and any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.errors import ProtocolError
from streamguard.protocols import digest
from streamguard.protocols.digest import (
    MAX_NONCES,
    NONCE_LIFE_S,
    Algorithm,
    DigestGate,
    Outcome,
    parse_authorization,
    respond,
)

# RFC 7616 section 3.9.1: Mufasa's request.
MUFASA = {
    "username": "Mufasa",
    "realm": "http-auth@example.org",
    "uri": "/dir/index.html",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "nc": "00000001",
    "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    "qop": "auth",
}


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (Algorithm.MD5, "8ca523f5e9506fed4657c9700eebdbec"),
        (
            Algorithm.SHA_256,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ],
)
def test_the_response_is_that_of_the_rfcs_example(algorithm: Algorithm, expected: str) -> None:
    assert respond(MUFASA, "GET", "Circle of Life", algorithm) == expected


def gate(**more: object) -> DigestGate:
    return DigestGate("rec", {"sbc": "secret"}, **more)  # type: ignore[arg-type]  # algorithms only


def authorize(challenge: str, count: int = 1, **changes: str) -> str:
    fields = parse_authorization(challenge)
    fields |= {
        "username": "sbc",
        "uri": "sip:x",
        "nc": f"{count:08x}",
        "cnonce": "c",
        "qop": "auth",
    }
    password = changes.pop("password", "secret")
    fields |= changes
    algorithm = Algorithm(fields["algorithm"])
    fields["response"] = respond(fields, "INVITE", password, algorithm)
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in fields.items())


@pytest.mark.parametrize("number", [0, 1])
def test_the_right_password_opens_with_either_algorithm(number: int) -> None:
    door = gate()
    challenges = door.challenges(10.0)
    assert "SHA-256" in challenges[0]
    assert door.check(authorize(challenges[number]), "INVITE", 11.0) is Outcome.ACCEPTED


def test_a_count_is_taken_once_and_later_ones_are_taken() -> None:
    door = gate()
    (challenge, _) = door.challenges(10.0)
    outcomes = [
        door.check(authorize(challenge, count=count), "INVITE", 11.0) for count in (1, 1, 3, 2, 4)
    ]
    assert outcomes == [
        Outcome.ACCEPTED,
        Outcome.STALE,
        Outcome.ACCEPTED,
        Outcome.STALE,
        Outcome.ACCEPTED,
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "wrong"},
        {"username": "nobody"},
        {"realm": "elsewhere"},
        {"nonce": "0" * 64},
        {"nonce": ""},
        {"qop": "auth-int"},
        {"nc": "1"},
        {"nc": "0000000g"},
    ],
)
def test_a_wrong_answer_is_refused(changes: dict[str, str]) -> None:
    door = gate()
    answer = authorize(door.challenges(10.0)[0], 1, **changes)
    assert door.check(answer, "INVITE", 11.0) is Outcome.REFUSED


def test_an_answer_to_another_method_is_refused() -> None:
    door = gate()
    assert door.check(authorize(door.challenges(10.0)[0]), "BYE", 11.0) is Outcome.REFUSED


def test_a_nonce_of_somebody_else_is_refused() -> None:
    assert gate().check(authorize(gate().challenges(1.0)[0]), "INVITE", 1.0) is Outcome.REFUSED


def test_an_algorithm_that_is_not_offered_is_refused() -> None:
    door = gate(algorithms=(Algorithm.SHA_256,))
    (challenge,) = door.challenges(10.0)
    weaker = authorize(challenge.replace("SHA-256", "MD5"))
    assert door.check(weaker, "INVITE", 11.0) is Outcome.REFUSED


def test_an_old_nonce_is_stale() -> None:
    door = gate()
    answer = authorize(door.challenges(10.0)[0])
    assert door.check(answer, "INVITE", 11.0 + NONCE_LIFE_S) is Outcome.STALE


def test_nonces_beyond_what_is_remembered_cannot_be_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(digest, "MAX_NONCES", 3)
    door = gate()
    answers = [authorize(door.challenges(10.0 + n)[0]) for n in range(5)]
    assert all(door.check(answer, "INVITE", 20.0) is Outcome.ACCEPTED for answer in answers)
    assert all(door.check(answer, "INVITE", 20.0) is Outcome.STALE for answer in answers)
    assert len(door._counts) == 3
    assert MAX_NONCES >= 1_000


@pytest.mark.parametrize("value", ["", "Basic eA==", "Digest a", "Digest a=1, a=2", 'Digest a="'])
def test_what_is_no_digest_is_a_protocol_error(value: str) -> None:
    with pytest.raises(ProtocolError):
        parse_authorization(value)


@given(st.text(max_size=80))
def test_any_text_is_judged_or_refused(text: str) -> None:
    door = gate()
    for value in (text, f"Digest {text}", f"{door.challenges(1.0)[0]}, {text}"):
        try:
            assert door.check(value, "INVITE", 1.0) is Outcome.REFUSED
        except ProtocolError:
            pass
