"""Bundles of unit window in the scorer: what their graph hears, when, and when it is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamguard.audio.frames import RawBlock
from streamguard.clock import HOP_SAMPLES, WINDOW_HOPS
from streamguard.inference.engine import EngineInfo
from streamguard.inference.network import Network
from streamguard.inference.scorer import Models, Scorer
from streamguard.verdict.scores import Label, Rejection
from tests.inference.makers import (
    NO_HASH,
    NumpyEngine,
    PlainFrontEnd,
    attribution_document,
    block,
    bundle_of,
    detection_document,
    dropped_block,
    judge,
)
from tests.inference.rig import Rig, scores

if TYPE_CHECKING:
    import numpy.typing as npt

    from streamguard.inference.engine import Tensors

LEVELS = [0.25, 0.3, 0.0, 0.35, 0.4, 0.45, 0.5]
"""With a pause in it."""


class WindowEngine:
    """A graph over whole windows in numpy, which remembers every row that it was given."""

    def __init__(self, task: str = "detection") -> None:
        self.info = EngineInfo("numpy", "numpy", "numpy", "fp32", "fp32", "numpy")
        self.task = task
        self.heard: list[npt.NDArray[np.float32]] = []

    def run(self, graph: str, inputs: Tensors) -> Tensors:
        assert graph == "window_fp32"
        x = inputs["samples"]
        assert x.shape[1:] == (WINDOW_HOPS * HOP_SAMPLES,), "shapes are fixed"
        self.heard += list(x)
        level = x.mean(axis=1, keepdims=True)
        if self.task == "detection":
            return {"logit": level, "embedding": level}
        zeros = np.zeros_like(level)
        return {
            "technology_logits": np.concatenate((20 * level, zeros), axis=1),
            "generator_logits": np.concatenate((20 * level, zeros, zeros), axis=1),
        }

    def warm_up(self) -> None: ...

    def close(self) -> None: ...


def over_windows(document: dict[str, Any], normalisation: str = "running_peak") -> dict[str, Any]:
    """The same bundle with one graph of unit window in the place of hop and head."""
    head = document["graphs"]["head_fp32"]
    samples = {
        "name": "samples",
        "dtype": "float32",
        "shape": ["batch", WINDOW_HOPS * HOP_SAMPLES],
    }
    graph = {
        "file": "window.onnx",
        "sha256": NO_HASH,
        "unit": "window",
        "inputs": [samples],
        "outputs": head["outputs"],
    }
    return document | {"normalisation": normalisation, "graphs": {"window_fp32": graph}}


def window_network(engine: WindowEngine, normalisation: str = "running_peak") -> Network:
    document = detection_document() if engine.task == "detection" else attribution_document()
    return Network(bundle_of(over_windows(document, normalisation)), engine)


def scorer(detector: Network, attribution: Network | None = None) -> Scorer:
    return Scorer(Models(detector, attribution), front_end=PlainFrontEnd, judge=judge)


def audio(blocks: list[RawBlock]) -> npt.NDArray[np.float32]:
    return np.concatenate([b.samples for b in blocks]).astype(np.float32) / np.float32(32768)


def test_each_window_is_its_last_three_seconds_pauses_included() -> None:
    engine = WindowEngine()
    blocks = [block("a", i, level=level) for i, level in enumerate(LEVELS)]
    made = scorer(window_network(engine))
    first, second = scores([r for b in blocks for r in made.process([b])])
    whole = audio(blocks)
    np.testing.assert_array_equal(engine.heard[0], whole[: 6 * HOP_SAMPLES])
    np.testing.assert_array_equal(engine.heard[1], whole[HOP_SAMPLES:])
    assert first.raw == pytest.approx(float(engine.heard[0].mean()))
    assert (first.usable_hops, first.new_hops, second.new_hops) == (5, 5, 1)


def test_windows_of_many_legs_go_to_the_graph_in_one_call_and_stay_apart() -> None:
    engine = WindowEngine()
    calls: list[int] = []
    network = window_network(engine)
    run = engine.run

    def counted(graph: str, inputs: Tensors) -> Tensors:
        calls.append(len(inputs["samples"]))
        return run(graph, inputs)

    engine.run = counted  # type: ignore[method-assign] # to count the rows of each call
    made = scorer(network)
    together = [
        r for i in range(6) for r in made.process([block(leg, i) for leg in ("a", "b", "c")])
    ]
    assert calls == [3]
    for leg in "abc":
        alone = scorer(window_network(WindowEngine()))
        (expected,) = scores([r for i in range(6) for r in alone.process([block(leg, i)])])
        (found,) = scores(together, leg)
        assert found.raw == pytest.approx(expected.raw)


def test_a_leg_that_ends_early_is_heard_with_zeros_behind_it() -> None:
    engine = WindowEngine()
    made = scorer(window_network(engine))
    blocks = [block("a", i) for i in range(4)]
    for b in blocks:
        made.process([b])
    (rest,) = scores(made.close_leg("a"))
    assert rest.rejected is None
    assert rest.raw is not None
    np.testing.assert_array_equal(engine.heard[0][: 4 * HOP_SAMPLES], audio(blocks))
    assert not engine.heard[0][4 * HOP_SAMPLES :].any()


def test_silence_costs_nothing() -> None:
    engine = WindowEngine()
    made = scorer(window_network(engine))
    (score,) = scores([r for i in range(6) for r in made.process([block("a", i, level=0.0)])])
    assert (score.rejected, score.raw, engine.heard) == (Rejection.SILENCE, None, [])


def test_a_dropped_hop_keeps_its_windows_from_the_graph() -> None:
    engine = WindowEngine()
    made = scorer(window_network(engine))
    blocks = [dropped_block("a", 0), *(block("a", i) for i in range(1, 7))]
    first, second = scores([r for b in blocks for r in made.process([b])])
    assert (first.rejected, first.raw) == (Rejection.OVERLOAD, None)
    assert (second.rejected, len(engine.heard)) == (None, 1)


def test_attribution_over_windows_hears_what_the_ring_holds() -> None:
    namer = WindowEngine("attribution")
    detector = Network(bundle_of(detection_document()), NumpyEngine())
    made = scorer(detector, window_network(namer))
    blocks = [block("a", i, level=level) for i, level in enumerate(LEVELS)]
    first, second = scores([r for b in blocks for r in made.process([b])])
    for score, start in ((first, 0), (second, HOP_SAMPLES)):
        assert score.attribution is not None
        assert isinstance(score.attribution.technology, Label)
        window = audio(blocks)[start : start + 6 * HOP_SAMPLES]
        np.testing.assert_array_equal(namer.heard[start // HOP_SAMPLES], window)


def test_a_short_leg_is_attributed_too() -> None:
    namer = WindowEngine("attribution")
    detector = Network(bundle_of(detection_document()), NumpyEngine())
    made = scorer(detector, window_network(namer))
    for i in range(3):
        made.process([block("a", i)])
    (rest,) = scores(made.close_leg("a"))
    assert rest.attribution is not None
    assert not namer.heard[0][3 * HOP_SAMPLES :].any()


def test_window_peak_brings_every_window_to_full_scale_and_a_silent_one_nowhere() -> None:
    engine = WindowEngine()
    network = window_network(engine, "window_peak")
    quiet = [{"samples": np.full(HOP_SAMPLES, -0.01, np.float32)}] * 2
    silent = [{"samples": np.zeros(HOP_SAMPLES, np.float32)}] * 6
    network.windows([quiet, silent])
    assert engine.heard[0].min() == pytest.approx(-1.0)
    assert not engine.heard[1].any()


def test_a_running_call_goes_on_when_windows_take_the_place_of_hops() -> None:
    rig = Rig()
    rig.feed(block("a", i) for i in range(7))
    engine = WindowEngine()
    rig.scorer.replace_models(Models(window_network(engine)))
    (score,) = scores(rig.feed(block("a", i) for i in range(7, 13)))
    assert score.rejected is None
    np.testing.assert_array_equal(engine.heard[0], audio([block("a", i) for i in range(7, 13)]))
