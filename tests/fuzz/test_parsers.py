"""No bytes make a parser raise what it does not declare, keep more than it may, or lose count."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamguard.protocols
from tests.fuzz.mutate import MAX_BYTES, mutate
from tests.fuzz.pieces import join, split
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import NOT_FUZZED, TARGETS

EXAMPLES = 25
"""Of each target: a few seconds in all. ``make fuzz`` looks for longer."""


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_good_inputs_and_those_that_once_broke_it_do_no_harm(name: str) -> None:
    found = seeds(name)
    assert found
    for data in found:
        TARGETS[name](data)


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32), noise=st.binary(max_size=64))
def test_damaged_inputs_do_no_harm(name: str, seed: int, noise: bytes) -> None:
    chance = random.Random(seed)
    good = seeds(name)
    TARGETS[name](mutate(chance.choice(good), good, chance))
    TARGETS[name](noise)


def test_every_module_of_the_protocol_layer_is_fuzzed_or_says_why_not() -> None:
    folder = Path(streamguard.protocols.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    fuzzed = {module for target in TARGETS.values() for module in target.modules}
    assert modules - fuzzed == NOT_FUZZED.keys()
    assert fuzzed <= modules


def test_mutation_is_deterministic_and_bounded() -> None:
    good = seeds("sip_message")
    first, again = (mutate(good[0], good, random.Random(5)) for _ in range(2))
    assert first == again != good[0]
    for seed in range(200):
        assert len(mutate(b"x" * 3 * MAX_BYTES, good, random.Random(seed))) <= MAX_BYTES
        mutate(b"", good, random.Random(seed))


def test_pieces_come_back_as_they_were_joined() -> None:
    assert list(split(join([b"", b"one", b"two" * 100]))) == [b"", b"one", b"two" * 100]
    assert list(split(b"\0\x05abc")) == [b"abc"]
    assert list(split(b"\0")) == []


def test_a_parser_that_raises_is_found() -> None:
    from tests.fuzz.targets import Target

    with pytest.raises(ValueError, match="broken"):
        Target(lambda data: int("broken"), ())(b"")
