"""The verdict on a leg: window scores in, verdicts out."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from types import MappingProxyType

from streamguard.clock import HOP_SECONDS
from streamguard.verdict.calibration import ChannelCalibration
from streamguard.verdict.evidence import credible
from streamguard.verdict.rulebook import Rulebook
from streamguard.verdict.scores import (
    Attribution,
    Channel,
    Rejection,
    State,
    Verdict,
    WindowScore,
)
from streamguard.verdict.settings import VerdictSettings
from streamguard.verdict.track import Accepted, Track

# A voice that has not been judged is worse news than one that was judged bona fide.
_RANK = {State.BONAFIDE: 0, State.UNKNOWN: 1, State.SUSPECT: 2, State.SPOOF: 3}
_HELD_SEGMENTS = 8


class Voter:
    """Judges one leg; owned and called by one task.

    A rejected window is counted by its reason and changes nothing else. A new segment (new SSRC,
    codec, after hold; on a mixed line also after a pause) is another voice until shown otherwise:
    it starts its own evidence, because evidence spliced over it would be of two voices. What was
    found suspicious before it still counts: on a mixed line for ``mixed_hold_s``, otherwise until
    the new segment has been judged. The leg's state is the worst that counts.

    Segments too short to be judged are judged together where the line has one voice: a sender that
    begins anew every other second would otherwise never be judged. One that grows long enough is
    judged by itself again.
    """

    def __init__(
        self,
        settings: VerdictSettings,
        calibrations: Mapping[Channel, ChannelCalibration],
        prior: float,
        role_mixed: bool,
        leg: str,
    ) -> None:
        """``prior``: probability that a leg is spoofed before it is heard, between 0 and 1."""
        if not 0 < prior < 1:
            raise ValueError(f"prior must lie between 0 and 1, not {prior!r}")
        self.role_mixed = role_mixed
        self._book = Rulebook.make(settings, calibrations)
        self._prior_logit = math.log(prior) - math.log1p(-prior)
        self._leg = leg
        self._track = Track(self._book, segment=0)
        self._held: deque[Track] = deque(maxlen=_HELD_SEGMENTS)
        self._last_index = -1
        self._scored = 0
        self._rejected: Counter[Rejection] = Counter()
        self._speech_s = 0.0
        self._offset_s = 0.0

    @property
    def verdict(self) -> Verdict:
        """What is said of the leg now; UNKNOWN before the first window."""
        worst = self._track
        for held in self._held:
            if _RANK[held.state] > _RANK[worst.state]:
                worst = held
        llr = worst.llr
        return Verdict(
            leg=self._leg,
            state=worst.state,
            llr=llr,
            p_spoof=_sigmoid(llr + self._prior_logit),
            net_speech_s=self._speech_s,
            windows_scored=self._scored,
            windows_rejected=MappingProxyType(dict(self._rejected)),
            attribution=worst.attribution(),
            evidence=worst.telling(),
            rule=self._book.settings.rule,
            changed=worst.changed,
            clear=worst is self._track and worst.clear,
            offset_s=self._offset_s,
        )

    def update(self, score: WindowScore) -> Verdict:
        """Take a window of this leg, in order; a window seen before changes nothing."""
        self._offset_s = max(self._offset_s, score.end_s)
        rejection = self._rejection(score)
        if rejection is not None:
            self._rejected[rejection] += 1
        elif score.index > self._last_index:
            self._accept(score)
        self._release()
        return self.verdict

    def attribute(self, index: int, attribution: Attribution) -> Verdict:
        """Labels that come after their window: late ones of one already taken by ``update``."""
        for track in (self._track, *self._held):
            track.attribute(index, attribution)
        return self.verdict

    def _rejection(self, score: WindowScore) -> Rejection | None:
        if score.rejected is not None:
            return score.rejected
        if (
            score.llr is None
            or not math.isfinite(score.llr)
            or score.channel not in self._book.models
        ):
            return Rejection.UNCALIBRATED
        return None

    def _accept(self, score: WindowScore) -> None:
        assert score.llr is not None
        if self._is_new_segment(score):
            if self._track.short and not self.role_mixed:
                self._track.go_on(score.segment)
            else:
                self._follow(Track(self._book, score.segment))
        # Whatever the scorer says, a window can't add hops that lie before the last accepted one.
        hops = max(0, min(score.new_hops, score.index - self._last_index))
        speech_s = _speech_s(score.net_speech_s, hops)
        self._last_index = score.index
        self._scored += 1
        self._speech_s += speech_s
        if hops:
            llr = credible(self._book.models[score.channel], score.llr)
            self._track.add(
                Accepted(
                    index=score.index,
                    channel=score.channel,
                    llr=llr,
                    hops=hops,
                    speech_s=speech_s,
                    start_s=score.start_s,
                    end_s=score.end_s,
                    attribution=score.attribution,
                )
            )
            alone = self._track.alone()
            if alone is not None:
                self._follow(alone)

    def _follow(self, track: Track) -> None:
        """Judge by ``track`` from now on; what was suspicious before still counts for a while."""
        if self._track.state in (State.SUSPECT, State.SPOOF):
            self._held.append(self._track)
        self._track = track

    def _is_new_segment(self, score: WindowScore) -> bool:
        if score.segment != self._track.segment:
            return True
        pause_s = score.end_s - self._track.last_end_s
        # The pause before the first accepted window of a track (infinite) is none.
        return self.role_mixed and self._book.settings.mixed_pause_s < pause_s < math.inf

    def _release(self) -> None:
        """Let go of finished segments that no longer count."""
        if not self._held:
            return
        if self.role_mixed:
            oldest_s = self._offset_s - self._book.settings.mixed_hold_s
            while self._held and self._held[0].last_end_s < oldest_s:
                self._held.popleft()
        elif self._track.clear or self._track.state is State.SPOOF:
            self._held.clear()


def _speech_s(stated_s: float, hops: int) -> float:
    """Net speech in the hops that a window adds.

    The first window of a segment states all of its speech, a later one that of its newest hop; if
    it adds earlier hops, too (windows between were rejected), those were usable: they are speech.
    """
    if hops == 0:
        return 0.0
    if stated_s > HOP_SECONDS:
        return min(stated_s, hops * HOP_SECONDS)
    return stated_s + (hops - 1) * HOP_SECONDS


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
