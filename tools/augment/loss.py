"""Lost packets and what a receiver plays in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tools.augment.settings import RATE_HZ

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    BoolArray = npt.NDArray[np.bool_]

PACKET_SAMPLES = RATE_HZ // 50
CONCEALMENTS = ("repeat", "zero", "noise")
_FADE_PACKETS = 3
"""A repetition is silent after 60 ms, as in G.711 Appendix I."""
_EDGE = RATE_HZ // 400
"""2.5 ms of cross-fade from concealment back to speech."""


def lost_packets(
    count: int, share: float, burst_packets: float, rng: np.random.Generator
) -> BoolArray:
    """``[count]``: a Gilbert chain that loses ``share`` of the packets in the long run.

    ``burst_packets`` is the mean length of a burst; 1 / (1 - share) is random loss.
    """
    leave = 1.0 / max(burst_packets, 1.0 / (1.0 - share))
    enter = min(1.0, leave * share / (1.0 - share))
    draws = rng.random(count + 1)
    lost = np.empty(count, np.bool_)
    state = bool(draws[-1] < share)
    for index in range(count):
        lost[index] = state
        state = bool(draws[index] >= leave) if state else bool(draws[index] < enter)
    return lost


def concealed(
    clip: FloatArray, lost: BoolArray, concealment: str, rng: np.random.Generator
) -> FloatArray:
    """The clip with every lost packet of 20 ms played as the concealment says.

    ``repeat`` continues the last pitch period, fading; ``zero`` is silent; ``noise`` is white at
    20 dB below the last packet that came.
    """
    out = clip.copy()
    noise = rng.standard_normal(len(clip), np.float32)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], lost, [False]))))
    for first, stop in edges.reshape(-1, 2):
        begin, end = int(first) * PACKET_SAMPLES, min(int(stop) * PACKET_SAMPLES, len(clip))
        before = out[:begin]
        if concealment == "zero" or not len(before):
            filled = np.zeros(end - begin + _EDGE, np.float32)
        elif concealment == "noise":
            level = np.sqrt(np.square(before[-PACKET_SAMPLES:]).mean()) * np.float32(0.1)
            filled = np.resize(noise[begin:], end - begin + _EDGE) * level
        else:
            filled = _repeated(before, end - begin + _EDGE)
        after = out[end : end + _EDGE]
        ramp = np.arange(1, len(after) + 1, dtype=np.float32) / np.float32(_EDGE + 1)
        out[begin:end] = filled[: end - begin]
        if concealment != "zero":
            tail = filled[end - begin :][: len(after)]
            out[end : end + _EDGE] = ramp * after + (1 - ramp) * tail
    return out


def _repeated(before: FloatArray, samples: int) -> FloatArray:
    """The last pitch period again and again, fading to nothing in 60 ms."""
    shortest, longest = RATE_HZ // 400, RATE_HZ // 66
    recent = before[-(longest + PACKET_SAMPLES) :]
    if len(recent) < longest + PACKET_SAMPLES:
        period = recent[-longest:]
    else:
        # The lag at which the last packet looks most like what came before it.
        target = recent[-PACKET_SAMPLES:]
        likeness = np.correlate(recent[:-shortest], target, mode="valid")
        period = recent[-(longest - int(np.argmax(likeness))) :]
    fade = 1.0 - np.arange(samples, dtype=np.float32) / np.float32(_FADE_PACKETS * PACKET_SAMPLES)
    return np.asarray(np.resize(period, samples) * np.maximum(fade, 0.0), np.float32)
