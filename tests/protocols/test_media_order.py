"""Messages in their order again, in bounded time and room."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamguard.protocols.media_order import CAPACITY, MAX_JUMP, MessageOrder, Ordered


def numbers(released: list[Ordered[int]]) -> list[tuple[int, int]]:
    return [(one.item, one.missing_before) for one in released]


def test_what_comes_in_order_does_not_wait() -> None:
    order: MessageOrder[int] = MessageOrder(0.2)
    assert [numbers(order.push(n, n, 0.0)) for n in (5, 6, 7)] == [[(5, 0)], [(6, 0)], [(7, 0)]]


def test_what_overtakes_waits_for_what_it_overtook() -> None:
    order: MessageOrder[int] = MessageOrder(0.2)
    order.push(1, 1, 0.0)
    assert order.push(3, 3, 0.01) == []
    assert numbers(order.push(2, 2, 0.02)) == [(2, 0), (3, 0)]
    assert (order.late, order.duplicates, order.missing) == (0, 0, 0)


def test_a_missing_one_is_given_up_after_the_wait() -> None:
    order: MessageOrder[int] = MessageOrder(0.2)
    order.push(1, 1, 0.0)
    order.push(4, 4, 0.1)
    assert order.poll(0.29) == []
    assert numbers(order.poll(0.31)) == [(4, 2)]
    assert order.missing == 2
    assert order.push(2, 2, 0.4) == []
    assert order.push(4, 4, 0.4) == []
    assert (order.late, order.duplicates) == (1, 1)


def test_where_the_order_is_kept_a_hole_is_known_at_once() -> None:
    order: MessageOrder[int] = MessageOrder(0.0)
    order.push(1, 1, 0.0)
    assert numbers(order.push(3, 3, 0.0)) == [(3, 1)]


def test_a_number_without_media_leaves_no_hole() -> None:
    order: MessageOrder[int] = MessageOrder(0.0)
    order.push(1, 1, 0.0)
    order.push(2, None, 0.0)
    assert numbers(order.push(3, 3, 0.0)) == [(3, 0)]
    assert order.missing == 0


def test_what_waits_is_bounded() -> None:
    order: MessageOrder[int] = MessageOrder(1e9)
    order.push(0, 0, 0.0)
    released = [one for n in range(2, CAPACITY + 3) for one in order.push(n, n, 0.0)]
    assert numbers(released)[0] == (2, 1)
    assert len(released) == CAPACITY + 1


def test_a_far_jump_is_a_new_count_in_either_direction() -> None:
    order: MessageOrder[int] = MessageOrder(0.0)
    order.push(10_000, 1, 0.0)
    (ahead,) = order.push(10_000 + 2 * MAX_JUMP, 2, 0.0)
    (back,) = order.push(5, 3, 0.0)
    assert (ahead.restarted, ahead.missing_before) == (True, 0)
    assert (back.item, back.restarted) == (3, True)
    (after,) = order.push(6, 4, 0.0)
    assert not after.restarted


@given(
    st.permutations(range(40)).map(
        # Nothing is moved by more than a few places: what a network does.
        lambda order: sorted(range(40), key=lambda n: n + order[n] / 8)
    ),
    st.sets(st.integers(1, 38), max_size=8),
)
def test_any_order_of_any_part_comes_out_ascending_and_every_hole_is_told(
    order: list[int], lost: set[int]
) -> None:
    buffer: MessageOrder[int] = MessageOrder(1e9)
    sent = [0, *(n for n in order if n not in lost and n != 0)]
    released = [one for n in sent for one in buffer.push(n, n, 0.0)] + buffer.flush()
    assert [one.item for one in released] == sorted(sent)
    holes = np.diff([one.item for one in released]) - 1
    assert [one.missing_before for one in released][1:] == list(holes)
