"""Who is monitored: by role, by hash, and from when; no number goes further than the policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamguard.errors import ConfigError
from streamguard.events import Identity, IdentityKind, LegRole, LegStarted
from streamguard.policy import (
    OTHER_TRUNK,
    Exclusion,
    Policy,
    PolicySettings,
    identity_tag,
    normalised,
)

KEY = b"a key of the operator"


def number(value: str) -> Identity:
    return Identity(IdentityKind.NUMBER, value)


def trunk(value: str) -> Identity:
    return Identity(IdentityKind.TRUNK, value)


def started(*identities: Identity, source: str = "sbc") -> LegStarted:
    return LegStarted(
        source, "call", "leg", LegRole.CALLER, "PCMU", 8_000, 0.0, identities=identities
    )


def policy(**values: object) -> Policy:
    settings = PolicySettings.model_validate({"identity_key": {"env": "X"}, **values})
    return Policy(settings, KEY)


@pytest.mark.parametrize(
    "written",
    [
        "+4930123",
        "sip:+4930123@pbx.example",
        "SIPS:+49-30-123@203.0.113.9:5061;transport=tls;user=phone",
        "tel:+49(30)123",
        " sip:+49.30.123@x?Replaces=1 ",
    ],
)
def test_a_number_is_one_however_it_is_written(written: str) -> None:
    assert normalised(number(written)) == "+4930123"


def test_a_name_keeps_its_host_and_a_trunk_is_taken_as_it_is() -> None:
    assert normalised(number("sip:IVR@Pbx.example;x=1")) == "ivr@pbx.example"
    assert normalised(number("sip:ivr@other")) != normalised(number("sip:ivr@pbx"))
    assert normalised(trunk(" 203.0.113.9:5060 ")) == "203.0.113.9:5060"


@given(st.text(max_size=80), st.sampled_from(IdentityKind))
def test_any_text_has_a_hash_of_one_length_that_depends_on_the_key(
    text: str, kind: IdentityKind
) -> None:
    one = identity_tag(KEY, Identity(kind, text))
    assert len(one) == 32
    assert one != identity_tag(b"another key, as long", Identity(kind, text))


def test_a_number_and_a_trunk_of_one_spelling_have_different_hashes() -> None:
    assert identity_tag(KEY, number("100")) != identity_tag(KEY, trunk("100"))


def test_an_identity_shows_nothing_in_reprs() -> None:
    assert "4930123" not in repr(started(number("+4930123")))


def test_an_allowed_number_is_recognised_by_its_hash_alone() -> None:
    rules = policy(allow=[identity_tag(KEY, number("+4930123"))])
    assert rules.is_allowed(started(number("sip:+4930123@pbx")))
    assert not rules.is_allowed(started(number("+4930124")))
    assert not rules.is_allowed(started())


def test_trunks_have_the_names_that_the_operator_gave_and_no_others() -> None:
    rules = policy(trunks={"carrier-a": identity_tag(KEY, trunk("203.0.113.9"))})
    assert rules.trunk(started(number("+49"), trunk("203.0.113.9"))) == "carrier-a"
    assert rules.trunk(started(trunk("203.0.113.10"))) == OTHER_TRUNK


def test_roles_and_early_media_may_differ_by_source() -> None:
    rules = policy(
        roles=["caller"],
        sources={"ivr": {"roles": ["callee", "mixed"], "early_media": "monitor"}},
    )
    assert rules.exclusion("sbc", LegRole.CALLER) is None
    assert rules.exclusion("sbc", LegRole.CALLEE) is Exclusion.ROLE
    assert rules.exclusion("ivr", LegRole.CALLEE) is None
    assert rules.exclusion("ivr", LegRole.CALLER) is Exclusion.ROLE
    assert (rules.hears_early_media("sbc"), rules.hears_early_media("ivr")) == (False, True)


def test_without_rules_everybody_is_monitored() -> None:
    rules = Policy(PolicySettings())
    assert not rules.is_allowed(started(number("+49")))
    assert {rules.exclusion("sbc", role) for role in LegRole} == {None}


@pytest.mark.parametrize(
    "values",
    [
        {"allow": ["0" * 32]},
        {"trunks": {"a": "0" * 32}},
        {"identity_key": {"env": "X"}, "allow": ["+4930123"]},
        {"identity_key": {"env": "X"}, "trunks": {"other": "0" * 32}},
        {"roles": []},
        {"roles": ["boss"]},
    ],
)
def test_wrong_rules_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PolicySettings.model_validate(values)


@pytest.mark.parametrize("key", [None, "short"])
def test_a_key_that_is_missing_or_guessable_is_a_configuration_error(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is not None:
        monkeypatch.setenv("TEST_POLICY_KEY", key)
    settings = PolicySettings.model_validate({"identity_key": {"env": "TEST_POLICY_KEY"}})
    with pytest.raises(ConfigError, match=r"policy\.identity_key") as error:
        Policy.of(settings, Path("streamguard.yaml"))
    assert key is None or key not in str(error.value)
