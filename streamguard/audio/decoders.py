"""Payload bytes to samples, one decoder per talk segment, for whatever carries the bytes.

G.711 and L16 are decoded here; G.722, GSM and Opus by FFmpeg through PyAV, the extra ``codecs``,
which is imported when the first such decoder is made. Whether it is there is asked before a call is
taken (:func:`check_extra`): a codec that cannot be decoded has to be refused in the configuration
or the SDP answer, not found out about in mid-call.
"""

from __future__ import annotations

import enum
import importlib.util
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from streamguard.audio.g711 import decode_alaw, decode_ulaw
from streamguard.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy.typing as npt

    Int16Array = npt.NDArray[np.int16]

EXTRA = "codecs"
L16_RATES_HZ = (
    *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    *(96_000, 192_000),  # Asterisk's slin96 and slin192
)
"""What L16 may be sampled at; RFC 3551 leaves the rate to the signalling."""
GSM_FRAME_BYTES = 33
"""20 ms of GSM 06.10 full rate (RFC 3551 section 4.5.8)."""
OPUS_MAX_BYTES = 7_668
"""120 ms in the largest frames there are (RFC 6716 section 3.4)."""


class Codec(enum.StrEnum):
    """What can be decoded; names as in SDP."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    L16 = "L16"
    G722 = "G722"
    GSM = "GSM"
    OPUS = "opus"

    @property
    def needs_extra(self) -> bool:
        return self in _FFMPEG


class PayloadDecoder(Protocol):
    """The decoder of one talk segment: it may remember what it decoded before."""

    @property
    def rate_hz(self) -> int:
        """Of the samples."""

    def decode(self, payload: bytes) -> Int16Array:
        """Mono samples ``[n]``, read-only; none where the payload cannot be decoded."""


def default_rate_hz(codec: Codec) -> int:
    """The one rate at which a codec gives samples; of L16 (which has none) 8 kHz."""
    return {Codec.G722: 16_000, Codec.OPUS: 48_000}.get(codec, 8_000)


def check_extra(codec: Codec) -> None:
    """Raises MissingExtraError where the codec needs a package that is not installed."""
    if codec.needs_extra and importlib.util.find_spec("av") is None:
        raise MissingExtraError(f"the codec {codec}", EXTRA)


def make_decoder(
    codec: Codec, rate_hz: int | None = None, *, byteorder: Literal["big", "little"] = "big"
) -> PayloadDecoder:
    """A fresh decoder.

    ``rate_hz`` and ``byteorder`` are for L16 alone (RTP is big endian, every media WebSocket and
    AudioSocket little). Raises MissingExtraError, and ValueError for a rate that the codec does not
    have.
    """
    check_extra(codec)
    rate_hz = default_rate_hz(codec) if rate_hz is None else rate_hz
    if rate_hz not in (L16_RATES_HZ if codec is Codec.L16 else (default_rate_hz(codec),)):
        raise ValueError(f"{codec} has no samples at {rate_hz} Hz")
    match codec:
        case Codec.PCMU | Codec.PCMA:
            return _G711Decoder(codec)
        case Codec.L16:
            return _L16Decoder(rate_hz, byteorder)
        case _:
            return _FfmpegDecoder(codec, rate_hz)


class _G711Decoder:
    rate_hz = 8_000

    def __init__(self, codec: Codec) -> None:
        self._decode = decode_ulaw if codec is Codec.PCMU else decode_alaw

    def decode(self, payload: bytes) -> Int16Array:
        return _read_only(self._decode(payload))


class _L16Decoder:
    def __init__(self, rate_hz: int, byteorder: Literal["big", "little"]) -> None:
        self.rate_hz = rate_hz
        self._wire = np.dtype(np.int16).newbyteorder(">" if byteorder == "big" else "<")

    def decode(self, payload: bytes) -> Int16Array:
        if len(payload) % 2:
            return _NOTHING
        return _read_only(np.frombuffer(payload, dtype=self._wire).astype(np.int16))


class _FfmpegDecoder:
    """G.722, GSM and Opus: one codec context, no threads."""

    def __init__(self, codec: Codec, rate_hz: int) -> None:
        import av

        self.rate_hz = rate_hz
        self._codec = codec
        self._packet = av.Packet
        self._error = av.error.FFmpegError
        context = av.CodecContext.create(_FFMPEG[codec], "r")
        assert isinstance(context, av.AudioCodecContext)
        context.sample_rate = rate_hz
        # One channel: of a stereo Opus packet the decoder itself gives the mean.
        context.layout = "mono"
        self._context = context

    def decode(self, payload: bytes) -> Int16Array:
        if not self._is_whole(payload):
            return _NOTHING
        try:
            frames = self._context.decode(self._packet(payload))
        except self._error:
            return _NOTHING
        if not frames:
            return _NOTHING
        return _read_only(np.concatenate([frame.to_ndarray()[0] for frame in frames]))

    def _is_whole(self, payload: bytes) -> bool:
        """FFmpeg takes no bytes for the end of the stream, and half a GSM frame for a defect."""
        if self._codec is Codec.GSM and len(payload) % GSM_FRAME_BYTES:
            return False
        return 0 < len(payload) <= OPUS_MAX_BYTES


def _read_only(samples: Int16Array) -> Int16Array:
    samples.flags.writeable = False
    return samples


_FFMPEG = {Codec.G722: "g722", Codec.GSM: "gsm", Codec.OPUS: "libopus"}
"""FFmpeg's names. libopus gives int16 and plays FEC-less DTX; FFmpeg's own gives float planes."""
_NOTHING: Int16Array = _read_only(np.zeros(0, dtype=np.int16))
