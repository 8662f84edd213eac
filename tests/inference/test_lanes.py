"""The lanes of blocks: bounds, turns, holes, accounts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.frames import Mask, RawBlock
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
    assert len(lane.blocks) == 2
    assert len(lane.holes) <= Lanes.MAX_HOLES
    assert sum(len(hole.last.samples) for hole in lane.holes) == 0
    assert lanes.submitted == lanes.dropped["overload"] + lanes.depth


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
    for leg, indices in seen.items():
        assert indices == sorted(set(indices))
        if not abandoned:
            assert indices == list(range(len(indices))), f"the grid of {leg} has no hole"
