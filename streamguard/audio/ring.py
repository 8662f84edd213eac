"""A ring of samples addressed by their position in the leg; new samples overwrite the oldest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]


class Ring:
    """The newest ``capacity`` float32 samples of a leg, by sample index. Not thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._data: FloatArray = np.zeros(capacity, dtype=np.float32)
        self._first = 0
        self._end = 0

    @property
    def first(self) -> int:
        """Index of the oldest sample that can still be read."""
        return max(self._first, self._end - len(self._data))

    @property
    def end(self) -> int:
        """Index of the next sample to be written."""
        return self._end

    def restart(self, position: int) -> None:
        """Forget everything; the next sample written is number ``position``."""
        self._first = self._end = position

    def write(self, samples: FloatArray) -> None:
        """Append; what does not fit overwrites the oldest."""
        capacity = len(self._data)
        self._end += len(samples)
        kept = samples[-capacity:]
        begin = (self._end - len(kept)) % capacity
        head = min(len(kept), capacity - begin)
        self._data[begin : begin + head] = kept[:head]
        self._data[: len(kept) - head] = kept[head:]

    def read(self, first: int, count: int) -> FloatArray | None:
        """A copy of ``count`` samples from ``first``; None if overwritten or not yet written."""
        if first < self.first or first + count > self._end:
            return None
        capacity = len(self._data)
        begin = first % capacity
        head = min(count, capacity - begin)
        out = np.empty(count, dtype=np.float32)
        out[:head] = self._data[begin : begin + head]
        out[head:] = self._data[: count - head]
        return out
