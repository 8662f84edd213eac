"""One bounded lane of blocks per leg, emptied in turn. Pure; the worker guards it with its lock."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace

import numpy as np

from streamguard.audio.frames import Mask, MaskedSpan, RawBlock


@dataclass(slots=True)
class _Hole:
    """Blocks in a row that were dropped: their place in the stream, without their samples."""

    last: RawBlock
    """Shape of the newest one; its samples are zeros."""
    first_sample: int
    count: int
    """Samples."""
    block_samples: int

    def joins(self, block: RawBlock) -> bool:
        return (
            block.segment == self.last.segment
            and block.rate_hz == self.last.rate_hz
            and block.first_sample == self.first_sample + self.count
        )

    def take(self) -> RawBlock:
        """Zeros in the place of what was dropped, masked, so that the sample grid stays."""
        start, count = self.first_sample, min(self.block_samples, self.count)
        self.first_sample += count
        self.count -= count
        samples = np.zeros(count, np.int16)
        samples.flags.writeable = False
        return replace(
            self.last,
            first_sample=start,
            samples=samples,
            spans=(MaskedSpan(start, start + count, Mask.OVERLOAD),),
        )


@dataclass(slots=True)
class _Lane:
    blocks: deque[RawBlock] = field(default_factory=deque)
    holes: deque[_Hole] = field(default_factory=deque)
    """Before the first block: what is dropped is always the oldest."""
    live: bool = False
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What the thread takes at once."""

    blocks: tuple[RawBlock, ...]
    taken: int
    """Blocks with samples among them; the others stand for dropped ones."""
    closed: tuple[str, ...]
    """Legs that end with this batch, after their last block."""
    live_waiting: int
    """Blocks of live legs that stay behind."""


class Lanes:
    """Queues with accounts: ``submitted == taken + sum(dropped) + depth`` at any time."""

    MAX_HOLES = 4
    """A lane keeps the place of this many dropped runs (a new segment starts a new one)."""

    def __init__(self, per_leg: int, total: int) -> None:
        self._per_leg = per_leg
        self._total = total
        self._lanes: dict[str, _Lane] = {}
        self._turns: deque[str] = deque()
        """Legs with something to take, the next one first."""
        self.depth = 0
        self.submitted = 0
        self.taken = 0
        self.dropped: Counter[str] = Counter()

    @property
    def legs(self) -> int:
        """Legs that are open."""
        return len(self._lanes)

    @property
    def ready(self) -> int:
        """Legs that have something to take."""
        return len(self._turns)

    def has_room(self, leg: str) -> bool:
        lane = self._lanes.get(leg)
        return self.depth < self._total and (lane is None or len(lane.blocks) < self._per_leg)

    def put(self, block: RawBlock, *, live: bool) -> None:
        """Queue a block of a live leg, or one that there is room for.

        Over its own bound a leg drops its oldest block; over the total, the live leg with most
        waiting drops its oldest.
        """
        lane = self._lanes.setdefault(block.leg, _Lane())
        lane.live = live
        lane.blocks.append(block)
        self.depth += 1
        self.submitted += 1
        if len(lane.blocks) > self._per_leg:
            self._drop_oldest(lane)
        elif self.depth > self._total:
            candidates = [lane for lane in self._lanes.values() if lane.live]
            self._drop_oldest(max(candidates, key=lambda lane: len(lane.blocks)))
        self._wake(block.leg)

    def refuse(self, reason: str) -> None:
        """Count a block that is dropped at the door."""
        self.submitted += 1
        self.dropped[reason] += 1

    def close(self, leg: str) -> bool:
        """Let a leg end after what it has waiting; False if it is not open."""
        lane = self._lanes.get(leg)
        if lane is None:
            return False
        lane.closing = True
        self._wake(leg)
        return True

    def take(self, limit: int) -> Batch:
        """Up to ``limit`` blocks, one of each leg in turn, then a second one, and so on."""
        blocks: list[RawBlock] = []
        closed: list[str] = []
        taken = 0
        while self._turns and len(blocks) < limit:
            leg = self._turns.popleft()
            lane = self._lanes[leg]
            if lane.holes:
                blocks.append(lane.holes[0].take())
                if not lane.holes[0].count:
                    lane.holes.popleft()
            elif lane.blocks:
                blocks.append(lane.blocks.popleft())
                taken += 1
            if lane.holes or lane.blocks:
                self._turns.append(leg)
            elif lane.closing:
                closed.append(leg)
                del self._lanes[leg]
        self.depth -= taken
        self.taken += taken
        waiting = sum(len(lane.blocks) for lane in self._lanes.values() if lane.live)
        return Batch(tuple(blocks), taken, tuple(closed), waiting)

    def abandon(self, reason: str) -> None:
        """Drop everything that waits."""
        self.dropped[reason] += self.depth
        self.depth = 0
        self._lanes.clear()
        self._turns.clear()

    def _wake(self, leg: str) -> None:
        if leg not in self._turns:
            self._turns.append(leg)

    def _drop_oldest(self, lane: _Lane) -> None:
        block = lane.blocks.popleft()
        self.depth -= 1
        self.dropped["overload"] += 1
        if lane.holes and lane.holes[-1].joins(block):
            hole = lane.holes[-1]
            hole.count += len(block.samples)
            hole.last = replace(block, samples=block.samples[:0])
            return
        lane.holes.append(
            _Hole(
                last=replace(block, samples=block.samples[:0]),
                first_sample=block.first_sample,
                count=len(block.samples),
                block_samples=max(1, len(block.samples)),
            )
        )
        if len(lane.holes) > self.MAX_HOLES:
            lane.holes.popleft()
