"""What the processor can multiply fast."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INT8_DOT = frozenset({"avx512_vnni", "avx_vnni", "asimddp", "i8mm"})
"""Instructions that add up four products of bytes at once, as Linux names them (x86, then Arm)."""
_LINES = ("flags", "Features")


def instructions(cpuinfo: str) -> frozenset[str]:
    """Of the first processor of the text of ``/proc/cpuinfo``; empty where it names none."""
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() in _LINES:
            return frozenset(value.split())
    return frozenset()


def multiplies_int8(names: frozenset[str]) -> bool:
    """Whether int8 graphs are faster than float32 here: without a dot product they hardly are."""
    return not INT8_DOT.isdisjoint(names)


def own_instructions() -> frozenset[str]:
    """Of this machine; empty where that cannot be known."""
    if platform.system() == "Darwin":
        # Every processor of Apple's own has the Arm dot product.
        return frozenset({"asimddp"}) if platform.machine() == "arm64" else frozenset()
    try:
        return instructions(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return frozenset()
