"""G.711 against tables that ffmpeg made, and against itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamguard.audio import g711

if TYPE_CHECKING:
    import numpy.typing as npt

ALL_CODES = bytes(range(256))

# ffmpeg -f mulaw|alaw -ar 8000 -ac 1 -i codes.bin -f s16le, with codes.bin = bytes 0 to 255
ULAW_FROM_0 = (-32124, -31100, -30076, -29052, -28028, -27004, -25980, -24956, -23932, -22908)
ULAW_FROM_124 = (-24, -16, -8, 0, 32124, 31100, 30076, 29052)
ULAW_FROM_250 = (40, 32, 24, 16, 8, 0)
ALAW_FROM_0 = (-5504, -5248, -6016, -5760, -4480, -4224, -4992, -4736, -7552, -7296, -8064, -7808)
ALAW_FROM_124 = (-816, -784, -880, -848, 5504, 5248, 6016, 5760)
ALAW_FROM_250 = (1008, 976, 816, 784, 880, 848)

Decode = Callable[[bytes], "npt.NDArray[np.int16]"]
Encode = Callable[["npt.NDArray[np.int16]"], bytes]


@pytest.mark.parametrize(
    ("decode", "known"),
    [
        (g711.decode_ulaw, {0: ULAW_FROM_0, 124: ULAW_FROM_124, 250: ULAW_FROM_250}),
        (g711.decode_alaw, {0: ALAW_FROM_0, 124: ALAW_FROM_124, 250: ALAW_FROM_250}),
    ],
)
def test_codes_decode_to_the_samples_that_ffmpeg_says(
    decode: Decode, known: dict[int, tuple[int, ...]]
) -> None:
    samples = decode(ALL_CODES)
    assert samples.dtype == np.int16
    for first, expected in known.items():
        assert tuple(samples[first : first + len(expected)].tolist()) == expected


@pytest.mark.parametrize(
    ("decode", "encode"),
    [(g711.decode_ulaw, g711.encode_ulaw), (g711.decode_alaw, g711.encode_alaw)],
)
def test_every_decoded_sample_survives_a_second_coding(decode: Decode, encode: Encode) -> None:
    samples = decode(ALL_CODES)
    assert np.array_equal(decode(encode(samples)), samples)


@pytest.mark.parametrize(
    ("decode", "encode"),
    [(g711.decode_ulaw, g711.encode_ulaw), (g711.decode_alaw, g711.encode_alaw)],
)
def test_coding_is_within_half_a_step_of_the_largest_segment(
    decode: Decode, encode: Encode
) -> None:
    samples = np.arange(-32_768, 32_768, dtype=np.int32).astype(np.int16)
    error = np.abs(decode(encode(samples)).astype(np.int32) - samples)
    quiet = np.abs(samples.astype(np.int32)) < 64
    assert error.max() <= 644  # -32768 against the largest mu-law magnitude of 32124
    assert error[quiet].max() <= 8


def test_only_the_negative_zero_of_mu_law_changes_its_code() -> None:
    again = g711.encode_ulaw(g711.decode_ulaw(ALL_CODES))
    assert [code for code in range(256) if again[code] != code] == [0x7F]
    assert again[0x7F] == 0xFF
    assert g711.encode_alaw(g711.decode_alaw(ALL_CODES)) == ALL_CODES


def test_every_other_sample_of_an_array_can_be_encoded() -> None:
    samples = np.array([0, 9, 1000, 9, -1000, 9], dtype=np.int16)
    assert g711.encode_ulaw(samples[::2]) == g711.encode_ulaw(samples[::2].copy())
