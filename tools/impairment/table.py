"""Does the daemon say of an impaired call what it says of the clean one?"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamguard.analysis import Analyst
from streamguard.clock import VirtualClock
from streamguard.protocols.rtp_stream import Reception
from streamguard.verdict.scores import State
from tools.impairment.catalogue import CLEAN, IMPAIRMENTS, Arrivals, Impairment
from tools.impairment.play import ImpairedSource
from tools.impairment.stream import clean_stream
from tools.impairment.voices import Voice


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one call."""

    arrivals: Arrivals
    reception: Reception
    state: State
    llrs: dict[float, float]
    """Of the windows that did not abstain, by the second that they end at."""


@dataclass(frozen=True, slots=True)
class Row:
    """All calls under one impairment, against the same calls without it."""

    name: str
    text: str
    calls: int
    sent: int
    injected: int
    """Packets that never arrived."""
    counted: int
    """Those that our receiver missed in the end."""
    late: int
    """Those that came too late for it."""
    agreed: int
    """Calls that end in the state in which they end when they are clean."""
    turned: int
    """Calls that end as BONAFIDE where the clean one is SPOOF or SUSPECT, or vice versa."""
    states: dict[str, int]
    """Calls by the state that they end in."""
    difference: float | None
    """Mean distance of the LLRs of windows that spoke in both; None where there are none."""
    coverage: float
    """Windows that spoke, against those of the clean calls."""


async def listen(analyst: Analyst, voice: Voice, impairment: Impairment, seed: int) -> Heard:
    """Play one call to the daemon's own receiver, networks and voter."""
    # By the call alone: the impairments are of one and the same stream.
    stream = clean_stream(
        voice.samples, np.random.default_rng([seed, zlib.crc32(voice.name.encode())])
    )
    chance = np.random.default_rng(
        [seed, zlib.crc32(voice.name.encode()), zlib.crc32(impairment.name.encode())]
    )
    arrivals = impairment.apply(stream, chance)
    clock = VirtualClock()
    source = ImpairedSource(arrivals, clock)
    (leg,) = (await analyst.listen(voice.name, source, clock)).report.legs
    return Heard(
        arrivals,
        source.reception,
        leg.verdict.state,
        {
            round(window.end_s, 3): window.llr
            for window in leg.windows
            if window.rejected is None and window.llr is not None
        },
    )


async def rows(
    analyst: Analyst,
    voices: Sequence[Voice],
    seed: int,
    impairments: Iterable[Impairment] = IMPAIRMENTS,
    heard: Callable[[], object] = lambda: None,
) -> list[Row]:
    """The clean calls first, then each impairment; ``heard`` is called after every call."""
    clean: list[Heard] = []
    out: list[Row] = []
    for impairment in (CLEAN, *impairments):
        calls = []
        for voice in voices:
            calls.append(await listen(analyst, voice, impairment, seed))
            heard()
        clean = clean or calls
        out.append(compare(impairment, clean, calls))
    return out


def compare(impairment: Impairment, clean: Sequence[Heard], impaired: Sequence[Heard]) -> Row:
    pairs = list(zip(clean, impaired, strict=True))
    differences = [
        abs(before.llrs[end_s] - now.llrs[end_s])
        for before, now in pairs
        for end_s in before.llrs.keys() & now.llrs.keys()
    ]
    windows = sum(len(call.llrs) for call in clean)
    return Row(
        name=impairment.name,
        text=impairment.text,
        calls=len(impaired),
        sent=sum(call.arrivals.sent for call in impaired),
        injected=sum(call.arrivals.lost for call in impaired),
        counted=sum(call.reception.lost - call.reception.late for call in impaired),
        late=sum(call.reception.late for call in impaired),
        agreed=sum(before.state is now.state for before, now in pairs),
        turned=sum(_opposed(before.state, now.state) for before, now in pairs),
        states=dict(sorted(Counter(call.state.value for call in impaired).items())),
        difference=float(np.mean(differences)) if differences else None,
        coverage=sum(len(call.llrs) for call in impaired) / windows if windows else 0.0,
    )


def _opposed(before: State, now: State) -> bool:
    accused = (State.SPOOF, State.SUSPECT)
    return (before in accused and now is State.BONAFIDE) or (
        before is State.BONAFIDE and now in accused
    )


def as_markdown(found: Sequence[Row]) -> str:
    """One line per impairment."""
    lines = [
        "| impairment | what happens | packets lost: injected | counted by us | too late "
        "| state as when clean | turned round | mean \\|ΔLLR\\| | coverage |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found:
        difference = "-" if row.difference is None else f"{row.difference:.2f}"
        lines.append(
            f"| {row.name} | {row.text} | {row.injected} of {row.sent} | {row.counted} "
            f"| {row.late} | {row.agreed} of {row.calls} | {row.turned} | {difference} "
            f"| {row.coverage:.0%} |"
        )
    return "\n".join(lines)
