"""What networks do to packets on their way: lose, delay, reorder and repeat them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tools.impairment.stream import PACKET_S, Sent


def lost(stream: Sequence[Sent], random: np.random.Generator, share: float) -> list[Sent]:
    """Each packet by itself, with this probability."""
    kept = random.uniform(size=len(stream)) >= share
    return [one for one, keep in zip(stream, kept, strict=True) if keep]


def lost_in_bursts(
    stream: Sequence[Sent], random: np.random.Generator, share: float, burst: float
) -> list[Sent]:
    """Two states, of which one loses everything (Gilbert 1960, Elliott 1963).

    ``share`` is the loss in the long run, ``burst`` the mean number of packets lost in a row.
    """
    leave = 1 / burst
    enter = leave * share / (1 - share)
    out: list[Sent] = []
    bad = False
    for one, chance in zip(stream, random.uniform(size=len(stream)), strict=True):
        bad = chance >= leave if bad else chance < enter
        if not bad:
            out.append(one)
    return out


def reordered(
    stream: Sequence[Sent], random: np.random.Generator, share: float, packets: int = 2
) -> list[Sent]:
    """Some packets take so much longer that the next ``packets`` overtake them."""
    slow = random.uniform(size=len(stream)) < share
    delay_s = (packets + 0.5) * PACKET_S
    return _arriving(
        Sent(one.at_s + (delay_s if late else 0.0), one.packet)
        for one, late in zip(stream, slow, strict=True)
    )


def repeated(stream: Sequence[Sent], random: np.random.Generator, share: float) -> list[Sent]:
    """Some packets come again, up to 40 ms later."""
    again = random.uniform(size=len(stream)) < share
    delays = random.uniform(0.001, 0.04, size=len(stream))
    copies = [
        Sent(one.at_s + float(delay_s), one.packet)
        for one, twice, delay_s in zip(stream, again, delays, strict=True)
        if twice
    ]
    return _arriving([*stream, *copies])


def jittered(stream: Sequence[Sent], random: np.random.Generator, mean_s: float) -> list[Sent]:
    """Each packet is delayed by itself, exponentially; some overtake others."""
    delays = random.exponential(mean_s, size=len(stream))
    return _arriving(
        Sent(one.at_s + float(delay_s), one.packet)
        for one, delay_s in zip(stream, delays, strict=True)
    )


def _arriving(stream: Iterable[Sent]) -> list[Sent]:
    """In the order of arrival; of two at once, the one that was sent first."""
    return sorted(stream, key=lambda one: one.at_s)
