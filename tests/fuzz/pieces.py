"""Several messages in one input of a fuzzer: length (16 bits, big endian), then so many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_PIECES = 400
"""Of one input: an input must cost milliseconds."""


def join(pieces: Iterable[bytes]) -> bytes:
    return b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)


def split(data: bytes) -> Iterator[bytes]:
    """Whatever the lengths say; the last piece may be cut short."""
    at = 0
    for _ in range(MAX_PIECES):
        if at + 2 > len(data):
            return
        size = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + size]
        at += 2 + size
