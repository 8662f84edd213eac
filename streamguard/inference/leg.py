"""What the scorer keeps of one leg between hops. Owned by the inference thread."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from streamguard.audio.frames import Hop, HopQuality, Mask, RawBlock
from streamguard.clock import WINDOW_HOPS
from streamguard.verdict.scores import Channel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from streamguard.inference.network import Row


class FrontEndLike(Protocol):
    """What the scorer asks of a leg's front end (:class:`streamguard.audio.frontend.FrontEnd`)."""

    @property
    def channel(self) -> Channel: ...

    def process(self, block: RawBlock) -> list[Hop]: ...

    def replay(self, index: int, left_context: int) -> npt.NDArray[np.float32] | None:
        """``[left_context + 8000]`` of an earlier hop of the segment; None if overwritten."""


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """One hop of a window."""

    index: int
    quality: HopQuality | None
    """None where the hop was dropped."""
    usable: bool
    parts: Row | None
    """What the detector's graph gave; None where it did not run or gave no numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A hop on its way into a leg's window."""

    leg: LegState
    hop: Hop
    channel: Channel
    dropped: bool
    """Whether its samples were dropped for overload: its audio is zeros."""


@dataclass(slots=True, eq=False)
class LegState:
    """Window, recurrent state and accounts of one leg."""

    name: str
    front_end: FrontEndLike
    segment: int = -1
    slots: deque[Slot] = field(default_factory=lambda: deque(maxlen=WINDOW_HOPS))
    had_window: bool = False
    """Whether the segment had a full window, so that a short rest is no news."""
    counted_to: int = -1
    """Last hop that an accepted window has counted."""
    state: Row | None = None
    """What the detector's graph carries; None at the start of a segment."""
    state_segment: int = -1
    received_at: float = 0.0
    channel: Channel = Channel.WIDE
    """Of its last hop."""

    def start_segment(self, segment: int) -> None:
        self.segment = segment
        self.slots.clear()
        self.had_window = False
        self.counted_to = -1

    def add(self, slot: Slot) -> None:
        """Put a hop behind the others; hops that never came leave holes, not splices."""
        if self.slots:
            first_missing = max(self.slots[-1].index + 1, slot.index - WINDOW_HOPS)
            for index in range(first_missing, slot.index):
                self.slots.append(Slot(index, None, usable=False, parts=None))
        self.slots.append(slot)

    def forget_scores(self) -> None:
        """After a change of models: what the old ones gave must not meet the new ones."""
        self.slots.clear()
        self.state = None

    def count_new(self, window: Sequence[Slot]) -> int:
        """Usable hops that an accepted window adds to those counted before."""
        new = sum(1 for slot in window if slot.usable and slot.index > self.counted_to)
        self.counted_to = max(self.counted_to, window[-1].index)
        return new


def rounds(blocks: Sequence[RawBlock]) -> list[list[RawBlock]]:
    """The first block of every leg, then the second ones, and so on."""
    turns: list[list[RawBlock]] = []
    depth: Counter[str] = Counter()
    for block in blocks:
        at = depth[block.leg]
        depth[block.leg] += 1
        if at == len(turns):
            turns.append([])
        turns[at].append(block)
    return turns


def mostly_dropped(block: RawBlock) -> bool:
    """Whether we dropped most of a block; less than that is for the gate to judge."""
    dropped = sum(span.stop - span.start for span in block.spans if span.mask & Mask.OVERLOAD)
    return 2 * dropped > len(block.samples)
