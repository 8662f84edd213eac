"""What the scorer keeps of one leg between hops. Owned by the inference thread."""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from streamguard.audio.frames import Hop, HopQuality, Mask, RawBlock
from streamguard.clock import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_HOPS
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


class HopKind(enum.Enum):
    """What a result is about."""

    HOP = "hop"
    """A new hop."""
    DROPPED = "dropped"
    """A new hop whose samples were dropped for overload."""
    REST = "rest"
    """No new hop: the partial window of a segment that ended before it had a full one."""
    LATE = "late"
    """No new hop: the attribution of an earlier window."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A sample of a leg, in the source's rate."""

    segment: int
    rate_hz: int
    sample: int

    def jumps_to(self, other: _Place) -> bool:
        """Whether blocks between the two never came: lanes skip a long hole."""
        same = (self.segment, self.rate_hz) == (other.segment, other.rate_hz)
        return same and self.sample < other.sample


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
    place: _Place | None = None
    """Where the last block ended."""
    dropped: list[tuple[int, int]] = field(default_factory=list)
    """What overload took of hops still to come: 16 kHz samples, from and to."""

    def hear(self, block: RawBlock) -> list[Arrival]:
        """The hops that a block completes."""
        spans = [(s.start, s.stop) for s in block.spans if s.mask & Mask.OVERLOAD]
        here = _Place(block.segment, block.rate_hz, block.first_sample)
        if self.place is not None and self.place.jumps_to(here):
            spans.append((self.place.sample, here.sample))
        self.place = replace(here, sample=here.sample + len(block.samples))
        self.dropped += [
            (start * SAMPLE_RATE_HZ // block.rate_hz, stop * SAMPLE_RATE_HZ // block.rate_hz)
            for start, stop in spans
        ]
        hops = self.front_end.process(block)
        channel = self.front_end.channel
        return [Arrival(self, hop, channel, self._mostly_dropped(hop.index)) for hop in hops]

    def _mostly_dropped(self, index: int) -> bool:
        """Whether overload took most of a hop; less than that is for the gate to judge."""
        first, end = index * HOP_SAMPLES, (index + 1) * HOP_SAMPLES
        gone = sum(max(0, min(end, stop) - max(first, start)) for start, stop in self.dropped)
        self.dropped = [(start, stop) for start, stop in self.dropped if stop > end]
        return 2 * gone > HOP_SAMPLES

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

    def rest(self) -> list[Draft]:
        """The partial window of a segment that never had a full one."""
        if self.had_window or not self.slots:
            return []
        draft = Draft(
            leg=self,
            kind=HopKind.REST,
            segment=self.segment,
            index=self.slots[-1].index,
            quality=None,
            channel=self.channel,
            window=tuple(self.slots),
            first=True,
            received_at=self.received_at,
        )
        return [draft]

    def count_new(self, window: Sequence[Slot]) -> int:
        """Usable hops that an accepted window adds to those counted before."""
        new = sum(1 for slot in window if slot.usable and slot.index > self.counted_to)
        self.counted_to = max(self.counted_to, window[-1].index)
        return new


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A result that waits for its window's score."""

    leg: LegState
    kind: HopKind
    segment: int
    index: int
    quality: HopQuality | None
    channel: Channel
    window: tuple[Slot, ...]
    """Empty where there is no window yet."""
    first: bool
    """Whether it is the first window of its segment."""
    received_at: float


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
