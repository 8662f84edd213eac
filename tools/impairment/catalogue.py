"""The impairments by name: what the table has, and what ``--impair`` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tools.impairment import network, stream
from tools.impairment.stream import Sent

_Change = Callable[[Sequence[Sent], np.random.Generator], list[Sent]]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came of a stream that was sent."""

    packets: tuple[Sent, ...]
    """In the order of arrival."""
    sent: int
    lost: int
    """Of those sent, never to arrive."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """What the sender does, then what the network does."""

    name: str
    text: str
    sender: _Change | None = None
    network: _Change | None = None

    def apply(self, clean: Sequence[Sent], random: np.random.Generator) -> Arrivals:
        """Deterministic by ``random``."""
        sent = list(clean) if self.sender is None else self.sender(clean, random)
        arrived = sent if self.network is None else self.network(sent, random)
        # A repeated packet is the same object.
        return Arrivals(
            tuple(arrived), len(sent), len(sent) - len({id(one.packet) for one in arrived})
        )


def _loss() -> list[Impairment]:
    return [
        Impairment(
            f"loss-{share}",
            f"{share} % of the packets lost at random",
            network=partial(network.lost, share=share / 100),
        )
        for share in (1, 3, 5, 10, 20)
    ]


def _bursts() -> list[Impairment]:
    return [
        Impairment(
            f"burst-{share}",
            f"{share} % lost in bursts of {burst} packets on average",
            network=partial(network.lost_in_bursts, share=share / 100, burst=burst),
        )
        for share, burst in ((1, 5), (5, 5), (10, 8), (20, 10))
    ]


CLEAN = Impairment("clean", "nothing")
IMPAIRMENTS = (
    *_loss(),
    *_bursts(),
    Impairment(
        "reorder-5",
        "5 % overtaken by the next two packets",
        network=partial(network.reordered, share=0.05),
    ),
    Impairment(
        "reorder-late",
        "5 % overtaken by the next six, too late to be played",
        network=partial(network.reordered, share=0.05, packets=6),
    ),
    Impairment("duplicate-10", "10 % come twice", network=partial(network.repeated, share=0.1)),
    Impairment(
        "jitter-10", "delays of 10 ms on average", network=partial(network.jittered, mean_s=0.01)
    ),
    Impairment(
        "jitter-30", "delays of 30 ms on average", network=partial(network.jittered, mean_s=0.03)
    ),
    Impairment("ssrc-flip", "another SSRC every 5 s", sender=stream.ssrc_flips),
    Impairment("wrap", "sequence and timestamp wrap after 2 s", sender=stream.wrapping),
    Impairment(
        "timestamp-jump", "timestamps jump by up to an hour every 5 s", stream.timestamp_jumps
    ),
    Impairment(
        "payload-type", "from PCMU to PCMA and back every 7 s", sender=stream.payload_type_switch
    ),
    Impairment(
        "comfort-noise", "pauses are not sent but announced (RFC 3389)", stream.comfort_noise
    ),
    Impairment(
        "telephone-event", "a digit of 200 ms every 4 s (RFC 4733)", stream.telephone_events
    ),
)
BY_NAME = {one.name: one for one in (CLEAN, *IMPAIRMENTS)}
