"""The lanes of blocks: bounds, turns, holes, accounts."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.frames import Mask, RawBlock
from streamguard.clock import WINDOW_HOPS
from streamguard.inference.lanes import Lanes
from tests.inference.makers import block


def taken(lanes: Lanes, limit: int = 100) -> list[tuple[str, int, bool]]:
    """(leg, hop, whether it stands for a dropped block)."""
    return [(b.leg, b.first_sample // 8000, _masked(b)) for b in lanes.take(limit).blocks]


def _masked(block: RawBlock) -> bool:
    return any(span.mask & Mask.OVERLOAD for span in block.spans)


def test_legs_take_turns_whoever_has_most() -> None:
    lanes = Lanes(per_leg=8, total=100)
    for i in range(4):
        lanes.put(block("a", i), live=True)
    lanes.put(block("b", 0), live=True)
    lanes.put(block("c", 0), live=True)
    assert taken(lanes, 3) == [("a", 0, False), ("b", 0, False), ("c", 0, False)]
    lanes.put(block("b", 1), live=True)
    assert taken(lanes) == [("a", 1, False), ("b", 1, False), ("a", 2, False), ("a", 3, False)]


def test_a_leg_that_is_behind_loses_its_oldest_block_but_not_its_place() -> None:
    lanes = Lanes(per_leg=2, total=100)
    for i in range(5):
        lanes.put(block("a", i), live=True)
    assert lanes.dropped == {"overload": 3}
    assert taken(lanes) == [("a", i, i < 3) for i in range(5)]


def test_a_masked_block_covers_exactly_what_was_dropped() -> None:
    lanes = Lanes(per_leg=1, total=100)
    lanes.put(block("a", 3), live=True)
    lanes.put(block("a", 4), live=True)
    first, second = lanes.take(9).blocks
    assert (first.first_sample, len(first.samples), first.rate_hz) == (24000, 8000, 16000)
    assert not first.samples.any()
    (span,) = first.spans
    assert (span.start, span.stop, span.mask) == (24000, 32000, Mask.OVERLOAD)
    assert first.first_sample + len(first.samples) == second.first_sample


def test_a_hole_does_not_join_blocks_of_two_segments() -> None:
    lanes = Lanes(per_leg=1, total=100)
    for i in range(4):
        lanes.put(block("a", i, segment=i // 2), live=True)
    assert [b.segment for b in lanes.take(9).blocks] == [0, 0, 1, 1]


def test_a_thread_that_is_stuck_costs_no_memory_however_long() -> None:
    lanes = Lanes(per_leg=2, total=100)
    for i in range(500):
        lanes.put(block("a", i, segment=i // 20), live=True)
    lane = lanes._lanes["a"]
    assert len(lane.blocks) <= 2
    assert len(lane.hole) <= WINDOW_HOPS
    assert lanes.submitted == lanes.dropped["overload"] + lanes.depth


def test_what_stands_for_dropped_blocks_holds_no_samples() -> None:
    lanes = Lanes(per_leg=1, total=100)
    for i in range(3):
        lanes.put(block("a", i), live=True)
    for hole in lanes._lanes["a"].hole:
        assert hole.samples.dtype == np.int16
        assert hole.samples.strides == (0,)
        assert not hole.samples.flags.writeable


def test_a_hole_of_up_to_a_window_is_played_and_a_longer_one_is_skipped() -> None:
    for dropped, played in ((6, 6), (7, 0), (20, 0)):
        lanes = Lanes(per_leg=2, total=100)
        for i in range(dropped + 2):
            lanes.put(block("a", i), live=True)
        assert lanes.dropped == {"overload": dropped}
        seen = taken(lanes)
        assert [i for _, i, masked in seen if masked] == list(range(dropped))[:played]
        assert [i for _, i, masked in seen if not masked] == [dropped, dropped + 1]
        assert lanes.submitted == lanes.taken + lanes.dropped.total()


def test_after_a_long_stall_the_newest_audio_comes_at_once() -> None:
    lanes = Lanes(per_leg=4, total=100)
    for i in range(600):
        lanes.put(block("a", i), live=True)
    (first,) = lanes.take(1).blocks
    assert not _masked(first)
    assert first.first_sample // 8000 >= 596
    seen = taken(lanes)
    assert seen[-1] == ("a", 599, False)
    assert lanes.ready == 0


def test_a_leg_that_runs_over_rests_until_the_others_leave_time() -> None:
    lanes = Lanes(per_leg=2, total=100)
    for i in range(3):
        lanes.put(block("a", i), live=True)
    lanes.put(block("b", 0), live=True)
    lanes.put(block("b", 1), live=True)
    assert taken(lanes, 2) == [("b", 0, False), ("b", 1, False)]
    assert lanes.ready == 1
    assert taken(lanes) == [("a", 0, True), ("a", 1, False), ("a", 2, False)]


def test_a_file_does_not_keep_a_live_leg_at_rest() -> None:
    lanes = Lanes(per_leg=2, total=100)
    for i in range(2):
        lanes.put(block("file", i), live=False)
    for i in range(3):
        lanes.put(block("a", i), live=True)
    assert taken(lanes, 2) == [("file", 0, False), ("a", 0, True)]


def _overload(legs: int, load: float) -> list[list[bool]]:
    """For each leg, which hops were scored in 200 s of ``load`` times what the thread can take.

    With a hundred legs it is the total that runs over, with fewer the lanes of the legs.
    """
    lanes, hops = Lanes(per_leg=4, total=90 if legs == 100 else 256), 400
    names = [f"leg{n}" for n in range(legs)]
    scored = {name: [False] * hops for name in names}
    # One array for all: only places and masks are looked at.
    samples = np.ones(8000, np.int16)
    order = random.Random(1)
    credit = 0.0
    for i in range(hops):
        for name in order.sample(names, legs):
            raw = RawBlock(name, 0, 8000 * i, samples, 16000, (), 0.5 * i)
            lanes.put(raw, live=True)
            credit = min(credit + 1 / load, 8.0)
            while credit > 0 and (batch := lanes.take(1)).blocks:
                (got,) = batch.blocks
                scored[got.leg][got.first_sample // 8000] = not _masked(got)
                # Zeros go through the front end only.
                credit -= 0.3 if _masked(got) else 1.0
            assert lanes.submitted == lanes.taken + lanes.dropped.total() + lanes.depth
    return list(scored.values())


def _clean(hops: list[bool]) -> list[bool]:
    """Which windows have all their hops."""
    return [all(hops[i - WINDOW_HOPS : i]) for i in range(WINDOW_HOPS, len(hops) + 1)]


@pytest.mark.parametrize(
    ("legs", "load", "least"),
    # Old blocks dropped one by one in each leg: 0.64, 0.19, 0.55, 0.29 and 0.14.
    [(40, 1.1, 0.85), (40, 1.5, 0.55), (2, 1.1, 0.75), (1, 1.1, 0.6), (100, 1.5, 0.55)],
)
def test_under_overload_most_windows_of_what_can_be_scored_are_whole(
    legs: int, load: float, least: float
) -> None:
    windows = [_clean(hops) for hops in _overload(legs, load)]
    assert sum(sum(leg) for leg in windows) / sum(len(leg) for leg in windows) >= least


@pytest.mark.parametrize(("legs", "load"), [(1, 1.5), (3, 1.5), (40, 1.5), (100, 2.0)])
def test_under_overload_no_leg_goes_unheard_for_a_minute(legs: int, load: float) -> None:
    for hops in _overload(legs, load):
        longest = max(len(list(run)) for whole, run in itertools.groupby(_clean(hops)) if not whole)
        assert longest < 120


def test_without_overload_nothing_is_dropped_and_nobody_rests() -> None:
    assert all(all(hops) for hops in [leg[:-4] for leg in _overload(40, 0.95)])


def test_closing_ends_the_rest_of_a_leg() -> None:
    lanes = Lanes(per_leg=1, total=100)
    lanes.put(block("a", 0), live=True)
    lanes.put(block("a", 1), live=True)
    lanes.close("a")
    lanes.put(block("b", 0), live=True)
    assert lanes.closing == 1
    batch = lanes.take(9)
    assert [b.leg for b in batch.blocks] == ["a", "b", "a"]
    assert (batch.closed, lanes.closing) == (("a",), 0)


def test_a_leg_that_runs_over_again_soon_rests_for_a_window_unless_it_ends() -> None:
    def twice() -> Lanes:
        lanes = Lanes(per_leg=2, total=100)
        for i in range(6):
            if i == 3:
                lanes.take(9)
            lanes.put(block("a", i), live=True)
        assert (lanes.ready, lanes.take(9).blocks) == (0, ())
        return lanes

    lanes = twice()
    for i in range(6, 12):
        lanes.put(block("a", i), live=True)
    assert taken(lanes) == [("a", 11, False)]
    lanes = twice()
    lanes.close("a")
    batch = lanes.take(9)
    assert [b.first_sample // 8000 for b in batch.blocks] == [3, 4, 5]
    assert batch.closed == ("a",)
    assert (lanes.ready, lanes.legs, lanes.depth) == (0, 0, 0)


def test_over_the_total_a_leg_that_rests_gives_before_the_others() -> None:
    lanes = Lanes(per_leg=2, total=5)
    for i in range(3):
        lanes.put(block("a", i), live=True)
    for leg in "bbc":
        lanes.put(block(leg, lanes.depth), live=True)
    before = lanes.dropped.total()
    lanes.put(block("d", 0), live=True)
    lanes.put(block("e", 0), live=True)
    assert lanes.dropped.total() == before + 2
    assert [(leg, masked) for leg, _, masked in taken(lanes) if leg != "a"] == [
        ("b", False),
        ("c", False),
        ("d", False),
        ("e", False),
        ("b", False),
    ]


def test_over_the_total_the_longest_live_leg_gives() -> None:
    lanes = Lanes(per_leg=8, total=4)
    lanes.put(block("file", 0), live=False)
    for i in range(3):
        lanes.put(block("a", i), live=True)
    lanes.put(block("b", 0), live=True)
    assert lanes.depth == 4
    assert sorted(taken(lanes)) == [
        ("a", 0, True),
        ("a", 1, False),
        ("a", 2, False),
        ("b", 0, False),
        ("file", 0, False),
    ]


def test_a_leg_ends_after_its_last_block() -> None:
    lanes = Lanes(per_leg=8, total=100)
    lanes.put(block("a", 0), live=True)
    lanes.put(block("a", 1), live=True)
    assert lanes.close("a")
    assert lanes.take(1).closed == ()
    assert lanes.take(1).closed == ("a",)
    assert lanes.legs == 0
    assert not lanes.close("a")


def test_a_leg_with_nothing_waiting_ends_at_once() -> None:
    lanes = Lanes(per_leg=8, total=100)
    lanes.put(block("a", 0), live=True)
    lanes.take(1)
    lanes.close("a")
    batch = lanes.take(1)
    assert (batch.blocks, batch.closed) == ((), ("a",))


_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(1, 4)),
        st.tuples(st.just("take"), st.just(""), st.integers(1, 6)),
        st.tuples(st.just("abandon"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


@given(_ACTIONS, st.integers(1, 4), st.integers(1, 6))
def test_every_block_is_taken_or_dropped_once_and_in_order(
    actions: list[tuple[str, str, int]], per_leg: int, total: int
) -> None:
    lanes = Lanes(per_leg, total)
    following = {"a": 0, "b": 0, "c": 0}
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    abandoned = False
    for what, leg, count in actions:
        if what == "put":
            for _ in range(count):
                lanes.put(block(leg, following[leg], seed=0), live=True)
                following[leg] += 1
        elif what == "take":
            for b in lanes.take(count).blocks:
                seen[b.leg].append(b.first_sample // 8000)
        else:
            abandoned = True
            lanes.abandon("shutdown")
        assert lanes.depth <= total
        assert lanes.submitted == lanes.taken + lanes.dropped.total() + lanes.depth
    for indices in seen.values():
        assert indices == sorted(set(indices))
        if not abandoned:
            steps = [b - a for a, b in itertools.pairwise([-1, *indices])]
            assert all(step == 1 or step > WINDOW_HOPS for step in steps), "only long holes skip"
