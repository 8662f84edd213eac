"""One model as the scorer sees it: hops in, parts out, windows scored from the parts of six."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from streamguard.errors import BundleError
from streamguard.inference.bundle import Bundle
from streamguard.inference.engine import Engine

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]
    Row = dict[str, Array]
    """Tensors of one hop or one window, without the batch axis."""


@dataclass(frozen=True, slots=True, eq=False)
class HopOutput:
    """What one hop adds to its windows, and the state that the next hop starts from."""

    parts: Row
    state: Row
    finite: bool
    """Whether the graph gave numbers; if not, neither parts nor state may be used."""


class Network:
    """A bundle on an engine: gathers rows into batches and takes results apart again. Stateless.

    ``unit: hop``: the parts of a hop are its sums; a window is the head on the sum of six.
    ``unit: window``: the parts of a hop are its samples; a window is the graph on six of them in
    a row, those of hops that are no evidence included, with zeros behind a leg that ended before
    its sixth. ``normalisation: window_peak`` divides what was heard, which the live front end has
    levelled already, by its peak (LAVA, section 3.1).
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        manifest = bundle.manifest
        if manifest.normalisation == "none":
            raise BundleError(
                str(bundle.folder), "normalisation: none: live audio is always level-normalised"
            )
        choice = bundle.choose(engine.info.requested_precision)
        self.bundle = bundle
        self.engine = engine
        self.whole_window = choice.head is None
        """Whether a window needs all of its hops, usable or not."""
        self._body = choice.body
        self._head = choice.head or choice.body
        self._window_peak = manifest.normalisation == "window_peak"
        graph = manifest.graphs[choice.body]
        self.left_context = graph.left_context
        """Samples before a hop that the graph reads."""
        self.has_state = bool(graph.state)
        self._state = graph.state
        self._sums = tuple(tensor.name for tensor in graph.sums)

    @property
    def precision(self) -> str:
        """The precision that calibrations are looked up by."""
        return self.engine.info.precision

    def fresh_state(self) -> Row:
        """The state at the start of a segment."""
        return {state.source: np.zeros(state.shape, np.float32) for state in self._state}

    def hops(self, samples: Sequence[Array], states: Sequence[Row]) -> list[HopOutput]:
        """Run hops of different legs (or of any, without state) in one call.

        ``samples``: each ``[left_context + 8000]``; ``states``: one for each.
        """
        if not samples:
            return []
        if self.whole_window:
            return [HopOutput({"samples": x}, {}, bool(np.isfinite(x).all())) for x in samples]
        inputs = {"samples": np.stack(samples)}
        for state in self._state:
            inputs[state.source] = np.stack([row[state.source] for row in states])
        out = self.engine.run(self._body, inputs)
        finite = np.ones(len(samples), dtype=np.bool_)
        for x in out.values():
            finite &= np.isfinite(x.reshape(len(x), -1)).all(axis=1)
        # A row is copied: a view would keep the batch alive as long as one window needs it.
        return [
            HopOutput(
                parts={name: out[name][i].copy() for name in self._sums},
                state={state.source: out[state.target][i].copy() for state in self._state},
                finite=is_finite,
            )
            for i, is_finite in enumerate(finite.tolist())
        ]

    def windows(self, windows: Sequence[Sequence[Row]]) -> list[Row]:
        """Score windows, each given by the parts of its hops, in one call."""
        if not windows:
            return []
        rows = [self._whole(parts) if self.whole_window else _total(parts) for parts in windows]
        out = self.engine.run(
            self._head, {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        )
        return [{name: x[i] for name, x in out.items()} for i in range(len(windows))]

    def _whole(self, parts: Sequence[Row]) -> Row:
        heard = np.concatenate([part["samples"] for part in parts])
        samples = np.zeros(WINDOW_HOPS * HOP_SAMPLES, np.float32)
        samples[: len(heard)] = heard
        peak = np.abs(samples).max()
        if self._window_peak and peak > 0:
            samples /= peak
        return {"samples": samples}

    def warm_up(self) -> None:
        self.engine.warm_up()

    def close(self) -> None:
        self.engine.close()


def _total(parts: Sequence[Row]) -> Row:
    """Sums of sums, in float64: six additions must not depend on their order."""
    total: Row = {}
    for name, first in parts[0].items():
        sum_ = first.astype(np.float64)
        for part in parts[1:]:
            sum_ += part[name]
        total[name] = sum_.astype(np.float32)
    return total
