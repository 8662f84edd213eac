"""Who is next: while there is time for all, no leg waits for a second block of another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamguard.inference.lanes import Lanes
from tests.inference.makers import block

_LEGS = 6
_BLOCKS = {(leg, hop): block(str(leg), hop) for leg in range(_LEGS) for hop in range(64)}
_STEPS = st.lists(
    st.one_of(st.integers(0, _LEGS - 1), st.integers(1, 4).map(lambda n: -n)), max_size=120
)
"""A leg that gets a block, or (negative) so many blocks that are taken."""


@given(_STEPS)
def test_between_two_blocks_of_a_leg_every_other_that_waited_has_one(steps: list[int]) -> None:
    lanes = Lanes(per_leg=64, total=1024)
    given_hops = dict.fromkeys(range(_LEGS), 0)
    waiting = dict.fromkeys(range(_LEGS), 0)
    passed_over: dict[int, set[int]] = {leg: set() for leg in range(_LEGS)}
    """By leg that waits: those that had a block since it began to wait, or had its own last."""
    for step in steps:
        if step >= 0:
            if given_hops[step] == 64:
                continue
            if not waiting[step]:
                passed_over[step] = set()
            lanes.put(_BLOCKS[step, given_hops[step]], live=True)
            given_hops[step] += 1
            waiting[step] += 1
            continue
        for taken in lanes.take(-step).blocks:
            leg = int(taken.leg)
            waiting[leg] -= 1
            passed_over[leg] = set()
            for other in range(_LEGS):
                if other != leg and waiting[other]:
                    assert leg not in passed_over[other], f"{leg} twice while {other} waited"
                    passed_over[other].add(leg)
    assert lanes.dropped.total() == 0


@given(st.integers(2, 12), st.integers(1, 8))
def test_a_batch_holds_one_block_of_each_leg_before_a_second_of_any(legs: int, limit: int) -> None:
    lanes = Lanes(per_leg=8, total=256)
    for leg in range(legs):
        for hop in range(4):
            lanes.put(block(str(leg), hop), live=True)
    seen: list[str] = []
    while batch := lanes.take(limit).blocks:
        seen += [taken.leg for taken in batch]
    rounds = [seen[at : at + legs] for at in range(0, len(seen), legs)]
    assert all(len(set(one)) == legs for one in rounds)
