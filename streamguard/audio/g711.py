"""G.711 by table: one look-up per sample, both laws, both directions (ITU-T G.711, G.191)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Int16Array = npt.NDArray[np.int16]

_BIAS = 0x84
"""Added before the mu-law logarithm, so that every segment starts at a power of two."""
_ULAW_CLIP = 32_635
"""The largest magnitude whose biased value still has a segment."""


def decode_ulaw(data: bytes) -> Int16Array:
    """PCMU bytes to int16 samples (full scale 32,124)."""
    return _ULAW_DECODE[np.frombuffer(data, dtype=np.uint8)]


def decode_alaw(data: bytes) -> Int16Array:
    """PCMA bytes to int16 samples (full scale 32,256)."""
    return _ALAW_DECODE[np.frombuffer(data, dtype=np.uint8)]


def encode_ulaw(samples: Int16Array) -> bytes:
    """int16 samples to PCMU bytes."""
    return _ULAW_ENCODE[np.ascontiguousarray(samples, dtype=np.int16).view(np.uint16)].tobytes()


def encode_alaw(samples: Int16Array) -> bytes:
    """int16 samples to PCMA bytes."""
    return _ALAW_ENCODE[np.ascontiguousarray(samples, dtype=np.int16).view(np.uint16)].tobytes()


def _ulaw_decode_table() -> Int16Array:
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + _BIAS) << ((code >> 4) & 7)) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_decode_table() -> Int16Array:
    code = np.arange(256) ^ 0x55
    exponent = (code >> 4) & 7
    mantissa = (code & 0x0F) << 4
    magnitude = np.where(
        exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0)
    )
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _every_sample() -> npt.NDArray[np.int64]:
    """Every int16 value, at the index that its bits have as uint16."""
    return np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int64)


def _ulaw_encode_table() -> npt.NDArray[np.uint8]:
    samples = _every_sample()
    magnitude = np.minimum(np.abs(samples), _ULAW_CLIP) + _BIAS
    exponent = np.log2(magnitude).astype(np.int64) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    code = np.where(samples < 0, 0x80, 0) | (exponent << 4) | mantissa
    table: npt.NDArray[np.uint8] = (~code & 0xFF).astype(np.uint8)
    return table


def _alaw_encode_table() -> npt.NDArray[np.uint8]:
    samples = _every_sample()
    magnitude = np.where(samples < 0, ~samples, samples) >> 4
    exponent = np.maximum(np.log2(np.maximum(magnitude, 1)).astype(np.int64) - 3, 0)
    mantissa = (magnitude >> np.maximum(exponent - 1, 0)) & 0x0F
    code = np.where(samples >= 0, 0x80, 0) | (exponent << 4) | mantissa
    table: npt.NDArray[np.uint8] = (code ^ 0x55).astype(np.uint8)
    return table


_ULAW_DECODE = _ulaw_decode_table()
_ALAW_DECODE = _alaw_decode_table()
_ULAW_ENCODE = _ulaw_encode_table()
_ALAW_ENCODE = _alaw_encode_table()
