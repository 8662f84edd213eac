"""Speex through libspeex itself: PyAV's build cannot encode it, and ffmpeg takes 30 ms to start."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from typing import TYPE_CHECKING

import numpy as np

from streamguard.errors import StreamguardError

if TYPE_CHECKING:
    import numpy.typing as npt

_SET_QUALITY, _SET_COMPLEXITY, _GET_LOOKAHEAD = 4, 16, 39
_MODES = {8000: 0, 16000: 1}


class SpeexMissingError(StreamguardError):
    """libspeex is not installed."""

    def __init__(self) -> None:
        super().__init__("codec speex: libspeex.so.1 is not installed (Debian: libspeex1)")


class _Bits(ctypes.Structure):
    """``SpeexBits`` of ``speex/speex_bits.h``."""

    _fields_ = (
        ("chars", ctypes.c_char_p),
        ("bits", ctypes.c_int),
        ("char_place", ctypes.c_int),
        ("bit_place", ctypes.c_int),
        ("owner", ctypes.c_int),
        ("overflow", ctypes.c_int),
        ("size", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("reserved_pointer", ctypes.c_void_p),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("speex")
    if name is None:
        raise SpeexMissingError
    library = ctypes.CDLL(name)
    for function in ("speex_lib_get_mode", "speex_encoder_init", "speex_decoder_init"):
        getattr(library, function).restype = ctypes.c_void_p
    return library


def speex_installed() -> bool:
    """Whether ``speex_round_trip`` can work here."""
    return ctypes.util.find_library("speex") is not None


def speex_round_trip(
    samples: npt.NDArray[np.int16], rate_hz: int, quality: int
) -> npt.NDArray[np.int16]:
    """As many samples as came in, in step with them; quality 0 (worst) to 10.

    ``rate_hz`` is 8000 or 16000. Raises SpeexMissingError.
    """
    library = _library()
    mode = ctypes.c_void_p(library.speex_lib_get_mode(_MODES[rate_hz]))
    encoder = ctypes.c_void_p(library.speex_encoder_init(mode))
    decoder = ctypes.c_void_p(library.speex_decoder_init(mode))
    bits = _Bits()
    library.speex_bits_init(ctypes.byref(bits))
    try:
        delay = 0
        for call, state in (
            (library.speex_encoder_ctl, encoder),
            (library.speex_decoder_ctl, decoder),
        ):
            lookahead = ctypes.c_int(0)
            call(state, _GET_LOOKAHEAD, ctypes.byref(lookahead))
            delay += lookahead.value
        library.speex_encoder_ctl(encoder, _SET_QUALITY, ctypes.byref(ctypes.c_int(quality)))
        library.speex_encoder_ctl(encoder, _SET_COMPLEXITY, ctypes.byref(ctypes.c_int(2)))
        frame = rate_hz // 50
        frames = -(-(len(samples) + delay) // frame)
        # The encoder filters its input in place.
        given = np.zeros(frames * frame, np.int16)
        given[: len(samples)] = samples
        heard = np.empty_like(given)
        for begin in range(0, len(given), frame):
            library.speex_bits_reset(ctypes.byref(bits))
            library.speex_encode_int(encoder, _address(given, begin), ctypes.byref(bits))
            library.speex_bits_rewind(ctypes.byref(bits))
            library.speex_decode_int(decoder, ctypes.byref(bits), _address(heard, begin))
    finally:
        library.speex_bits_destroy(ctypes.byref(bits))
        library.speex_encoder_destroy(encoder)
        library.speex_decoder_destroy(decoder)
    return heard[delay : delay + len(samples)]


def _address(samples: npt.NDArray[np.int16], begin: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(samples.ctypes.data + 2 * begin)
