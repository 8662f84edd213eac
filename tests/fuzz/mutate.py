"""Damage to bytes, as fuzzers do it: deterministic by its generator."""

from __future__ import annotations

import random
from collections.abc import Sequence

MAX_BYTES = 8_192
"""Of an input: an input must cost milliseconds."""
_ODD = (0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x0D, 0x20, 0x2D, 0x3A, 0x3C)


def mutate(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """One to eight changes: bits, numbers, cuts, copies, and pieces of other inputs."""
    out = bytearray(data[:MAX_BYTES])
    for _ in range(chance.randint(1, 8)):
        _change(out, others, chance)
        del out[MAX_BYTES:]
    return bytes(out)


def _change(out: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    if not out:
        out += chance.randbytes(chance.randint(1, 16))
        return
    at = chance.randrange(len(out))
    stop = min(len(out), at + chance.randint(1, 32))
    match chance.randrange(8):
        case 0:
            out[at] ^= 1 << chance.randrange(8)
        case 1:
            out[at] = chance.choice(_ODD)
        case 2:
            out[at : at + 2] = chance.randbytes(2)
        case 3:
            del out[at:stop]
        case 4:
            out[at:at] = out[at:stop] * chance.randint(1, 4)
        case 5:
            del out[at:]
        case 6:
            out[at:at] = chance.randbytes(chance.randint(1, 8))
        case _:
            other = chance.choice(others) if others else bytes(out)
            start = chance.randrange(len(other) + 1)
            out[at:stop] = other[start : start + chance.randint(1, 200)]
