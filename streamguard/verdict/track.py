"""One talk segment being judged: its evidence, its change detector, its state."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from streamguard.verdict.attribution import AttributionTally
from streamguard.verdict.cusum import Change, ChangeDetector
from streamguard.verdict.evidence import Evidence
from streamguard.verdict.majority import Majority
from streamguard.verdict.rulebook import Rulebook
from streamguard.verdict.scores import Attribution, Channel, State
from streamguard.verdict.sequential import sequential_state
from streamguard.verdict.telling import TellingWindows

# Two minutes of speech: a change that began longer ago than that is judged by these two minutes.
_REMEMBERED_WINDOWS = 240


@dataclass(frozen=True, slots=True)
class Accepted:
    """A window that is evidence."""

    index: int
    """Of its last hop."""
    channel: Channel
    llr: float
    """Within credible limits."""
    hops: int
    """That no window before has counted."""
    speech_s: float
    """Net speech in those hops."""
    start_s: float
    end_s: float
    attribution: Attribution | None


class _Sums:
    """What accumulates over accepted windows, and starts again where the voice has changed."""

    def __init__(self, book: Rulebook, windows: Iterable[Accepted] = ()) -> None:
        self.evidence = Evidence(book.models, book.horizon_hops)
        self.majority = Majority(book.settings.majority)
        self.attribution = AttributionTally()
        self.spoof_windows = TellingWindows()
        self.bonafide_windows = TellingWindows()
        self.speech_s = 0.0
        for window in windows:
            self.add(window)

    def add(self, window: Accepted) -> None:
        self.evidence.add(window.channel, window.llr, window.hops)
        self.majority.add(window.llr, window.hops)
        self.attribution.add(window.attribution, window.hops)
        self.spoof_windows.add(window.llr, window.start_s, window.end_s)
        self.bonafide_windows.add(-window.llr, window.start_s, window.end_s)
        self.speech_s += window.speech_s


class Track:
    """Judges one talk segment, or several that are too short; only accepted windows reach it.

    While the state is not SPOOF, the change detector looks for a shift towards spoof; its alarm
    starts the evidence again at the change point and makes the state SPOOF, unless the evidence
    since then by itself says BONAFIDE (a louder room is a change, too). SPOOF by a change is kept
    as long as the evidence for that change, with its change point fixed, is above the clear level.
    While the state is SPOOF, a detector for the opposite shift clears it when the voice changes
    back. Whenever the state turns to or from SPOOF the detector starts without a baseline: what
    crossed a boundary is an extreme, and an extreme would make a biased one.
    """

    def __init__(self, book: Rulebook, segment: int) -> None:
        self.segment = segment
        self.state = State.UNKNOWN
        self.last_end_s = -math.inf
        self._book = book
        self._sums = _Sums(book)
        self._recent: deque[Accepted] = deque(maxlen=_REMEMBERED_WINDOWS)
        self._hops = 0
        self._channel: Channel | None = None
        self._detector: ChangeDetector | None = None
        self._change: Change | None = None
        self._change_channel = Channel.WIDE
        self._spoof_since_s = -math.inf
        self._first_index = 0
        self._newest_windows = 0
        self._newest_s = 0.0
        """Net speech of the newest segment."""
        self._joined = False

    def add(self, window: Accepted) -> None:
        """Count a window and judge again."""
        before = self.state
        self._recent.append(window)
        self._sums.add(window)
        self._hops += window.hops
        self._newest_windows += 1
        self._newest_s += window.speech_s
        self.last_end_s = window.end_s
        if window.channel is not self._channel:
            # Another channel has another scale: deviations from the old baseline mean nothing.
            self._channel = window.channel
            self._watch()
        change = self._detector.update(window.llr, window.hops) if self._detector else None
        if change is not None:
            self._changed(change)
        if self._sums.speech_s >= self._book.settings.sequential.min_net_speech_s:
            self.state = self._judge()
        if (before is State.SPOOF) != (self.state is State.SPOOF):
            self._spoof_since_s = window.end_s
            self._watch()

    @property
    def short(self) -> bool:
        """Whether the newest segment has too little speech to be judged by itself."""
        return self._newest_s < self._book.settings.sequential.min_net_speech_s

    def go_on(self, segment: int) -> None:
        """Add a further segment to short ones, as if it had one voice with them."""
        self.segment = segment
        self._newest_windows, self._newest_s, self._joined = 0, 0.0, True

    def alone(self) -> Track | None:
        """A track of the newest segment alone, once: when that is joined to others and has become
        long enough to be judged without them."""
        if not self._joined or self.short:
            return None
        track = Track(self._book, self.segment)
        for window in list(self._recent)[-self._newest_windows :]:
            track.add(window)
        return track

    def attribute(self, index: int, attribution: Attribution) -> None:
        """Add labels to a window counted before, if it is one of this track's recent ones."""
        for place, window in enumerate(self._recent):
            if window.index == index and window.attribution is None:
                self._recent[place] = dataclasses.replace(window, attribution=attribution)
                if index >= self._first_index:
                    self._sums.attribution.add(attribution, window.hops)

    @property
    def llr(self) -> float:
        """Evidence for a synthetic voice: by level, or by the change if that says more.

        A change could have been anywhere: its evidence is divided by the number of places.
        """
        level = self._sums.evidence.llr()
        return max(level, self._change_llr() - math.log(self._hops)) if self._change else level

    @property
    def changed(self) -> bool:
        """Whether the evidence begins at a change in mid-call."""
        return self._change is not None

    @property
    def clear(self) -> bool:
        """Whether enough speech has been heard to say that it is not suspicious."""
        settings = self._book.settings
        judged = self._sums.speech_s >= settings.sequential.min_net_speech_s
        calm = judged and self._sums.evidence.llr() <= settings.clear_llr
        return self.state is State.BONAFIDE or (self.state is State.UNKNOWN and calm)

    def attribution(self) -> Attribution:
        """Of the windows since the segment or the change began; empty unless suspicious."""
        suspicious = self.state in (State.SUSPECT, State.SPOOF)
        return self._sums.attribution.result() if suspicious else Attribution()

    def telling(self) -> tuple[tuple[float, float], ...]:
        """(start_s, end_s) of the windows that decided, most telling first."""
        if self.state is State.UNKNOWN:
            return ()
        bonafide = self.state is State.BONAFIDE
        return (self._sums.bonafide_windows if bonafide else self._sums.spoof_windows).spans()

    def _watch(self) -> None:
        assert self._channel is not None
        downwards = self.state is State.SPOOF
        self._detector = self._book.detector(self._channel, downwards=downwards)

    def _may_clear(self) -> bool:
        return self.last_end_s - self._spoof_since_s >= self._book.settings.min_dwell_s

    def _change_llr(self) -> float:
        """Of the change point found at the alarm, with all that has been heard since."""
        assert self._change is not None
        total, hops = self._sums.evidence.part(self._change_channel)
        baseline_hops = self._change.baseline_hops
        deviation = total / hops - self._change.baseline_sum / baseline_hops
        return self._book.changes[self._change_channel].llr(deviation, hops, baseline_hops)

    def _changed(self, change: Change) -> None:
        back = self.state is State.SPOOF
        if back and not self._may_clear():
            return  # the evidence stays: the alarm comes again with the next window
        assert self._channel is not None
        since = list(self._recent)[-change.windows :]
        sums = _Sums(self._book, since)
        if back:
            self._sums, self._change, self.state = sums, None, State.UNKNOWN
            self._first_index = since[0].index
        elif sums.evidence.llr() > sums.evidence.level(self._book.accept_llr):
            self._sums, self._change, self.state = sums, change, State.SPOOF
            self._first_index = since[0].index
            self._change_channel = self._channel
        else:
            self._watch()

    def _judge(self) -> State:
        settings = self._book.settings
        before, may_clear = self.state, self._may_clear()
        if self._change is not None:
            if self._change_llr() > settings.clear_llr or not may_clear:
                return State.SPOOF
            self._change = None
        if settings.rule == "majority":
            return self._sums.majority.state(before, may_clear=may_clear)
        evidence = self._sums.evidence
        return sequential_state(
            before,
            evidence.llr(),
            raise_llr=evidence.level(self._book.raise_llr),
            accept_llr=evidence.level(self._book.accept_llr),
            suspect_llr=settings.suspect_llr,
            clear_llr=settings.clear_llr,
            may_clear=may_clear,
        )
