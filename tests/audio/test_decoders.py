"""Payload bytes to samples: against encoders that we did not write, and against rubbish."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamguard.audio.decoders import Codec, check_extra, default_rate_hz, make_decoder
from streamguard.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from streamguard.errors import MissingExtraError

Encode = Callable[[npt.NDArray[np.int16]], bytes]
Decode = Callable[[bytes], npt.NDArray[np.int16]]

needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None, reason="needs the extra 'codecs'"
)
WITH_FFMPEG = [codec for codec in Codec if codec.needs_extra]


def chirp(rate_hz: int, seconds: float = 1.0) -> npt.NDArray[np.int16]:
    """Every stretch sounds different; within the telephone band."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 8_000 * np.sin(2 * np.pi * (300 * time_s + 600 * time_s**2))
    return wave.astype(np.int16)


def encoded_by_ffmpeg(
    name: str, samples: npt.NDArray[np.int16], rate_hz: int, packet_ms: int = 20
) -> list[bytes]:
    import av

    frame = rate_hz * packet_ms // 1000

    context = av.CodecContext.create(name, "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate, context.layout, context.format = rate_hz, "mono", "s16"
    context.time_base = Fraction(1, rate_hz)
    if name == "libopus":
        context.options = {"frame_duration": str(packet_ms)}
    packets = []
    for at in range(0, len(samples), frame):
        block = av.AudioFrame.from_ndarray(samples[None, at : at + frame], "s16", "mono")
        block.sample_rate, block.pts = rate_hz, at
        packets += context.encode(block)
    return [bytes(packet) for packet in [*packets, *context.encode(None)]]


def likeness(
    heard: npt.NDArray[np.int16], said: npt.NDArray[np.int16], longest_delay: int
) -> tuple[float, int]:
    """The best correlation of the two over all delays, and that delay in samples."""
    count = len(said) - longest_delay
    reference = said[:count].astype(float)

    def at(delay: int) -> float:
        return float(np.corrcoef(heard[delay : delay + count].astype(float), reference)[0, 1])

    return max((at(delay), delay) for delay in range(longest_delay))


@pytest.mark.parametrize(
    ("codec", "encode", "decode"),
    [(Codec.PCMU, encode_ulaw, decode_ulaw), (Codec.PCMA, encode_alaw, decode_alaw)],
)
def test_g711_is_decoded_by_its_table(codec: Codec, encode: Encode, decode: Decode) -> None:
    payload = encode(chirp(8_000))
    decoder = make_decoder(codec)
    assert decoder.rate_hz == 8_000
    np.testing.assert_array_equal(decoder.decode(payload), decode(payload))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_l16_is_big_endian_in_rtp_and_little_endian_elsewhere(rate_hz: int) -> None:
    said = chirp(rate_hz, 0.02)
    big, little = (
        make_decoder(Codec.L16, rate_hz),
        make_decoder(Codec.L16, rate_hz, byteorder="little"),
    )
    assert big.rate_hz == little.rate_hz == rate_hz
    np.testing.assert_array_equal(big.decode(said.astype(">i2").tobytes()), said)
    np.testing.assert_array_equal(little.decode(said.astype("<i2").tobytes()), said)


def test_half_a_sample_of_l16_is_no_audio() -> None:
    assert len(make_decoder(Codec.L16).decode(b"abc")) == 0


@needs_av
def test_g722_gives_two_samples_of_16_khz_per_byte() -> None:
    said = chirp(16_000)
    payloads = encoded_by_ffmpeg("g722", said, 16_000)
    decoder = make_decoder(Codec.G722)
    heard = [decoder.decode(payload) for payload in payloads]
    assert decoder.rate_hz == 16_000
    assert {(len(payload), len(part)) for payload, part in zip(payloads, heard, strict=True)} == {
        (160, 320)
    }
    match, delay = likeness(np.concatenate(heard), said, 64)
    assert match > 0.99
    assert delay == 22  # of the two filters (ITU-T G.722)


@needs_av
@pytest.mark.parametrize("packet_ms", [10, 20, 40, 60])
def test_opus_gives_48_khz_whatever_its_packets_hold(packet_ms: int) -> None:
    said = chirp(48_000, 0.96)
    payloads = encoded_by_ffmpeg("libopus", said, 48_000, packet_ms)
    decoder = make_decoder(Codec.OPUS)
    heard = [decoder.decode(payload) for payload in payloads]
    assert decoder.rate_hz == 48_000
    assert {len(part) for part in heard} == {48 * packet_ms}
    match, delay = likeness(np.concatenate(heard), said, 480)
    assert match > 0.98
    assert delay == 312  # 6.5 ms: the look-ahead of libopus


@needs_av
def test_gsm_has_20_ms_in_33_bytes_and_several_frames_fit_a_packet() -> None:
    # The frame that the world sends as silence (as in Asterisk): no pulses, smallest gains.
    silence = bytes.fromhex("d820a2e15a" + 4 * "50004924924924")
    decoder = make_decoder(Codec.GSM)
    assert decoder.rate_hz == 8_000
    samples = decoder.decode(3 * silence)
    assert len(samples) == 480
    assert int(np.abs(samples).max()) <= 16
    assert len(decoder.decode(silence[:-1])) == 0


@needs_av
@pytest.mark.parametrize("codec", WITH_FFMPEG)
@given(payloads=st.lists(st.binary(max_size=90), min_size=1, max_size=4))
def test_any_bytes_give_samples_or_none_and_never_an_exception(
    codec: Codec, payloads: list[bytes]
) -> None:
    decoder = make_decoder(codec)
    for payload in payloads:
        samples = decoder.decode(payload)
        assert samples.dtype == np.int16
        assert samples.ndim == 1
        assert not samples.flags.writeable
        assert len(samples) <= 48 * 120 + 2 * len(payload)


@needs_av
def test_a_decoder_goes_on_after_rubbish() -> None:
    said = chirp(48_000, 0.1)
    payloads = encoded_by_ffmpeg("libopus", said, 48_000)
    decoder = make_decoder(Codec.OPUS)
    assert len(decoder.decode(b"")) == 0
    assert len(decoder.decode(b"\xff" * 300)) == 0
    assert [len(decoder.decode(payload)) for payload in payloads[:3]] == [960, 960, 960]


@pytest.mark.parametrize("codec", [c for c in Codec if c is not Codec.L16])
def test_a_rate_that_a_codec_does_not_have_is_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="no samples at 12345 Hz"):
        make_decoder(codec, 12_345)


@pytest.mark.parametrize("codec", WITH_FFMPEG)
def test_without_the_extra_the_refusal_names_it(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"streamguard\[codecs\]"):
        check_extra(codec)
    check_extra(Codec.PCMU)


def test_every_codec_has_a_usual_rate() -> None:
    assert [default_rate_hz(codec) for codec in (Codec.PCMU, Codec.G722, Codec.OPUS)] == [
        8_000,
        16_000,
        48_000,
    ]
