"""The second network: runs on windows that lean to spoof, at a capped rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.clock import WINDOW_HOPS
from streamguard.errors import BundleError
from streamguard.inference.leg import LegState, Slot
from streamguard.inference.network import Network
from streamguard.verdict.labels import GENERATOR_OOD_ALPHA, LabelRules, label_window
from streamguard.verdict.rejection import OOD_ALPHA
from streamguard.verdict.scores import Attribution, Channel, WindowScore

if TYPE_CHECKING:
    from streamguard.inference.network import Row


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """A window that waits for the hops that the network has not run on."""

    leg: LegState
    segment: int
    index: int
    channel: Channel
    needed: tuple[tuple[int, int], ...]
    """(segment, hop)."""


@dataclass(frozen=True, slots=True)
class Attributed:
    """The attribution of one window, known now."""

    leg: str
    segment: int
    index: int
    """Of the window's last hop."""
    attribution: Attribution


class Attributor:
    """At most one window per leg waits: the newest one.

    ``counts``: ``attributed``, ``superseded`` (a newer window took its place), ``shed`` (load),
    ``lost`` (its audio was overwritten, the network gave no numbers, or its leg was forgotten).
    """

    def __init__(self, network: Network, counts: Counter[str] | None = None) -> None:
        manifest = network.bundle.manifest
        folder = str(network.bundle.folder)
        if manifest.task != "attribution":
            raise BundleError(folder, f"task: {manifest.task}: attribution is needed here")
        if network.has_state:
            raise BundleError(folder, "state: attribution skips hops, so it can't carry state")
        thresholds = manifest.thresholds
        self._network = network
        self._rules = LabelRules(
            technologies=manifest.labels.technology,
            generators=tuple(g.name for g in manifest.labels.generator),
            technology_of=tuple(g.technology for g in manifest.labels.generator),
            technology_floor=thresholds.technology or 0.0,
            generator_floor=thresholds.generator or 0.0,
            ood_alpha=thresholds.ood or OOD_ALPHA,
            generator_ood_alpha=thresholds.generator_ood or GENERATOR_OOD_ALPHA,
        )
        self._pending: dict[str, _Pending] = {}
        self._parts: dict[str, dict[tuple[int, int], Row]] = {}
        """What the network gave for recent hops, by leg, then segment and hop."""
        self.counts: Counter[str] = Counter() if counts is None else counts

    def waits(self, legs: Iterable[str]) -> bool:
        """Whether a window of one of these legs is in line."""
        return not self._pending.keys().isdisjoint(legs)

    def ask(self, leg: LegState, score: WindowScore, window: Sequence[Slot]) -> None:
        """Put an accepted window in line, in the place of an older one of its leg."""
        whole = self._network.whole_window
        if leg.name in self._pending:
            self.counts["superseded"] += 1
        needed = tuple((score.segment, slot.index) for slot in window if slot.usable or whole)
        self._pending[leg.name] = _Pending(leg, score.segment, score.index, score.channel, needed)
        parts = self._parts.setdefault(leg.name, {})
        for segment, index in list(parts):
            if segment != score.segment or index <= score.index - WINDOW_HOPS:
                del parts[segment, index]

    def shed(self, windows: int = 0) -> None:
        """Give up what waits, and ``windows`` that did not get in line."""
        self.counts["shed"] += len(self._pending) + windows
        self._pending.clear()

    def forget(self, leg: str) -> None:
        if (pending := self._pending.get(leg)) is not None:
            self._lose(pending)
        self._parts.pop(leg, None)

    def run(self, max_hops: Mapping[str, int]) -> list[Attributed]:
        """Run on at most ``max_hops`` missing hops of each leg; return the windows complete now.

        The bound is per leg so that what is said of one does not depend on the others, and the
        newest hops go first so that with any bound later windows find them done.
        """
        self._run_hops(max_hops)
        complete = [
            pending
            for pending in self._pending.values()
            if self._parts[pending.leg.name].keys() >= set(pending.needed)
        ]
        rows = self._network.windows(
            [[self._parts[p.leg.name][hop] for hop in p.needed] for p in complete]
        )
        done = []
        for pending, row in zip(complete, rows, strict=True):
            del self._pending[pending.leg.name]
            technology, generator = row["technology_logits"], row["generator_logits"]
            if not (np.isfinite(technology).all() and np.isfinite(generator).all()):
                self.counts["lost"] += 1
                continue
            calibration = self._network.bundle.calibration(self._network.precision, pending.channel)
            ood = float(row["ood"][0]) if "ood" in row else None
            labels = label_window(technology, generator, self._rules, calibration, ood)
            self.counts["attributed"] += 1
            done.append(Attributed(pending.leg.name, pending.segment, pending.index, labels))
        return done

    def _run_hops(self, max_hops: Mapping[str, int]) -> None:
        jobs: list[tuple[_Pending, tuple[int, int]]] = []
        samples = []
        for pending in list(self._pending.values()):
            have = self._parts[pending.leg.name]
            missing = [hop for hop in reversed(pending.needed) if hop not in have]
            for hop in missing[: max_hops.get(pending.leg.name, 0)]:
                audio = None
                if pending.segment == pending.leg.segment:
                    audio = pending.leg.front_end.replay(hop[1], self._network.left_context)
                if audio is None:
                    self._lose(pending)
                    break
                jobs.append((pending, hop))
                samples.append(audio)
        for (pending, hop), out in zip(
            jobs, self._network.hops(samples, [{}] * len(samples)), strict=True
        ):
            if out.finite:
                self._parts[pending.leg.name][hop] = out.parts
            else:
                self._lose(pending)

    def _lose(self, pending: _Pending) -> None:
        if self._pending.pop(pending.leg.name, None) is not None:
            self.counts["lost"] += 1
