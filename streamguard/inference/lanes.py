"""One bounded lane of blocks per leg, emptied in turn. Pure; the worker guards it with its lock."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field, replace

import numpy as np

from streamguard.audio.frames import Mask, MaskedSpan, RawBlock
from streamguard.clock import WINDOW_HOPS

REST_BLOCKS = 4 * WINDOW_HOPS
"""Blocks that a leg loses in a row while it rests: a dropped block costs every window that it is
in, so twenty-four in a row cost 29 windows, and one here and there up to 144. 12 s: short against
a call, so that no leg goes unheard for long."""


@dataclass(slots=True)
class _Lane:
    blocks: deque[RawBlock] = field(default_factory=deque)
    hole: deque[RawBlock] = field(default_factory=deque)
    """Zeros in the place of what was dropped before the first block."""
    jumps: bool = False
    """Whether so much was dropped that the hole is not played: the first block is a new start."""
    live: bool = False
    closing: bool = False
    heard: int = REST_BLOCKS
    """Blocks taken since its last rest."""
    rested: int = 0
    """When its last rest ended, counted in rests of all legs; 0 if it never rested."""

    def drop_oldest(self) -> None:
        block = self.blocks.popleft()
        if not self.jumps:
            self.hole.append(_silenced(block))
        if len(self.hole) > WINDOW_HOPS:
            # Beyond a window it tells nobody anything, and takes time from what is heard now.
            self.hole.clear()
            self.jumps = True

    def take(self) -> RawBlock:
        if self.hole:
            return self.hole.popleft()
        self.jumps = False
        self.heard += 1
        return self.blocks.popleft()


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
    live: frozenset[str]
    """Legs among the blocks that do not wait for us."""

    @property
    def oldest(self) -> float:
        """When the first of their blocks was received; infinite where there is none."""
        return min((b.received_at for b in self.blocks if b.leg in self.live), default=math.inf)


class Lanes:
    """Queues with accounts: ``submitted == taken + sum(dropped) + depth`` at any time.

    Dropped blocks are bundled, because each spoils all windows that it is in. A leg whose lane runs
    over loses its oldest block and rests: it is not in turn, so that it goes on losing (at most
    :data:`REST_BLOCKS` in a row) while the others keep whole windows. It is back early when the
    other live legs leave time. If it then runs over again soon, that was no passing stall, and it
    rests for more than a window at least. After a rest its lane is empty but for the newest block,
    so that another leg is the next to run over.
    """

    def __init__(self, per_leg: int, total: int) -> None:
        self._per_leg = per_leg
        self._total = total
        self._lanes: dict[str, _Lane] = {}
        self._turns: deque[str] = deque()
        """Legs with something to take, the next one first."""
        self._resting: dict[str, int] = {}
        """Blocks that a leg may lose yet before it is in turn again; the longest at rest first."""
        self._firm: set[str] = set()
        """Those at rest that stay there for now even if the others leave time."""
        self._rests = 0
        self.closing = 0
        """Open legs whose end somebody waits for."""
        self.depth = 0
        self.submitted = 0
        self.taken = 0
        self.dropped: Counter[str] = Counter()

    @property
    def legs(self) -> int:
        """Open legs that have something to take now or when their next block comes."""
        return len(self._lanes) - len(self._firm)

    @property
    def ready(self) -> int:
        """Legs that have something to take."""
        return len(self._turns) + len(self._resting) - len(self._firm)

    def has_room(self, leg: str) -> bool:
        lane = self._lanes.get(leg)
        return self.depth < self._total and (lane is None or len(lane.blocks) < self._per_leg)

    def put(self, block: RawBlock, *, live: bool) -> None:
        """Queue a block of a live leg, or one that there is room for.

        Over its own bound a leg drops its oldest block; over the total, a live leg that rests
        does, or else the one that has not for longest (of several, the one with most waiting).
        """
        lane = self._lanes.setdefault(block.leg, _Lane())
        lane.live = live
        lane.blocks.append(block)
        self.depth += 1
        self.submitted += 1
        if block.leg not in self._resting:
            self._wake(block.leg)
        if len(lane.blocks) > self._per_leg:
            self._drop_oldest(block.leg)
        elif self.depth > self._total:
            self._drop_oldest(self._victim())

    def refuse(self, reason: str) -> None:
        """Count a block that is dropped at the door."""
        self.submitted += 1
        self.dropped[reason] += 1

    def close(self, leg: str) -> bool:
        """Let a leg end after what it has waiting; False if it is not open."""
        lane = self._lanes.get(leg)
        if lane is None:
            return False
        self.closing += not lane.closing
        lane.closing = True
        if leg in self._resting:
            self._end_rest(leg)
        self._wake(leg)
        return True

    def take(self, limit: int) -> Batch:
        """Up to ``limit`` blocks, one of each leg in turn, then a second one, and so on."""
        blocks: list[RawBlock] = []
        closed: list[str] = []
        live: set[str] = set()
        taken = 0
        while len(blocks) < limit and self.ready:
            if len(self._firm) < len(self._resting) and not self._live_in_turn():
                self._end_rest(next(leg for leg in self._resting if leg not in self._firm))
            leg = self._turns.popleft()
            lane = self._lanes[leg]
            if lane.hole or lane.blocks:
                taken += not lane.hole
                blocks.append(lane.take())
                if lane.live:
                    live.add(leg)
            if lane.hole or lane.blocks:
                self._turns.append(leg)
            elif lane.closing:
                closed.append(leg)
                del self._lanes[leg]
                self.closing -= 1
        self.depth -= taken
        self.taken += taken
        return Batch(tuple(blocks), taken, tuple(closed), self._live_waiting(), frozenset(live))

    def abandon(self, reason: str) -> None:
        """Drop everything that waits."""
        self.dropped[reason] += self.depth
        self.depth = self.closing = 0
        self._lanes.clear()
        self._turns.clear()
        self._resting.clear()
        self._firm.clear()

    def _live_waiting(self) -> int:
        """Asked with every batch: of many open legs, few have something waiting."""
        lanes = (self._lanes[leg] for legs in (self._turns, self._resting) for leg in legs)
        return sum(len(lane.blocks) for lane in lanes if lane.live)

    def _wake(self, leg: str) -> None:
        if leg not in self._turns:
            self._turns.append(leg)

    def _live_in_turn(self) -> bool:
        """Files don't count: they can wait, and would keep a leg at rest for nothing."""
        return any(self._lanes[leg].live for leg in self._turns)

    def _victim(self) -> str:
        """Who gives when all together have too much: one that rests, or has not for longest."""
        resting = next((leg for leg in self._resting if self._lanes[leg].blocks), None)
        if resting is not None:
            return resting
        lanes = {leg: lane for leg, lane in self._lanes.items() if lane.live and lane.blocks}
        return max(lanes, key=lambda leg: (-lanes[leg].rested, len(lanes[leg].blocks)))

    def _drop_oldest(self, leg: str) -> None:
        lane = self._lanes[leg]
        self._drop(lane)
        if lane.closing:
            return
        if leg not in self._resting:
            self._turns.remove(leg)
            self._resting[leg] = REST_BLOCKS
            if 0 < lane.heard < REST_BLOCKS:  # 0: the thread took nothing, so it is a stall
                self._firm.add(leg)
        self._resting[leg] -= 1
        if not self._resting[leg]:
            self._drop_rest(lane)
            self._end_rest(leg)
        elif leg in self._firm and lane.jumps:
            self._drop_rest(lane)
            self._firm.remove(leg)

    def _drop_rest(self, lane: _Lane) -> None:
        """All but the newest: with a full lane it would be the next to run over."""
        while len(lane.blocks) > 1:
            self._drop(lane)

    def _drop(self, lane: _Lane) -> None:
        lane.drop_oldest()
        self.depth -= 1
        self.dropped["overload"] += 1

    def _end_rest(self, leg: str) -> None:
        del self._resting[leg]
        self._firm.discard(leg)
        self._rests += 1
        self._lanes[leg].rested = self._rests
        self._lanes[leg].heard = 0
        self._wake(leg)


def _silenced(block: RawBlock) -> RawBlock:
    """Zeros in the place of a block, masked, so that the sample grid stays. Takes no memory."""
    count = len(block.samples)
    return replace(
        block,
        samples=np.broadcast_to(np.zeros(1, block.samples.dtype), count),
        spans=(MaskedSpan(block.first_sample, block.first_sample + count, Mask.OVERLOAD),),
    )
