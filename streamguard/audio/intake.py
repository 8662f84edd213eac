"""From the events of one leg to blocks of about one hop, whatever the packets look like.

Pure and cheap: it runs on the event loop for every packet of every leg, and copies samples into the
block in progress; everything else waits until a block is complete.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.frames import Mask, MaskedSpan, RawBlock
from streamguard.audio.resample import check_rate
from streamguard.events import Audio, Gap, GapReason, Tone

if TYPE_CHECKING:
    import numpy.typing as npt

    SampleArray = npt.NDArray[np.int16] | npt.NDArray[np.float32]

MAX_FILL_SECONDS = 10
"""A longer hole is a new talk segment: one packet must not make work without bound, and three
windows of nothing between two words leave nothing to join."""
MAX_TONES = 32
"""Signalled tones that may wait for their samples; more are dropped and counted."""

_MASK_OF_REASON = {
    GapReason.LOST: Mask.LOST,
    GapReason.DTX: Mask.DTX,
    GapReason.OVERLOAD: Mask.OVERLOAD,
}


class Intake:
    """The event-loop half of a leg's front end.

    Blocks are ``rate_hz // 2`` samples long and begin at multiples of that: the grid never moves. A
    talk segment that begins inside a block shares it with the zeroed, masked (DTX) tail of the
    segment before, and the last, partial block of a leg is never given out: a tail shorter than a
    hop is not scored.

    A hole in the sample positions is zeros masked LOST, one of more than ten seconds a new segment;
    samples that overlap what is already there are dropped and counted. Positions are those of the
    events; after a change of media or a new segment the next event is taken to follow on, so it
    does not matter in which rate the source goes on counting. ``codec`` is passed on. Raises
    ValueError for a rate outside 4,000 to 192,000 Hz.
    """

    def __init__(self, leg: str, rate_hz: int, codec: str = "") -> None:
        self._leg = leg
        self._codec = codec
        self._stats: Counter[str] = Counter()
        self._segment = 0
        self._held = False
        self._position = 0
        self._offset = 0
        self._anchored = True
        self._empty = True
        self._received_at = 0.0
        self._segment_first = 0
        self._tones: list[MaskedSpan] = []
        self._floating = False
        self._set_rate(rate_hz)

    def audio(self, event: Audio) -> list[RawBlock]:
        """Samples of the leg. From the first float32 on, blocks are float32."""
        self._received_at = event.received_at
        blocks = self._reach(event.first_sample)
        skip = self._position - (event.first_sample + self._offset)
        count = len(event.samples) - skip
        if skip:
            self._stats["overlap_samples"] += min(skip, len(event.samples))
        if count > 0:
            self._stats["audio_samples"] += count
            if self._held:
                self._fill(count, Mask.HOLD, blocks)
            else:
                self._copy(event.samples[skip:] if skip else event.samples, blocks)
        return blocks

    def gap(self, event: Gap) -> list[RawBlock]:
        """Samples that carry no received speech."""
        self._received_at = event.received_at
        blocks = self._reach(event.first_sample)
        end = event.first_sample + self._offset + event.count
        if end - self._position > MAX_FILL_SECONDS * self._rate_hz:
            self._jump(end)
        elif end > self._position:
            mask = Mask.HOLD if self._held else _MASK_OF_REASON[event.reason]
            self._fill(end - self._position, mask, blocks)
        return blocks

    def skip(self, first_sample: int, count: int) -> None:
        """Samples that nobody is to hear: what comes next is a new segment in its own place."""
        if not self._anchored:
            self._anchor(first_sample)
        end = first_sample + self._offset + count
        if end > self._position:
            self._new_segment(end)

    def tone(self, event: Tone) -> list[RawBlock]:
        """A signalled tone; it may cover samples of the block in progress, and samples to come."""
        if not self._anchored:
            self._anchor(event.first_sample)
        start = event.first_sample + self._offset
        stop = start + min(event.count, MAX_FILL_SECONDS * self._rate_hz)
        if start - self._position > MAX_FILL_SECONDS * self._rate_hz:
            self._stats["tones_dropped"] += 1
        elif self._tones and self._tones[-1].start == start:
            self._tones[-1] = MaskedSpan(start, max(stop, self._tones[-1].stop), Mask.TONE)
        elif len(self._tones) < MAX_TONES:
            self._tones.append(MaskedSpan(start, stop, Mask.TONE))
        else:
            self._stats["tones_dropped"] += 1
        return []

    def hold(self) -> list[RawBlock]:
        """All that comes until :meth:`resume` is masked HOLD."""
        self._held = True
        return []

    def resume(self) -> list[RawBlock]:
        """The speaker is back, in a new talk segment."""
        if self._held:
            self._held = False
            self._new_segment(self._position)
        return []

    def segment(self, first_sample: int) -> list[RawBlock]:
        """A new talk segment begins at ``first_sample``."""
        position = first_sample + self._offset if self._anchored else self._position
        self._new_segment(max(position, self._position))
        self._anchor(first_sample)
        return []

    def media_changed(self, rate_hz: int, codec: str = "") -> list[RawBlock]:
        """The codec or the rate changes: a new talk segment; time goes on where it was."""
        self._drop_tail()
        self._codec = codec
        position = self._position * rate_hz // self._rate_hz
        self._tones.clear()
        self._set_rate(rate_hz)
        self._position = self._segment_first = position
        self._new_segment(position)
        self._anchored = False
        return []

    def end(self) -> None:
        """The leg is over; what is left of a block is dropped and counted."""
        self._drop_tail()

    @property
    def rate_hz(self) -> int:
        """Of the source, now."""
        return self._rate_hz

    @property
    def position_s(self) -> float:
        """Seconds of the leg so far: the end of the newest event."""
        return self._position / self._rate_hz

    @property
    def lost_samples(self) -> int:
        """Filled in because they never came; as in :meth:`stats`, but cheap to ask often."""
        return self._stats["lost_samples"]

    def stats(self) -> dict[str, int]:
        """Counts so far, in source samples unless named otherwise.

        ``audio_samples``, ``lost_samples``, ``dtx_samples``, ``hold_samples``,
        ``overload_samples``, ``overlap_samples``, ``tail_samples``, ``jumps``, ``tones_dropped``.
        """
        return dict(self._stats)

    def _set_rate(self, rate_hz: int) -> None:
        check_rate(rate_hz)
        self._rate_hz = rate_hz
        self._block_samples = rate_hz // 2
        self._begin_block(0)

    def _begin_block(self, first: int) -> None:
        self._block_first = first
        self._samples: SampleArray = (
            np.empty(self._block_samples, dtype=np.float32)
            if self._floating
            else np.empty(self._block_samples, dtype=np.int16)
        )
        self._spans: list[MaskedSpan] = []

    def _anchor(self, first_sample: int) -> None:
        self._offset = self._position - first_sample
        self._anchored = True

    def _reach(self, first_sample: int) -> list[RawBlock]:
        """Bring the position up to an event that begins at ``first_sample``."""
        if not self._anchored:
            self._anchor(first_sample)
        blocks: list[RawBlock] = []
        hole = first_sample + self._offset - self._position
        if hole > 0:
            if self._empty or hole > MAX_FILL_SECONDS * self._rate_hz:
                self._jump(self._position + hole)
            else:
                self._fill(hole, Mask.HOLD if self._held else Mask.LOST, blocks)
        return blocks

    def _jump(self, position: int) -> None:
        """Go on at ``position``, in a new segment unless this one has nothing yet."""
        self._stats["jumps"] += 1
        self._new_segment(position)

    def _new_segment(self, position: int) -> None:
        if not self._empty:
            self._segment += 1
            self._empty = True
        self._drop_tail()
        self._position = self._segment_first = position
        self._begin_block(position - position % self._block_samples)
        if position > self._block_first:
            self._samples[: position - self._block_first] = 0
            self._spans.append(MaskedSpan(self._block_first, position, Mask.DTX))

    def _drop_tail(self) -> None:
        """Give up what the segment has in the block in progress; it is counted once."""
        first = max(self._segment_first, self._block_first)
        self._stats["tail_samples"] += self._position - first
        self._segment_first = self._position

    def _copy(self, samples: SampleArray, blocks: list[RawBlock]) -> None:
        self._empty = False
        if samples.dtype != self._samples.dtype:
            self._floating = True
            self._samples = _to_float(self._samples)
            samples = _to_float(samples)
        begin = 0
        while begin < len(samples):
            at = self._position - self._block_first
            count = min(len(samples) - begin, self._block_samples - at)
            self._samples[at : at + count] = samples[begin : begin + count]
            begin += count
            self._advance(count, blocks)

    def _fill(self, count: int, mask: Mask, blocks: list[RawBlock]) -> None:
        self._empty = False
        self._stats[f"{str(mask.name).lower()}_samples"] += count
        while count:
            at = self._position - self._block_first
            part = min(count, self._block_samples - at)
            self._samples[at : at + part] = 0
            last = self._spans[-1] if self._spans else None
            if last is not None and last.stop == self._position and last.mask == mask:
                self._spans[-1] = MaskedSpan(last.start, last.stop + part, mask)
            else:
                self._spans.append(MaskedSpan(self._position, self._position + part, mask))
            count -= part
            self._advance(part, blocks)

    def _advance(self, count: int, blocks: list[RawBlock]) -> None:
        self._position += count
        end = self._block_first + self._block_samples
        if self._position < end:
            return
        for tone in self._tones:
            start, stop = max(tone.start, self._block_first), min(tone.stop, end)
            if start < stop:
                self._samples[start - self._block_first : stop - self._block_first] = 0
                self._spans.append(MaskedSpan(start, stop, Mask.TONE))
        self._tones = [tone for tone in self._tones if tone.stop > end]
        self._samples.flags.writeable = False
        blocks.append(
            RawBlock(
                leg=self._leg,
                segment=self._segment,
                first_sample=self._block_first,
                samples=self._samples,
                rate_hz=self._rate_hz,
                spans=tuple(self._spans),
                received_at=self._received_at,
                codec=self._codec,
            )
        )
        self._begin_block(end)


def _to_float(samples: SampleArray) -> npt.NDArray[np.float32]:
    """float32 with full scale 1.0, of either kind."""
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32_768.0)
    return samples.astype(np.float32, copy=False)
