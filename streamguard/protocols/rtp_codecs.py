"""What an RTP payload type carries: from SDP, from the static table, or from a configuration.

The clock of RTP timestamps is not always the rate of the samples: G.722 has a clock of 8,000 and
samples at 16 kHz (an error of RFC 1890 that RFC 3551 section 4.5.2 keeps), Opus always a clock of
48,000 (RFC 7587). No format parameter (``a=fmtp``) of the codecs here changes how they are decoded,
so none is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamguard.audio.decoders import (
    L16_RATES_HZ,
    Codec,
    PayloadDecoder,
    check_extra,
    default_rate_hz,
    make_decoder,
)
from streamguard.protocols.rtp import MAX_PAYLOAD_BYTES

CN = "CN"
TELEPHONE_EVENT = "telephone-event"
_SIGNAL_CLOCKS_HZ = (8_000, 16_000, 32_000, 44_100, 48_000)
"""Comfort noise (RFC 3389) and telephone-event (RFC 4733) have the clock of their audio."""


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """A codec, or a signal beside the audio, on its RTP clock."""

    name: str
    """As in SDP, in its usual spelling: ``PCMU``, ``opus``, ``CN``, ``telephone-event``."""
    clock_hz: int
    """Of the timestamps."""
    codec: Codec | None
    """None of comfort noise and telephone-event."""
    rate_hz: int
    """Of the samples; of what is not audio, the clock."""

    @property
    def is_audio(self) -> bool:
        return self.codec is not None

    @property
    def most_bytes(self) -> int:
        """Of a payload: 200 ms of audio, as receivers should take (RFC 3551, section 4.2)."""
        match self.codec:
            case Codec.PCMU | Codec.PCMA | Codec.G722:
                return 8_000 // 5
            case Codec.L16:
                return 2 * self.rate_hz // 5
            case _:
                return MAX_PAYLOAD_BYTES

    def samples(self, ticks: int) -> int:
        """So many units of the RTP clock in samples; rounded down."""
        return ticks * self.rate_hz // self.clock_hz

    def ticks(self, samples: int) -> int:
        """So many samples in units of the RTP clock."""
        return samples * self.clock_hz // self.rate_hz

    def decoder(self) -> PayloadDecoder:
        """A fresh decoder for a talk segment of this format; for audio only."""
        assert self.codec is not None, f"{self.name} is not audio"
        return make_decoder(self.codec, self.rate_hz)

    def __str__(self) -> str:
        return f"{self.name}/{self.clock_hz}"


def payload_format(
    payload_type: int,
    encoding: str | None = None,
    clock_hz: int | None = None,
    channels: int | None = None,
) -> PayloadFormat | None:
    """What a payload type of an SDP media description carries.

    Without ``encoding`` (no ``a=rtpmap``) it is what RFC 3551 assigns to the number. None is for
    what we have no decoder for, or not with these numbers: leave it out of the answer. Raises
    MissingExtraError where only the package is missing.
    """
    if encoding is None:
        known = STATIC_FORMATS.get(payload_type)
    else:
        known = _format(encoding, clock_hz, channels)
    if known is not None and known.codec is not None:
        check_extra(known.codec)
    return known


def parse_rtpmap(text: str) -> PayloadFormat:
    """``L16/16000``, ``opus/48000/2``, or a bare ``PCMA``, as in ``a=rtpmap`` after the number.

    Raises ValueError saying what is allowed, and MissingExtraError.
    """
    name, *numbers = text.strip().split("/")
    if len(numbers) <= 2 and all(part.isascii() and part.isdigit() for part in numbers):
        clock_hz, channels = [*(int(part[:9]) for part in numbers), None, None][:2]
        found = payload_format(-1, name, clock_hz, channels)
        if found is not None:
            return found
    names = ", ".join([*Codec, CN, TELEPHONE_EVENT])
    raise ValueError(f"{text!r}: one of {names}, with its clock where that is not the usual one")


def _format(name: str, clock_hz: int | None, channels: int | None) -> PayloadFormat | None:
    """RFC 3551 table 4, RFC 7587; names are compared without case (RFC 8866 section 6.6)."""
    folded = name.lower()
    for signal in (CN, TELEPHONE_EVENT):
        if folded == signal.lower():
            clock = clock_hz or 8_000
            known = clock in _SIGNAL_CLOCKS_HZ
            return PayloadFormat(signal, clock, None, clock) if known else None
    codec = _CODECS.get(folded)
    if codec is None:
        return None
    clocks_hz = _CLOCKS_HZ.get(codec, (8_000,))
    clock = clock_hz or clocks_hz[0]
    # Opus is always announced with two channels, however many there are (RFC 7587 section 7).
    if clock not in clocks_hz or (channels or 1) > (2 if codec is Codec.OPUS else 1):
        return None
    rate_hz = clock if codec is Codec.L16 else default_rate_hz(codec)
    return PayloadFormat(codec.value, clock, codec, rate_hz)


_CLOCKS_HZ = {Codec.L16: L16_RATES_HZ, Codec.OPUS: (48_000,), Codec.G722: (8_000, 16_000)}
"""The usual one first; 16000 is what some announce for G.722, and then time by."""
_CODECS = {codec.value.lower(): codec for codec in Codec}

PCMU = PayloadFormat("PCMU", 8_000, Codec.PCMU, 8_000)
PCMA = PayloadFormat("PCMA", 8_000, Codec.PCMA, 8_000)
COMFORT_NOISE = PayloadFormat(CN, 8_000, None, 8_000)
DTMF = PayloadFormat(TELEPHONE_EVENT, 8_000, None, 8_000)

STATIC_FORMATS = {
    0: PCMU,
    3: PayloadFormat("GSM", 8_000, Codec.GSM, 8_000),
    8: PCMA,
    9: PayloadFormat("G722", 8_000, Codec.G722, 16_000),
    11: PayloadFormat("L16", 44_100, Codec.L16, 44_100),
    13: COMFORT_NOISE,
}
"""Payload types that need no ``a=rtpmap`` (RFC 3551 table 4), as far as we can decode them."""
