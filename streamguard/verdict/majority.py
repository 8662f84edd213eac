"""The majority rule: k of the last n accepted windows, with a quorum."""

from __future__ import annotations

from collections import deque

from streamguard.clock import HOP_SECONDS
from streamguard.verdict.scores import State
from streamguard.verdict.settings import MajoritySettings


class Majority:
    """Votes of the last n accepted windows of one talk segment; a rejected window has no vote.

    The votes slide out as new ones come in: nothing counts down and nothing has to be reset, so
    peaks far apart never add up to an alarm.
    """

    def __init__(self, settings: MajoritySettings) -> None:
        self._settings = settings
        self._votes: deque[tuple[bool, int]] = deque(maxlen=settings.n)

    def add(self, llr: float, hops: int) -> None:
        """The vote of a window that adds so many hops; none without."""
        if hops > 0:
            self._votes.append((llr >= self._settings.window_llr, hops))

    def state(self, before: State, *, may_clear: bool) -> State:
        """The state after a vote; SPOOF is left only at ``clear_k`` votes or fewer."""
        if len(self._votes) < self._settings.quorum:
            return before if before is State.SPOOF and not may_clear else State.UNKNOWN
        votes = [hops for spoof, hops in self._votes if spoof]
        seconds = sum(votes) * HOP_SECONDS
        few = len(votes) <= self._settings.clear_k
        if len(votes) >= self._settings.k and seconds >= self._settings.min_votes_s:
            return State.SPOOF
        if before is State.SPOOF and not (few and may_clear):
            return State.SPOOF
        return State.BONAFIDE if few else State.SUSPECT
