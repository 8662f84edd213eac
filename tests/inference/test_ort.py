"""The onnxruntime engine on tiny graphs made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamguard.errors import BundleError, EngineError
from streamguard.inference.bundle import Bundle, load_bundle
from streamguard.inference.engine import EngineTarget
from streamguard.inference.network import Network
from streamguard.inference.ort import OrtEngine
from tests.inference import onnx_makers as graphs
from tests.inference.makers import CONTEXT, detection_document, write_bundle

if TYPE_CHECKING:
    import numpy.typing as npt

HOP = 8000
TARGET = EngineTarget("test", "onnxruntime", "CPUExecutionProvider", "fp32", 1, (1, 2, 4))
RNG = np.random.default_rng(7)


def detector(folder: Path, *, state: bool = False, **files: bytes) -> Bundle:
    contents = {
        "hop_fp32.onnx": graphs.hop_graph(state=state),
        "head_fp32.onnx": graphs.head_graph(),
    }
    contents |= {f"{name}.onnx": data for name, data in files.items()}
    return load_bundle(write_bundle(folder, detection_document(state=state), contents))


def window_detector(folder: Path, normalisation: str = "running_peak") -> Bundle:
    document = detection_document()
    document["normalisation"] = normalisation
    document["graphs"] = {
        "window_fp32": {
            "file": "window.onnx",
            "sha256": "0" * 64,
            "unit": "window",
            "inputs": [{"name": "samples", "dtype": "float32", "shape": ["batch", 6 * HOP]}],
            "outputs": [{"name": "logit", "dtype": "float32", "shape": ["batch", 1]}],
        }
    }
    return load_bundle(write_bundle(folder, document, {"window.onnx": graphs.window_graph()}))


def samples(rows: int) -> npt.NDArray[np.float32]:
    return RNG.normal(0, 0.5, (rows, CONTEXT + HOP)).astype(np.float32)


def test_asked_and_got_are_both_reported(tmp_path: Path) -> None:
    engine = OrtEngine(detector(tmp_path), TARGET)
    assert engine.info.requested_provider == engine.info.provider == "CPUExecutionProvider"
    assert engine.info.requested_precision == engine.info.precision == "fp32"
    assert engine.info.runtime_version.startswith("onnxruntime 1.")
    engine.close()


def test_a_provider_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    target = dataclasses.replace(TARGET, provider="CUDAExecutionProvider")
    with pytest.raises(EngineError, match="CUDAExecutionProvider is not available"):
        OrtEngine(detector(tmp_path), target)


def test_a_fallback_that_is_allowed_is_reported_as_such(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = dataclasses.replace(TARGET, provider="CUDAExecutionProvider", allow_fallback=True)
    engine = OrtEngine(detector(tmp_path), target)
    assert engine.info.requested_provider == "CUDAExecutionProvider"
    assert engine.info.provider == "CPUExecutionProvider"
    assert "falls back" in caplog.text
    engine.close()


def test_a_session_that_got_another_provider_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    everything = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
    target = dataclasses.replace(TARGET, provider="CUDAExecutionProvider")
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(EngineError, match="asked for CUDAExecutionProvider, got CPU"),
    ):
        OrtEngine(detector(tmp_path), target)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
def test_padding_and_splitting_a_batch_change_no_row(tmp_path: Path, rows: int) -> None:
    engine = OrtEngine(detector(tmp_path), TARGET)
    x = samples(rows)
    together = engine.run("hop_fp32", {"samples": x})
    assert together["sums"].shape == (rows, 2)
    for i in range(rows):
        alone = engine.run("hop_fp32", {"samples": x[i : i + 1]})
        np.testing.assert_allclose(together["sums"][i], alone["sums"][0], rtol=1e-5, atol=1e-3)
    engine.close()


def test_only_the_fixed_batch_sizes_reach_the_session(tmp_path: Path) -> None:
    engine = OrtEngine(detector(tmp_path), TARGET)
    seen: list[int] = []

    class Spy:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, names: list[str], inputs: dict[str, npt.NDArray[np.float32]]) -> Any:
            seen.append(len(inputs["samples"]))
            return self.session.run(names, inputs)

    engine._sessions["hop_fp32"] = Spy(engine._sessions["hop_fp32"])
    engine.run("hop_fp32", {"samples": samples(7)})
    assert seen == [4, 4]
    engine.close()


def test_inputs_that_do_not_fit_are_named(tmp_path: Path) -> None:
    engine = OrtEngine(detector(tmp_path), TARGET)
    with pytest.raises(EngineError, match=r"hop_fp32\.samples"):
        engine.run("hop_fp32", {"samples": np.zeros((1, HOP), np.float32)})
    with pytest.raises(EngineError, match=r"hop_fp32\.samples"):
        engine.run("hop_fp32", {"samples": np.zeros((1, CONTEXT + HOP))})  # type: ignore[dict-item]  # float64
    with pytest.raises(EngineError, match="wants"):
        engine.run("hop_fp32", {"audio": samples(1)})
    with pytest.raises(EngineError, match="no graph"):
        engine.run("hop_int8", {"samples": samples(1)})
    engine.close()


def test_a_graph_with_other_tensors_than_declared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"graphs\.hop_fp32\.inputs: declared"):
        OrtEngine(detector(tmp_path / "a", hop_fp32=graphs.hop_graph(state=True)), TARGET)
    document = detection_document(left_context=CONTEXT + 1)
    files = {"hop_fp32.onnx": graphs.hop_graph(), "head_fp32.onnx": graphs.head_graph()}
    bundle = load_bundle(write_bundle(tmp_path / "b", document, files))
    with pytest.raises(BundleError, match=r"inputs\.samples\.shape: declared"):
        OrtEngine(bundle, TARGET)


def test_a_graph_that_the_runtime_refuses_is_a_bundle_error(tmp_path: Path) -> None:
    stub = bytes([0x3A, 0x00])
    with pytest.raises(BundleError, match="the runtime refuses it"):
        OrtEngine(detector(tmp_path, hop_fp32=stub), TARGET)


def test_external_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"head_fp32\.onnx.*other files"):
        detector(tmp_path, head_fp32=graphs.external_graph())


def test_warm_up_runs_every_graph_in_every_size(tmp_path: Path) -> None:
    engine = OrtEngine(detector(tmp_path, state=True), TARGET)
    engine.warm_up()
    engine.close()


def test_six_hops_with_left_context_equal_the_whole_window(tmp_path: Path) -> None:
    bundle = detector(tmp_path / "hop")
    network = Network(bundle, OrtEngine(bundle, TARGET))
    x = RNG.normal(0, 0.5, CONTEXT + 6 * HOP).astype(np.float32)
    hops = [x[k * HOP : k * HOP + CONTEXT + HOP] for k in range(6)]
    outputs = network.hops(hops, [{}] * 6)
    by_hops = network.windows([[out.parts for out in outputs]])[0]["logit"]

    import onnxruntime

    reference = onnxruntime.InferenceSession(
        graphs.window_graph(CONTEXT), providers=["CPUExecutionProvider"]
    )
    (whole,) = reference.run(["logit"], {"samples": x[None]})
    assert abs(float(whole[0, 0])) > 1e-3
    np.testing.assert_allclose(by_hops, whole[0], atol=1e-4)
    # Without true context it is another network: the test could fail.
    blind = [np.concatenate([np.zeros(CONTEXT, np.float32), hop[CONTEXT:]]) for hop in hops]
    other = network.windows([[out.parts for out in network.hops(blind, [{}] * 6)]])[0]["logit"]
    assert not np.allclose(other, whole[0], atol=1e-6, rtol=0)
    network.close()


def test_state_comes_out_of_one_hop_and_goes_into_the_next(tmp_path: Path) -> None:
    bundle = detector(tmp_path, state=True)
    network = Network(bundle, OrtEngine(bundle, TARGET))
    assert network.has_state
    x = samples(1)[0]
    first = network.hops([x], [network.fresh_state()])[0]
    second = network.hops([x], [first.state])[0]
    assert float(first.state["state_in"][0]) == 100.0
    assert float(second.state["state_in"][0]) == 200.0
    np.testing.assert_allclose(second.parts["sums"] - first.parts["sums"], 100.0, atol=1e-2)
    network.close()


def test_a_window_graph_gets_six_hops_in_a_row(tmp_path: Path) -> None:
    bundle = window_detector(tmp_path)
    network = Network(bundle, OrtEngine(bundle, TARGET))
    assert network.whole_window
    assert network.left_context == 0
    x = RNG.normal(0, 0.1, 6 * HOP).astype(np.float32)
    parts = [out.parts for out in network.hops(list(x.reshape(6, HOP)), [{}] * 6)]
    direct = network.engine.run("window_fp32", {"samples": x[None]})["logit"]
    np.testing.assert_allclose(network.windows([parts])[0]["logit"], direct[0], atol=1e-6)
    network.close()


def test_window_peak_divides_by_the_peak_of_the_window(tmp_path: Path) -> None:
    bundle = window_detector(tmp_path, "window_peak")
    network = Network(bundle, OrtEngine(bundle, TARGET))
    x = RNG.normal(0, 0.1, 6 * HOP).astype(np.float32)
    loud, quiet = (
        [out.parts for out in network.hops(list((gain * x).reshape(6, HOP)), [{}] * 6)]
        for gain in (np.float32(1.0), np.float32(0.01))
    )
    a, b = (float(row["logit"][0]) for row in network.windows([loud, quiet]))
    assert a == pytest.approx(b, abs=1e-5)
    network.close()
