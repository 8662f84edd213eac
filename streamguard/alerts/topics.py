"""Topics. Names that end up in one are cleaned here, whoever chose them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

_LEVEL_CHARS_MAX = 64
_STRIPPED = frozenset("+#/")
# Control, format, surrogate, private use, unassigned, line and paragraph separators. MQTT 1.5.4
# forbids some of them; none belongs in a broker's log or an access list.
_STRIPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean_level(name: str) -> str:
    """One topic level from a name: without ``+ # /`` and control characters, never empty."""
    kept = "".join(
        c
        for c in name
        if c not in _STRIPPED and unicodedata.category(c) not in _STRIPPED_CATEGORIES
    )
    return kept[:_LEVEL_CHARS_MAX].strip() or "_"


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one node; public, see tests/contract."""

    prefix: str
    node: str
    base: str = field(init=False)

    def __post_init__(self) -> None:
        levels = [clean_level(level) for level in self.prefix.split("/") if level]
        # A first level with $ belongs to the broker ($SYS, $share).
        root = "/".join(levels).lstrip("$") or "streamguard"
        object.__setattr__(self, "base", f"{root}/{clean_level(self.node)}")

    @property
    def availability(self) -> str:
        return f"{self.base}/availability"

    @property
    def status(self) -> str:
        return f"{self.base}/status"

    @property
    def stats(self) -> str:
        return f"{self.base}/stats"

    def source_state(self, source: str) -> str:
        return f"{self.base}/source/{clean_level(source)}/state"

    def source_verdict(self, source: str) -> str:
        return f"{self.base}/source/{clean_level(source)}/verdict"

    def alert(self, source: str) -> str:
        return f"{self.base}/source/{clean_level(source)}/alert"

    @property
    def acknowledge(self) -> str:
        return f"{self.base}/cmd/ack"

    @property
    def suppress(self) -> str:
        return f"{self.base}/cmd/suppress"

    @property
    def drain(self) -> str:
        return f"{self.base}/cmd/drain"

    @property
    def result(self) -> str:
        return f"{self.base}/cmd/result"
