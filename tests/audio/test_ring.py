"""The sample-indexed ring."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.ring import Ring


def ramp(first: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.arange(first, first + count, dtype=np.float32)


def test_what_was_written_can_be_read_by_its_index() -> None:
    ring = Ring(10)
    ring.write(ramp(0, 6))
    ring.write(ramp(6, 6))
    read = ring.read(4, 8)
    assert read is not None
    assert np.array_equal(read, ramp(4, 8))


def test_what_is_overwritten_or_not_yet_there_reads_as_none() -> None:
    ring = Ring(10)
    ring.write(ramp(0, 12))
    assert ring.first == 2
    assert ring.read(1, 3) is None
    assert ring.read(10, 3) is None
    assert ring.read(2, 10) is not None


def test_a_read_is_a_copy() -> None:
    ring = Ring(4)
    ring.write(ramp(0, 4))
    read = ring.read(0, 4)
    assert read is not None
    ring.write(ramp(4, 4))
    assert np.array_equal(read, ramp(0, 4))


def test_a_restart_forgets_and_renumbers() -> None:
    ring = Ring(10)
    ring.write(ramp(0, 8))
    ring.restart(100)
    assert ring.read(96, 4) is None
    ring.write(ramp(100, 3))
    assert ring.first == 100
    read = ring.read(100, 3)
    assert read is not None
    assert np.array_equal(read, ramp(100, 3))


@given(
    capacity=st.integers(1, 20),
    writes=st.lists(st.integers(0, 45), max_size=12),
    first=st.integers(0, 200),
    count=st.integers(0, 25),
)
def test_a_ring_agrees_with_a_list_that_forgets_nothing(
    capacity: int, writes: list[int], first: int, count: int
) -> None:
    ring = Ring(capacity)
    end = 0
    for size in writes:
        ring.write(ramp(end, size))
        end += size
    read = ring.read(first, count)
    if first >= max(0, end - capacity) and first + count <= end:
        assert read is not None
        assert np.array_equal(read, ramp(first, count))
    else:
        assert read is None
