"""Numbered messages back in their order, and what was missing between them. Pure.

In its place a message is released at once; behind a missing one the others wait, for ``wait_s`` at
most (0 for a peer that keeps the order: what is missing then was never sent).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

CAPACITY = 64
"""Messages that wait; more, and the hole before them is given up."""
MAX_JUMP = 500
"""A number further away is a new count, not loss: 10 s of messages of 20 ms."""


@dataclass(frozen=True, slots=True)
class Ordered(Generic[T]):
    """A message whose turn it is."""

    item: T
    arrived_at: float
    missing_before: int
    """Numbers directly before it that have not come."""
    restarted: bool
    """The count has begun anew: how much is missing is not known."""


class MessageOrder(Generic[T]):
    """One count of messages, from the first one that comes."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._next: int | None = None
        self._held: dict[int, tuple[T | None, float]] = {}
        self._given_up: dict[int, None] = {}
        """Numbers that were not waited for any longer, oldest first."""
        self._missing = 0
        self._restarted = False
        self.late = 0
        self.duplicates = 0
        self.missing = 0

    def push(self, number: int, item: T | None, now: float) -> list[Ordered[T]]:
        """Take one message; None for a number that carries no media."""
        if self._next is None:
            if item is None:
                return []  # where the media begin to count, they tell themselves
            self._next = number
        elif abs(number - self._next) > MAX_JUMP:
            released = self.flush()
            self._next, self._restarted = number, True
            self._missing = 0
            self._given_up.clear()
            return [*released, *self.push(number, item, now)]
        if number < self._next or number in self._held:
            if number in self._given_up:
                del self._given_up[number]
                self.late += item is not None
            else:
                self.duplicates += item is not None
            return []
        self._held[number] = (item, now)
        return self.poll(now)

    def poll(self, now: float) -> list[Ordered[T]]:
        """What may go: in its turn, or because the wait for what is before it is over."""
        released = self._release()
        while self._held and (
            len(self._held) > CAPACITY
            or now - min(arrived for _, arrived in self._held.values()) >= self._wait_s
        ):
            self._give_up()
            released += self._release()
        return released

    def flush(self) -> list[Ordered[T]]:
        """Everything that waits."""
        released = self._release()
        while self._held:
            self._give_up()
            released += self._release()
        return released

    def _give_up(self) -> None:
        assert self._next is not None
        first = min(self._held)
        for number in range(self._next, first):
            self._given_up[number] = None
        while len(self._given_up) > MAX_JUMP:
            del self._given_up[next(iter(self._given_up))]
        self._missing += first - self._next
        self.missing += first - self._next
        self._next = first

    def _release(self) -> list[Ordered[T]]:
        released: list[Ordered[T]] = []
        while self._next is not None and self._next in self._held:
            item, arrived_at = self._held.pop(self._next)
            self._next += 1
            if item is not None:
                released.append(Ordered(item, arrived_at, self._missing, self._restarted))
                self._missing, self._restarted = 0, False
        return released
