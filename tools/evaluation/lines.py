"""How a clip reaches the daemon: as it is, through a coder, with packets that never come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soxr

from tools.augment import CODECS, code_clip, missing_codecs, to_int16
from tools.augment.loss import lost_packets
from tools.data import SAMPLE_RATE_HZ
from tools.scoring import LINES, LOW_RATE_LINE, PACKET_SECONDS, TELEPHONE_HZ, codec_of, over

if TYPE_CHECKING:
    import numpy.typing as npt

    Int16Array = npt.NDArray[np.int16]
    Bools = npt.NDArray[np.bool_]
    Arrived = tuple[Int16Array, int, Bools | None, str]
    """Samples and their rate, which packets did not come, what SDP calls the codec."""

_IN_SDP = {
    "g711a": "PCMA",
    "g711u": "PCMU",
    "g722": "G722",
    "g726": "G726-32",
    "gsm": "GSM",
    "amr_nb": "AMR",
    "opus": "OPUS",
    "speex": "SPEEX",
}
_NARROW = frozenset(("g711a", "g711u", "g726", "gsm", "amr_nb"))
"""Those that a daemon receives at 8 kHz."""
LOSSES = (0.0, 0.01, 0.03, 0.05, 0.10, 0.20)
BURST_PACKETS = 2.0
"""Mean length of a burst of lost packets."""


@dataclass(frozen=True, slots=True)
class Line:
    """One way in. The draw of a codec's bit rate and of the lost packets depends on the number of a
    clip and on nothing else."""

    name: str
    plain: str = LINES[0]
    """A line of ``tools.scoring``, where there is no codec."""
    codec: str | None = None
    """A name of ``tools.augment.CODECS``."""
    loss: float = 0.0
    """Share of 20 ms packets that never come, in bursts."""

    def carry(self, samples: Int16Array, number: int) -> Arrived:
        """What comes of a clip."""
        rng = np.random.default_rng(number)
        if self.codec is None:
            heard, rate_hz = over(self.plain, samples, number)
            in_sdp = codec_of(self.plain, number)
        else:
            coded = code_clip(samples.astype(np.float32) / np.float32(32768.0), self.codec, rng)
            rate_hz = TELEPHONE_HZ if self.codec in _NARROW else SAMPLE_RATE_HZ
            if rate_hz != SAMPLE_RATE_HZ:
                coded = soxr.resample(coded, SAMPLE_RATE_HZ, rate_hz)
            heard, in_sdp = to_int16(coded), _IN_SDP.get(self.codec, "")
        packets = -(-len(heard) // round(PACKET_SECONDS * rate_hz))
        lost = lost_packets(packets, self.loss, BURST_PACKETS, rng) if self.loss else None
        return heard, rate_hz, lost, in_sdp


PLAIN = tuple(Line(name, plain=name) for name in LINES)
LOW_RATE = Line("low rate", plain=LOW_RATE_LINE)


def codec_lines() -> Sequence[Line]:
    """One line for every coder that works on this machine, and the mixture of low-rate ones."""
    coders = [Line(name, codec=name) for name in CODECS if name not in missing_codecs()]
    return [*coders, LOW_RATE]


def loss_lines() -> Sequence[Line]:
    """The telephone line with ever more packets lost."""
    return [Line(f"{100 * share:g} % lost", plain=LINES[1], loss=share) for share in LOSSES]
