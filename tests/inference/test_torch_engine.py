"""The torch engine on the CPU, against onnxruntime: on hand-made graphs and on every bundle.

On CUDA it has not run; the graph is the same code there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamguard.errors import BundleError, EngineError
from streamguard.inference.bundle import Bundle, find_bundle, load_bundle
from streamguard.inference.engine import EngineTarget, GpuOptions
from streamguard.inference.engines import open_engine
from streamguard.resources import packaged_bundles

torch = pytest.importorskip("torch", reason="needs torch (extra 'train')")

from streamguard.inference.torch_engine import TorchEngine  # noqa: E402  # only after the check
from streamguard.inference.torch_graph import TorchGraph, UnknownOperatorError  # noqa: E402  # same
from tests.inference import onnx_makers as graphs  # noqa: E402  # same
from tests.inference.test_ort import TARGET as ORT  # noqa: E402  # same
from tests.inference.test_ort import detector, samples  # noqa: E402  # same

pytestmark = pytest.mark.train
TARGET = EngineTarget("torch", "torch", "cpu", "fp32", 1, (1, 2, 4))
RNG = np.random.default_rng(3)

NOT_TRANSLATED = "gated_fusion"
"""Its descriptors sort and compare (Less, Where, TopK, CumSum): engines/README.md says so."""


def assert_same(bundle: Bundle, rows: int, tolerance: float = 1e-5) -> None:
    """Every graph of a bundle, within a share of the size of its answers."""
    ours, theirs = open_engine(bundle, TARGET), open_engine(bundle, ORT)
    choice = bundle.choose("fp32")
    for name in (choice.body, choice.head):
        if name is None:
            continue
        spec = bundle.manifest.graphs[name]
        given = {t.name: RNG.uniform(0.05, 0.5, (rows, *t.row)).astype("f4") for t in spec.inputs}
        a, b = ours.run(name, given), theirs.run(name, given)
        for tensor in spec.outputs:
            x, y = a[tensor.name], b[tensor.name]
            assert float(np.abs(x - y).max()) <= tolerance * max(1.0, float(np.abs(y).max())), name
    ours.close()
    theirs.close()


def test_a_bundle_with_an_operator_that_is_not_translated_is_refused_by_its_name() -> None:
    with pytest.raises(BundleError, match=r"hop_fp32: Less .* is not translated"):
        open_engine(load_bundle(find_bundle(NOT_TRANSLATED)), TARGET)


@pytest.mark.parametrize("name", [n for n in packaged_bundles() if n != NOT_TRANSLATED])
def test_a_packaged_bundle_says_the_same_in_torch_as_in_onnxruntime(name: str) -> None:
    assert_same(load_bundle(find_bundle(name)), rows=3)


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_padding_and_splitting_change_no_row(tmp_path: Path, rows: int) -> None:
    assert_same(detector(tmp_path, state=True), rows)


def test_the_memory_layout_of_matrix_units_changes_no_answer(tmp_path: Path) -> None:
    data = graphs.hop_graph()
    x = {"samples": torch.from_numpy(samples(2))}
    plain, other = TorchGraph(data)(x), TorchGraph(data, channels_last=True)(x)
    for name in plain:
        torch.testing.assert_close(plain[name], other[name], rtol=1e-5, atol=1e-3)


def test_an_operator_that_is_not_translated_is_named(tmp_path: Path) -> None:
    data = graphs._model(
        [graphs.onnx.helper.make_node("Softsign", ["sums"], ["logit"], name="odd")],
        [graphs._value("sums", 2)],
        [graphs._value("logit", 2)],
    )
    with pytest.raises(UnknownOperatorError, match=r"Softsign \(odd\)"):
        TorchGraph(data)
    with pytest.raises(BundleError, match=r"hop_fp32\.onnx: graphs\.hop_fp32: Softsign"):
        TorchEngine(detector(tmp_path, hop_fp32=data), TARGET)


def test_without_a_gpu_cuda_is_an_error_unless_a_fallback_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bundle = detector(tmp_path)
    gpu = GpuOptions(cuda_graphs=True)
    target = EngineTarget("torch", "torch", "cuda", "fp32", 1, (1, 2), gpu=gpu)
    with pytest.raises(EngineError, match="torch sees no CUDA device"):
        TorchEngine(bundle, target)
    allowed = EngineTarget("torch", "torch", "cuda", "fp32", 1, (1, 2), True, gpu)
    engine = TorchEngine(bundle, allowed)
    assert (engine.info.requested_provider, engine.info.provider) == ("cuda", "cpu")
    assert np.isfinite(engine.run("hop_fp32", {"samples": samples(1)})["sums"]).all()
    engine.close()


def test_a_device_number_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    target = EngineTarget("t", "torch", "cuda", "fp32", 1, (1,), gpu=GpuOptions(device_id=3))
    with pytest.raises(EngineError, match=r"gpu\.device_id: 3: there are 1"):
        TorchEngine(detector(tmp_path), target)
