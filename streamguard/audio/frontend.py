"""From blocks at the source's rate to normalised, judged hops at 16 kHz. Owned by one thread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamguard.audio.frames import Hop, HopQuality, Mask, MaskedSpan, RawBlock
from streamguard.audio.gate import Gate, hop_fault
from streamguard.audio.level import BLOCK_SAMPLES, RunningPeak
from streamguard.audio.line import channel_of
from streamguard.audio.prompts import PromptBook, PromptListener
from streamguard.audio.resample import resampler
from streamguard.audio.ring import Ring
from streamguard.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from streamguard.verdict.scores import Channel

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.audio.settings import GateSettings

    FloatArray = npt.NDArray[np.float32]
    MaskArray = npt.NDArray[np.uint8]

RING_SAMPLES = 4 * SAMPLE_RATE_HZ
"""A window of 3 s, its left context, and room for attribution to come a hop late."""


_LARGEST_SAMPLE = np.float32(8.0)
"""Float sources may exceed full scale a little; squares of absurd values must not overflow."""


class FrontEnd:
    """The inference-thread half of a leg's front end. Pure: the same blocks give the same hops.

    Hop ``k`` comes out with the block that completes ``(k + 1) * 0.5`` s of the leg; its samples
    are late by :attr:`delay` (the resampler's, and 10 ms of look-ahead of the level). What was
    masked at the source is masked in the hops, shifted alike. A new segment starts from nothing:
    zeros as left context, an empty peak memory, a fresh gate; its first hop is masked up to where
    the delayed segment begins.
    """

    def __init__(
        self,
        leg: str,
        left_context: int,
        gate: GateSettings,
        prompts: PromptBook | None = None,
    ) -> None:
        if not 0 <= left_context <= RING_SAMPLES - HOP_SAMPLES:
            raise ValueError(f"left_context {left_context}: allowed are 0 to 56000 samples")
        self._leg = leg
        self._left_context = left_context
        self._settings = gate
        self._prompts = prompts
        self._tracker = ChannelTracker()
        self._codec = ""
        self._ring = Ring(RING_SAMPLES)
        self._segment: _Segment | None = None

    @property
    def channel(self) -> Channel:
        """Wide or narrow, as heard so far on this leg; or low rate, by its codec."""
        return channel_of(self._codec, self._tracker.channel)

    @property
    def delay(self) -> int:
        """16 kHz samples by which hops lag the leg; 0 before the first block."""
        return 0 if self._segment is None else self._segment.delay

    def process(self, block: RawBlock) -> list[Hop]:
        """Usually one hop; two or none where half a second is not a whole number of samples."""
        segment = self._segment
        if segment is None or not segment.continues_with(block):
            if segment is None or (block.rate_hz, block.codec) != (segment.rate_hz, self._codec):
                self._tracker = ChannelTracker(block.rate_hz)
                self._codec = block.codec
            segment = self._segment = _Segment(block, self._settings, self._prompts)
            self._ring.restart(segment.first)
        return [self._hop(judged, segment, block) for judged in segment.process(block)]

    def replay(self, index: int, left_context: int) -> FloatArray | None:
        """Hop ``index`` again, behind ``left_context`` samples: ``[left_context + 8000]``.

        Bit for bit what was delivered, zeros before the start of the segment; None if the hop is
        of an earlier segment, not there yet, or overwritten.
        """
        if self._segment is None or index * HOP_SAMPLES < self._segment.first:
            return None
        return self._read(index * HOP_SAMPLES - left_context, left_context + HOP_SAMPLES)

    def _hop(self, judged: _Judged, segment: _Segment, block: RawBlock) -> Hop:
        quality = judged.quality
        usable = hop_fault(quality, self._settings) is None
        if usable and quality.highband_db is not None:
            self._tracker.add(quality.highband_db)
        context = self._read(judged.index * HOP_SAMPLES - self._left_context, self._left_context)
        assert context is not None, "the ring holds more than the left context"
        self._ring.write(judged.samples)
        context.flags.writeable = False
        return Hop(
            leg=self._leg,
            segment=segment.number,
            index=judged.index,
            context=context,
            samples=judged.samples,
            quality=quality,
            usable=usable,
            received_at=block.received_at,
        )

    def _read(self, first: int, count: int) -> FloatArray | None:
        """From the ring, with zeros before the start of the segment."""
        start = self._segment.first if self._segment is not None else 0
        missing = min(count, max(0, start - first))
        heard = self._ring.read(first + missing, count - missing)
        if heard is None or not missing:
            return heard
        return np.concatenate((np.zeros(missing, dtype=np.float32), heard))


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A hop on its way: number, normalised samples, what the gate says."""

    index: int
    samples: FloatArray
    quality: HopQuality


class _Segment:
    """All that must not outlive a talk segment: filter, peak and gate memories, pending samples."""

    def __init__(self, block: RawBlock, settings: GateSettings, prompts: PromptBook | None) -> None:
        self.number = block.segment
        self.rate_hz = block.rate_hz
        self._next_sample = block.first_sample
        position = block.first_sample * SAMPLE_RATE_HZ // block.rate_hz
        self._index = position // HOP_SAMPLES
        self.first = self._index * HOP_SAMPLES
        self._resampler = resampler(block.rate_hz)
        self.delay = self._resampler.delay + BLOCK_SAMPLES
        self._levels = RunningPeak()
        self._gate = Gate(settings)
        self._listener = None if prompts is None else PromptListener(prompts)
        lead = position - self.first + BLOCK_SAMPLES
        self._raw: FloatArray = np.zeros(lead, dtype=np.float32)
        self._spans = [MaskedSpan(self.first, position + self.delay, Mask.DTX)]

    def continues_with(self, block: RawBlock) -> bool:
        """Whether the block follows on; one that never came must not splice its neighbours."""
        return (block.segment, block.rate_hz, block.first_sample) == (
            self.number,
            self.rate_hz,
            self._next_sample,
        )

    def process(self, block: RawBlock) -> list[_Judged]:
        self._next_sample = block.first_sample + len(block.samples)
        samples = _as_float(block.samples)
        spans = block.spans
        if block.samples.dtype != np.int16:
            if not np.isfinite(samples).all():
                # A driver's garbage is as good as lost; a NaN would stay in every filter behind.
                samples = np.zeros_like(samples)
                end = block.first_sample + len(samples)
                spans = (*spans, MaskedSpan(block.first_sample, end, Mask.LOST))
            samples = np.clip(samples, -_LARGEST_SAMPLE, _LARGEST_SAMPLE)
        self._spans.extend(self._at_16k(span) for span in spans)
        self._raw = np.concatenate((self._raw, self._resampler.process(samples)))
        judged = []
        while len(self._raw) >= HOP_SAMPLES + BLOCK_SAMPLES:
            judged.append(self._next())
        return judged

    def _at_16k(self, span: MaskedSpan) -> MaskedSpan:
        start = span.start * SAMPLE_RATE_HZ // self.rate_hz
        stop = -(-span.stop * SAMPLE_RATE_HZ // self.rate_hz)
        return MaskedSpan(start + self.delay, stop + self.delay, span.mask)

    def _next(self) -> _Judged:
        raw = self._raw[: HOP_SAMPLES + BLOCK_SAMPLES]
        hop, ahead = raw[:HOP_SAMPLES], raw[HOP_SAMPLES:]
        self._raw = self._raw[HOP_SAMPLES:]
        mask = self._mask(self._index * HOP_SAMPLES, len(raw))
        samples = self._levels.process(hop, ahead, None if mask is None else mask != 0)
        samples.flags.writeable = False
        quality = self._gate.measure(hop, None if mask is None else mask[:HOP_SAMPLES])
        if self._listener is not None and self._listener.hear(hop):
            quality = replace(quality, announcement=True)
        self._index += 1
        return _Judged(self._index - 1, samples, quality)

    def _mask(self, first: int, count: int) -> MaskArray | None:
        """Masks of samples ``first`` to ``first + count``; None where all is clean."""
        end = first + count
        mask: MaskArray | None = None
        for span in self._spans:
            if span.start < end and span.stop > first:
                if mask is None:
                    mask = np.zeros(count, dtype=np.uint8)
                mask[max(0, span.start - first) : span.stop - first] |= int(span.mask)
        done = first + HOP_SAMPLES
        self._spans = [span for span in self._spans if span.stop > done]
        return mask


class ChannelTracker:
    """Wide or narrow band, from the source's rate and from the speech that came through."""

    least_db = -42.0
    """Level above 4.2 kHz relative to the telephone band that a wide channel has now and then:
    wide recordings reach -37 dB on average, what once was 8 kHz stays below -48."""
    least_share = 0.2
    """Share of speech hops that must reach it: fricatives are in one hop of two or three."""
    least_hops = 4
    """Speech hops before a source of a higher rate can be called narrow."""

    def __init__(self, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self._telephone = rate_hz <= 8_000
        self._hops = 0
        self._high = 0

    def add(self, highband_db: float) -> None:
        """One hop of speech."""
        self._hops += 1
        self._high += highband_db >= self.least_db

    @property
    def channel(self) -> Channel:
        if self._telephone:
            return Channel.NARROW
        if self._hops >= self.least_hops and self._high < self.least_share * self._hops:
            return Channel.NARROW
        return Channel.WIDE


def _as_float(samples: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> FloatArray:
    """Full scale 1.0."""
    if samples.dtype == np.int16:
        return samples.astype(np.float32) * np.float32(1.0 / 32_768.0)
    return samples.astype(np.float32, copy=False)
