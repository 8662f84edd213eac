"""The windows that speak most for a verdict."""

from __future__ import annotations

MOST = 8


class TellingWindows:
    """At most eight disjoint windows of one leg, those with the highest scores.

    Kept greedily as they come: a window gives way to a more telling one that overlaps it.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[float, float, float]] = []

    def add(self, score: float, start_s: float, end_s: float) -> None:
        """Keep a window if it tells more than those it overlaps, or than the weakest of eight."""
        if len(self._kept) == MOST and score <= self._kept[-1][0]:
            return
        rivals = [kept for kept in self._kept if kept[1] < end_s and start_s < kept[2]]
        if any(kept[0] >= score for kept in rivals):
            return
        self._kept = [kept for kept in self._kept if kept not in rivals]
        self._kept.append((score, start_s, end_s))
        self._kept.sort(key=lambda kept: -kept[0])
        del self._kept[MOST:]

    def spans(self) -> tuple[tuple[float, float], ...]:
        """(start_s, end_s), most telling first."""
        return tuple((start_s, end_s) for _, start_s, end_s in self._kept)
