"""The topics, which users rely on, and that no name gets out of its level."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.alerts.topics import Topics, clean_level


def test_the_topics_are_those_of_the_contract() -> None:
    topics = Topics("streamguard", "node1")
    assert topics.availability == "streamguard/node1/availability"
    assert topics.status == "streamguard/node1/status"
    assert topics.stats == "streamguard/node1/stats"
    assert topics.source_state("trunk") == "streamguard/node1/source/trunk/state"
    assert topics.source_verdict("trunk") == "streamguard/node1/source/trunk/verdict"
    assert topics.alert("trunk") == "streamguard/node1/source/trunk/alert"
    assert topics.acknowledge == "streamguard/node1/cmd/ack"
    assert topics.suppress == "streamguard/node1/cmd/suppress"
    assert topics.result == "streamguard/node1/cmd/result"


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("trunk", "trunk"),
        ("Zürich 2", "Zürich 2"),
        ("a/b", "ab"),
        ("#", "_"),
        ("+/#", "_"),
        ("", "_"),
        ("x\x00\x1b[2Jy", "x[2Jy"),
        ("a\u202eb\ufeff", "ab"),
        ("\ud800", "_"),
        ("n" * 500, "n" * 64),
    ],
)
def test_names_are_stripped(name: str, level: str) -> None:
    assert clean_level(name) == level


def test_a_prefix_of_several_levels_stays_and_a_dollar_goes() -> None:
    assert Topics("site/hall", "n").base == "site/hall/n"
    assert Topics("$SYS", "n").base == "SYS/n"
    assert Topics("+/#", "n").base == "_/_/n"


@given(prefix=st.text(), node=st.text(), source=st.text())
def test_no_name_adds_a_level_or_a_wildcard(prefix: str, node: str, source: str) -> None:
    topics = Topics(prefix, node)
    depth = topics.base.count("/")
    for topic in (topics.alert(source), topics.source_state(source), topics.source_verdict(source)):
        assert topic.count("/") == depth + 3
        assert not set(topic) & set("+#")
        assert not topic.startswith("$")
        assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in topic)
        topic.encode("utf-8")
