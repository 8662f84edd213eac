"""Clips through conventional speech and music codecs, in this process, in step with the original.

Human speech that went through one of these is still bona fide. ``code_clip`` is also the offline
way: code a collection once and cache it, where twenty milliseconds a clip are too dear.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soundfile
import soxr

from streamguard.audio.resample import HalfBand
from tools.augment.line import from_int16, g711_line, to_int16
from tools.augment.settings import RATE_HZ
from tools.augment.speex import speex_installed, speex_round_trip
from tools.augment.tempo import fitted

if TYPE_CHECKING:
    import numpy.typing as npt
    from av import AudioCodecContext, AudioFrame, Packet

    FloatArray = npt.NDArray[np.float32]
    IntArray = npt.NDArray[np.int16]

_NARROW_HZ = 8000


@dataclass(frozen=True, slots=True)
class _Libav:
    """An encoder and a decoder of libavcodec."""

    encoder: str
    decoder: str
    sample_format: str = "s16"
    options: dict[str, str] = field(default_factory=dict)

    def round_trip(self, samples: IntArray, rate_hz: int, bit_rate: int) -> tuple[FloatArray, int]:
        """Decoded samples, and their rate, which is libav's choice."""
        packets, header = self.encode(samples, rate_hz, bit_rate)
        decoder = _context(self.decoder, "r")
        # Decoders of raw streams must be told; the others find the same in the stream.
        decoder.sample_rate, decoder.layout = rate_hz, "mono"
        decoder.extradata = header
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
        frames += decoder.decode(None)
        return _heard(frames), frames[0].sample_rate

    def encode(
        self, samples: IntArray, rate_hz: int, bit_rate: int
    ) -> tuple[list[Packet[Any]], bytes | None]:
        """Packets, and the header that the decoder needs, if any."""
        from av import AudioFrame

        encoder = _context(self.encoder, "w")
        encoder.sample_rate, encoder.layout, encoder.format = rate_hz, "mono", self.sample_format
        encoder.time_base = Fraction(1, rate_hz)
        encoder.bit_rate = bit_rate
        encoder.options = dict(self.options)
        encoder.open()
        step = encoder.frame_size or len(samples)
        # Silence behind the clip pushes its end through the codec's own delay.
        given = np.zeros((1, (len(samples) // step + 4) * step), np.int16)
        given[0, : len(samples)] = samples
        packets = []
        for begin in range(0, given.shape[1], step):
            frame = AudioFrame.from_ndarray(
                given[:, begin : begin + step], format=self.sample_format, layout="mono"
            )
            frame.sample_rate, frame.pts = rate_hz, begin
            packets += encoder.encode(frame)
        return packets + encoder.encode(None), encoder.extradata


def _context(name: str, mode: Literal["r", "w"]) -> AudioCodecContext:
    from av import AudioCodecContext

    context = AudioCodecContext.create(name, mode)
    assert isinstance(context, AudioCodecContext)
    return context


def _heard(frames: list[AudioFrame]) -> FloatArray:
    joined = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return from_int16(joined) if joined.dtype == np.int16 else joined.astype(np.float32)


_G722 = _Libav("g722", "g722")
_AMR = _Libav("libopencore_amrnb", "amrnb")
# Complexity 0 of 10 costs half as much as 3 and a third of 5; what it spares is search, not format.
_OPUS = _Libav("libopus", "libopus", options={"application": "voip", "compression_level": "0"})
_MP3 = _Libav("libmp3lame", "mp3float", sample_format="s16p", options={"compression_level": "7"})
_G726 = _Libav("g726", "g726")

_G722_LATE, _AMR_LATE = 22, 79
"""Samples at 16 kHz by which libav returns a clip late (measured); it makes up for the others."""
_AMR_BIT_RATES = (4750, 5150, 5900, 6700, 7400, 7950, 10200, 12200)
_MP3_RATES_HZ = (16000, 22050, 24000)
"""Those of synthesisers: what pages with samples hold. Above, mp3 costs twice as much."""
_MP3_BIT_RATES = (24000, 32000, 40000, 48000, 64000, 96000, 128000)


def code_clip(samples: FloatArray, codec: str, rng: np.random.Generator) -> FloatArray:
    """A clip ``[samples]`` at 16 kHz as it comes back from a codec: same length, same place.

    Bit rate and mode are drawn, without a look at the samples. ``codec`` is one of ``CODECS``;
    raises ValueError for another one and SpeexMissingError where libspeex is not installed.
    """
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r}: one of " + ", ".join(CODECS))
    return CODECS[codec](samples, rng)


def missing_codecs() -> tuple[str, ...]:
    """Those that cannot be used on this machine."""
    return () if speex_installed() else ("speex",)


def _g711(mu_law: bool, samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    narrow = g711_line(soxr.resample(samples, RATE_HZ, _NARROW_HZ), mu_law)
    return _to_16_khz(narrow, _NARROW_HZ, len(samples), rng)


def _g722(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    heard, rate_hz = _G722.round_trip(to_int16(samples), RATE_HZ, 64000)
    return _to_16_khz(heard, rate_hz, len(samples), rng, _G722_LATE)


def _g726(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """16, 24, 32 or 40 kbit/s. The decoder learns the size of a code from its container only."""
    import av

    bits = int(rng.integers(2, 6))
    narrow = to_int16(soxr.resample(samples, RATE_HZ, _NARROW_HZ))
    packets, _ = _G726.encode(narrow, _NARROW_HZ, bits * _NARROW_HZ)
    stream = io.BytesIO(b"".join(bytes(packet) for packet in packets))
    options = {"code_size": str(bits), "sample_rate": str(_NARROW_HZ)}
    with av.open(stream, "r", format="g726", options=options) as container:
        heard = _heard(list(container.decode(audio=0)))
    return _to_16_khz(heard, _NARROW_HZ, len(samples), rng)


def _gsm(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """GSM 06.10 full rate, of libsndfile."""
    stream = io.BytesIO()
    narrow = soxr.resample(samples, RATE_HZ, _NARROW_HZ)
    soundfile.write(stream, narrow, _NARROW_HZ, format="WAV", subtype="GSM610")
    stream.seek(0)
    heard, _ = soundfile.read(stream, dtype="float32")
    return _to_16_khz(heard, _NARROW_HZ, len(samples), rng)


def _amr_nb(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    bit_rate = int(rng.choice(_AMR_BIT_RATES))
    narrow = to_int16(soxr.resample(samples, RATE_HZ, _NARROW_HZ))
    heard, rate_hz = _AMR.round_trip(narrow, _NARROW_HZ, bit_rate)
    return _to_16_khz(heard, rate_hz, len(samples), rng, _AMR_LATE)


def _opus(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A third in narrow band at 6-16 kbit/s, the rest in wide band at 9-40 kbit/s."""
    narrow, place = rng.random(2)
    coded_hz = _NARROW_HZ if narrow < 1 / 3 else RATE_HZ
    low, high = (6000, 16000) if narrow < 1 / 3 else (9000, 40000)
    given = soxr.resample(samples, RATE_HZ, coded_hz) if coded_hz != RATE_HZ else samples
    bit_rate = int(low * (high / low) ** place)
    heard, rate_hz = _OPUS.round_trip(to_int16(given), coded_hz, bit_rate)
    return _to_16_khz(heard, rate_hz, len(samples), rng)


def _speex(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    narrow, quality = rng.random(), int(rng.integers(2, 11))
    coded_hz = _NARROW_HZ if narrow < 0.5 else RATE_HZ
    given = soxr.resample(samples, RATE_HZ, coded_hz) if coded_hz != RATE_HZ else samples
    heard = from_int16(speex_round_trip(to_int16(given), coded_hz, quality))
    return _to_16_khz(heard, coded_hz, len(samples), rng)


def _mp3(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    coded_hz = int(rng.choice(_MP3_RATES_HZ))
    bit_rate = int(rng.choice(_MP3_BIT_RATES))
    given = soxr.resample(samples, RATE_HZ, coded_hz) if coded_hz != RATE_HZ else samples
    heard, rate_hz = _MP3.round_trip(to_int16(given), coded_hz, bit_rate)
    return _to_16_khz(heard, rate_hz, len(samples), rng)


def _to_16_khz(
    heard: FloatArray, rate_hz: int, samples: int, rng: np.random.Generator, late: int = 0
) -> FloatArray:
    """Half of the narrow ones by the daemon's resampler, the others by a steeper one.

    Then in step: without the first ``late`` samples, and ``samples`` long.
    """
    half_band = rng.random() < 0.5
    if rate_hz == _NARROW_HZ and half_band:
        padded = np.concatenate((heard, np.zeros(HalfBand.delay, np.float32)))
        heard = HalfBand().process(padded)[HalfBand.delay :]
    elif rate_hz != RATE_HZ:
        heard = soxr.resample(heard, rate_hz, RATE_HZ)
    return fitted(heard[late:], samples)


CODECS: dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]] = {
    "g711a": functools.partial(_g711, False),
    "g711u": functools.partial(_g711, True),
    "g722": _g722,
    "g726": _g726,
    "gsm": _gsm,
    "amr_nb": _amr_nb,
    "opus": _opus,
    "speex": _speex,
    "mp3": _mp3,
}
